"""Keeping the memory that a CPU step frees, for the next step to use."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # mallopt's names for them, from malloc.h


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
