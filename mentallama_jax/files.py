"""Reading and writing files so that nothing is ever left half-written."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from mentallama_jax.errors import UserError
from mentallama_jax.storage import AnyPath, RemotePath


@contextmanager
def atomic_open(path: AnyPath, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary neighbour of `path` for writing and rename it onto `path` on success.

    On a bucket it is a temporary file, which becomes the object. `mode` is "w" (UTF-8 text) or "wb". On any exception
    `path` is untouched and the temporary file is removed.
    """
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory() as folder:
            with atomic_open(Path(folder) / "object", mode) as stream:
                yield stream
            path.upload(Path(folder) / "object")
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary neighbour of `path` to fill, renamed onto `path` on success and removed otherwise.

    Raises:
        UserError: `path` exists already and is not an empty folder.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path}: exists already; choose another folder or remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    try:
        yield temporary
        temporary.chmod(0o755)
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_json(path: AnyPath, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, atomically."""
    with atomic_open(path) as stream:
        json.dump(value, stream, indent=2, ensure_ascii=False)
        stream.write("\n")


def write_jsonl(path: AnyPath, rows: Iterable[dict[str, Any]]) -> int:
    """Write one JSON object a line, atomically; return how many."""
    count = 0
    with atomic_open(path) as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_jsonl(path: AnyPath) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSONL file.

    Raises:
        UserError: the file is missing or not UTF-8, or a line is not a JSON object (file and line named).
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (UnicodeDecodeError, json.JSONDecodeError) as error:
                raise UserError(f"{path}, line {number}: not a JSON object ({error})") from None
            if not isinstance(row, dict):
                raise UserError(f"{path}, line {number}: expected a JSON object, found {type(row).__name__}")
            yield row
