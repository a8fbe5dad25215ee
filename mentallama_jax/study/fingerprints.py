"""What steps read and leave behind, as hashes: data, models, results, and the code of the package."""

import ast
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.files import is_temporary, write_json
from mentallama_jax.foreign import parse_json, reading
from mentallama_jax.storage import as_path, file_sizes, is_remote

_PACKAGE = Path(__file__).resolve().parents[1]
_ROOT = _PACKAGE.name
_SPLITS = ("train", "val", "test")
_STILL_WARM = 2.0
"""Seconds after a change in which another one may leave a file's time as it is: such a hash is not kept."""


class FileHashes:
    """SHA-256 of files, computed again only where size or times of a file changed.

    The time of the last change of the file's entry (`ctime`) is one of them: no program can set it back, as copies that
    keep times do with the other one.
    """

    def __init__(self, kept: Path) -> None:
        """Read what an earlier run kept in the file `kept`."""
        self._path = kept
        self._known: dict[str, list[Any]] = {}
        self._changed = False
        with suppress(UserError, OSError), reading(kept, "JSON"):
            value = parse_json(kept.read_bytes(), kept)
            self._known = value if isinstance(value, dict) else {}

    def of_file(self, path: Path) -> str:
        """The hash of one file.

        Raises:
            OSError: it cannot be read.
        """
        name, found = str(path.absolute()), path.stat()
        stamp = [found.st_size, found.st_mtime_ns, found.st_ctime_ns]
        known = self._known.get(name)
        if isinstance(known, list) and known[:-1] == stamp:
            return str(known[-1])
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if time.time() - max(found.st_mtime, found.st_ctime) > _STILL_WARM:
            self._known[name] = [*stamp, digest]
            self._changed = True
        return digest

    def of_place(self, path: Path) -> str | None:
        """The hash of a file, or of all files below a folder with their names; None where nothing is there."""
        if path.is_dir():
            lines = [f"{each.relative_to(path)} {self.of_file(each)}" for each in _files(path)]
            return digest_of(lines) if lines else None
        return self.of_file(path) if path.is_file() else None

    def of_source(self, text: str) -> str:
        """The fingerprint of what a config names: data, a model, a file, here or elsewhere.

        Of what is not on this machine's disk it is the name, and on a bucket names and sizes of the files.
        """
        place, _, split = text.rpartition(":")
        place = place if place and split in _SPLITS else text
        if is_remote(place):
            with suppress(UserError, FileNotFoundError):
                return digest_of(f"{name} {size}" for name, size in sorted(file_sizes(as_path(place)).items()))
            return place
        if place.startswith("package:"):
            return _package(place.partition(":")[2])
        here = Path(place).expanduser()
        return (self.of_place(here) if here.exists() else None) or place

    def keep(self) -> None:
        """Write the hashes for the next run."""
        if self._changed:
            write_json(self._path, self._known)
            self._changed = False


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder in the order of their names; those that are being written are none."""
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not is_temporary(name))
        for name in sorted(names):
            path = Path(place) / name
            if not is_temporary(name) and path.is_file():
                yield path


def digest_of(value: Iterable[str] | Mapping[str, Any]) -> str:
    """The SHA-256 of some lines, or of a JSON value."""
    text = json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else "\n".join(value)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


@cache
def _package(name: str) -> str:
    """The version of an installed package, and names and sizes of its files."""
    lines = [name]
    with suppress(PackageNotFoundError):
        lines.append(version(name.replace("_", "-")))
    with suppress(ImportError, ValueError):
        spec = find_spec(name)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            lines += [f"{each.relative_to(folder)} {each.stat().st_size}" for each in _files(Path(folder))]
    return digest_of(line for line in lines if "__pycache__" not in line)


@cache
def code_of(entry: str) -> str:
    """The hash of a module of the package and of all that it imports in it, with the data files beside them."""
    files = {_module_file(name) for name in modules_of(entry)}
    folders = {path.parent for path in files} - {_PACKAGE}
    beside = {each for folder in folders for each in _data_files(folder)}
    lines = [f"{path.relative_to(_PACKAGE)} {_content(path)}" for path in sorted(files | beside)]
    return digest_of(lines)


def modules_of(entry: str) -> set[str]:
    """A module of the package and all that it imports in it, with the packages that they are in."""
    graph = _imports()
    reached, todo = set(), [entry]
    while todo:
        name = todo.pop()
        if name in graph and name not in reached:
            reached.add(name)
            todo += [*graph[name], name.rpartition(".")[0]]
    return reached


@cache
def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _data_files(folder: Path) -> Iterator[Path]:
    """Files beside modules that are no modules: tables, templates, the sample."""
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc", ".md") and "__pycache__" not in path.parts:
            yield path


def _module_file(name: str) -> Path:
    inner = _PACKAGE.joinpath(*name.split(".")[1:])
    return inner / "__init__.py" if inner.is_dir() else inner.with_suffix(".py")


@cache
def _imports() -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports, late imports among them.

    The package's own module is none: it is in front of all of them, and names of what others may ask of it.
    """
    names = {name: path for path in _PACKAGE.rglob("*.py") if (name := _module_name(path)) != _ROOT}
    return {name: _imported(path.read_bytes(), names) for name, path in names.items()}


def _module_name(path: Path) -> str:
    return ".".join((_ROOT, *path.relative_to(_PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def _imported(source: bytes, known: Mapping[str, Path]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name in known}
