"""Reading and writing files so that nothing is ever left half-written.

A new file or folder is made under a temporary name beside its target and renamed onto it. A program that is killed
leaves that temporary behind; the next write to the same target removes it (see `sweep`).
"""

import errno
import fcntl
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import parse_json
from mentallama_jax.storage import AnyPath, RemotePath
from mentallama_jax.temporaries import is_temporary, new_temporary, sweep, writing

__all__ = ["atomic_folder", "atomic_open", "is_temporary", "read_jsonl", "regular_file", "sweep"]

_LONGEST_LINE = 1 << 28
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
_KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS, errno.ESTALE)


@contextmanager
def atomic_open(path: AnyPath, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary neighbour of `path` for writing and rename it onto `path` on success.

    A symbolic link stays, and its target is replaced. A pipe or a device is written to directly. On a bucket a
    temporary file here becomes the object. On any exception a file at `path` is untouched and the temporary file is
    removed.

    Args:
        path: the file to write. Its folder is made if it is missing.
        mode: "w" (UTF-8 text) or "wb".

    Raises:
        UserError: `path` is a folder.
    """
    encoding = None if "b" in mode else "utf-8"
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory() as folder, _naming(path, folder):
            with atomic_open(Path(folder) / "object", mode) as stream:
                yield stream
            path.upload(Path(folder) / "object")
        return
    path = Path(path)
    target = _followed(path)
    if isinstance(target, int):
        sys.stdout.flush()
        with os.fdopen(os.dup(target), mode, encoding=encoding) as stream:
            yield stream
        return
    existing = _mode_of(target)
    if existing is not None and stat.S_ISDIR(existing):
        raise UserError(f"{path}: is a folder; name a file to write")
    if existing is not None and not stat.S_ISREG(existing):
        with _naming(path), target.open(mode, encoding=encoding) as stream:
            yield stream
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent, target.name)
    temporary = new_temporary(target)
    with writing(temporary), _naming(path, temporary):
        try:
            descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_CLOEXEC", 0), 0o666)
            with os.fdopen(descriptor, mode, encoding=encoding) as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            _keep_rights(existing, temporary)
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary neighbour of `path` to fill, renamed onto `path` on success and removed otherwise.

    Raises:
        UserError: `path` exists already and is not an empty folder, or another program filled it in the meantime.
    """
    path = Path(path)
    target = _followed(path)
    if isinstance(target, int) or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise UserError(f"{path}: exists already; choose another folder or remove it first")
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent, target.name)
    temporary = new_temporary(target)
    with writing(temporary), _naming(path, temporary):
        try:
            temporary.mkdir()
            yield temporary
            _keep_rights(_mode_of(target), temporary)
            _move_folder(temporary, target, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _move_folder(temporary: Path, target: Path, path: Path) -> None:
    try:
        os.replace(temporary, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise UserError(
            f"{path}: another program wrote there at the same time and was done first; its files are kept, and what "
            "was made here is removed. Choose another folder"
        ) from None


def _followed(path: Path) -> Path | int:
    """Where links lead from `path`; the number of a stream of this process, as for `/dev/stdout`."""
    place = str(path)
    for _ in range(40):
        folder = os.path.realpath(os.path.dirname(place) or ".")
        found = re.fullmatch(rf"(?:/proc/(?:self|{os.getpid()})(?:/task/\d+)?/fd|/dev/fd)/(\d+)", _join(folder, place))
        if found:
            return int(found[1])
        if not os.path.islink(place):
            return Path(place)
        place = os.path.join(folder, os.readlink(place))
    raise UserError(f"{path}: its symbolic links go in a circle")


def _join(folder: str, place: str) -> str:
    return os.path.join(folder, os.path.basename(place))


def _mode_of(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _keep_rights(mode: int | None, new: Path) -> None:
    """Give what replaces something the rights of the old one. Otherwise the umask has decided."""
    if mode is not None:
        with suppress(OSError):  # some file systems have no rights
            new.chmod(stat.S_IMODE(mode))


@contextmanager
def _naming(path: AnyPath, temporary: str | Path | None = None) -> Iterator[None]:
    """Let an error of the disk name `path`, instead of nothing or of the temporary."""
    try:
        yield
    except OSError as error:
        name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else None
        if name is None and error.errno in _OF_THE_DISK:
            error.filename = str(path)
        elif name is not None and temporary is not None and name.startswith(str(temporary)):
            rest = name.removeprefix(str(temporary)) if not isinstance(path, RemotePath) else ""
            error.filename, error.filename2 = f"{path}{rest}", None
        raise


def regular_file(path: AnyPath) -> AnyPath:
    """`path`, if it is a file whose bytes can be read to an end, behind links or not.

    Raises:
        UserError: it is missing, a folder, a pipe, a socket or a device.
    """
    if isinstance(path, RemotePath):
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        return path
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not stat.S_ISREG(mode):
        raise UserError(f"{path}: is {_KINDS.get(stat.S_IFMT(mode), 'a device')}, not a file")
    return path


def write_json(path: AnyPath, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, atomically.

    Raises:
        UserError: it holds a number that is not finite or text that is not Unicode.
    """
    text = _json(path, value, indent=2)
    with atomic_open(path) as stream:
        stream.write(text + "\n")


def write_jsonl(path: AnyPath, rows: Iterable[dict[str, Any]]) -> int:
    """Write one JSON object a line, atomically; return how many."""
    count = 0
    with atomic_open(path) as stream:
        for row in rows:
            count += 1
            stream.write(_json(f"{path}, line {count}", row) + "\n")
    return count


def _json(place: object, value: Any, indent: int | None = None) -> str:
    try:
        text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"{place}: cannot be written, as a text in it holds half of a surrogate pair") from None
    except ValueError:
        key, number = next(_not_finite(value, ""), ("", "a value"))
        raise UserError(f"{place}: {key or 'the value'} is {number}, which cannot be written as JSON") from None
    return text


def _not_finite(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        yield key, str(value)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _not_finite(inner, f"{key}.{name}".removeprefix("."))
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from _not_finite(inner, f"{key}[{place}]")


def read_jsonl(path: AnyPath, *, lenient: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSONL file.

    Args:
        path: the file.
        lenient: take `NaN`, `Infinity` and halves of surrogate pairs. The caller has to check each value.

    Raises:
        UserError: the file is missing or not UTF-8, or a line is not a JSON object (file and line named).
    """
    regular_file(path)
    with path.open("rb") as stream:
        for number, line in enumerate(iter(lambda: stream.readline(_LONGEST_LINE), b""), start=1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            if len(line) == _LONGEST_LINE:
                raise UserError(f"{place}: longer than {_LONGEST_LINE >> 20} MiB; a JSONL file has one object a line")
            row = parse_json(line.strip(), place, allow_nan=lenient, allow_surrogates=lenient, may_hold_posts=True)
            if not isinstance(row, dict):
                raise UserError(f"{place}: expected a JSON object, found {type(row).__name__}")
            yield row


def lock_file(stream: IO[Any]) -> bool:
    """Lock an open file for this process alone; False where the file system has no locks (Lustre, some NFS).

    Raises:
        BlockingIOError: another process holds it.
        OSError: the file system fails otherwise.
    """
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True
