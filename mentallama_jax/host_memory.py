"""The memory of this machine: how much is left, and keeping what a CPU step frees for the next step to use."""

import ctypes
import sys
from pathlib import Path

import psutil

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # mallopt's names for them, from malloc.h

_CGROUP_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat", "inactive_file"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
        "total_inactive_file",
    ),
)


def available_memory() -> int:
    """Bytes that this process may still take: what the system has free, or its control group if that is less."""
    available = psutil.virtual_memory().available
    for limit_file, used_file, stat_file, cache_key in _CGROUP_LIMITS:
        try:
            limit, used = (int(Path(name).read_text().strip()) for name in (limit_file, used_file))
            stats = dict(line.split() for line in Path(stat_file).read_text().splitlines())
        except (OSError, ValueError):  # no such file, or "max": no limit
            continue
        available = min(available, max(limit - used + int(stats.get(cache_key, 0)), 0))
    return available


def keep_freed_memory() -> bool:
    """Make glibc's allocator keep what is freed instead of handing it back to the system.

    XLA on CPU allocates a program's temporaries anew at each call. Large blocks are mapped and unmapped each
    time by default, so that every step pays for gigabytes of fresh zeroed pages: about a fifth of the
    processor time of a 135M-parameter step. Call it before the first computation on CPU; it does nothing on
    other C libraries.

    Returns:
        True where the allocator took the settings.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # One arena, because the others fall back to mapping for blocks above 64 MB whatever the settings.
    settings = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))
    return all(mallopt(option, value) == 1 for option, value in settings)
