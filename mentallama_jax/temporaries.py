"""Temporary names beside a target that is being written: made, recognised, and removed once their writer is gone."""

import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_FORM = re.compile(
    r"\.(?P<target>.+)\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<birth>\d+)-[0-9a-f]{8}\.mentallama\.tmp", re.DOTALL
)
_LONGEST_TARGET = 120
_OLD = 24 * 3600.0
_in_use: set[str] = set()


def is_temporary(name: str) -> bool:
    """Whether a file or folder name is a temporary one that this program makes, finished or not."""
    return _FORM.fullmatch(name) is not None


def new_temporary(target: Path) -> Path:
    """A name beside `target` that nothing has yet. It says for which target, and which process of which host writes."""
    pid = os.getpid()
    writer = f"{_host()}-{pid}-{_birth(pid) or 0}-{secrets.token_hex(4)}"
    return target.parent / f".{_label(target.name)}.{writer}.mentallama.tmp"


@contextmanager
def writing(temporary: Path) -> Iterator[None]:
    """Mark a temporary as in use by this process, so that no other thread of it sweeps it."""
    _in_use.add(temporary.name)
    try:
        yield
    finally:
        _in_use.discard(temporary.name)


def sweep(folder: Path, target: str | None = None) -> list[Path]:
    """Remove temporaries of which the writer is dead, or which nobody has touched for a day.

    Args:
        folder: where to look; not below it.
        target: remove only the temporaries of this name in the folder, instead of all.

    Returns:
        What was removed.
    """
    removed: list[Path] = []
    label = None if target is None else _label(target)
    try:
        names = os.listdir(folder)
    except OSError:
        return removed
    for name in names:
        found = _FORM.fullmatch(name) if name.endswith(".mentallama.tmp") else None
        if found is None or (label is not None and found["target"] != label) or name in _in_use:
            continue
        if _is_dead(found["host"], int(found["pid"]), int(found["birth"])) or _is_old(folder / name):
            _remove(folder / name)
            removed.append(folder / name)
    return removed


def _label(name: str) -> str:
    """The name of a target as temporaries carry it: cut where it would make their names too long."""
    content = os.fsencode(name)
    if len(content) <= _LONGEST_TARGET:
        return name
    return f"{content[:_LONGEST_TARGET].decode('utf-8', 'ignore')}~{hashlib.sha256(content).hexdigest()[:8]}"


@cache
def _host() -> str:
    """What identifies the processes that this one can ask about: the host since its start, and the container."""
    facts = [socket.gethostname()]
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii"))
    with suppress(OSError):
        facts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(facts).encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _birth(pid: int) -> int | None:
    """When a process began, in ticks since the start of the host; 0 where that is unknown, None where it is dead."""
    try:
        state, *facts = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
        return None if state in (b"Z", b"X") else int(facts[18])
    except (OSError, ValueError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except OSError:
        return 0
    return 0


def _is_dead(host: str, pid: int, birth: int) -> bool:
    if host != _host():
        return False
    if pid == os.getpid():
        return True  # ours, and not in use: left by a process before this one that had the same number
    now = _birth(pid)
    return now is None or (0 not in (now, birth) and now != birth)


def _is_old(path: Path) -> bool:
    """Whether nothing in it has changed for a day."""
    try:
        times = [path.lstat().st_mtime]
        if path.is_dir() and not path.is_symlink():
            times += [inner.lstat().st_mtime for inner in path.rglob("*")]
    except OSError:
        return False
    return time.time() - max(times) > _OLD


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
