"""Which folders below `checkpoints/` are checkpoints, and whether their files are what was written.

A checkpoint is the folder `00000120` of its step. Its `manifest.json` is written last and lists every file with its
size and its checksum, and ends with a checksum of itself. Only folders whose names this package makes are ever
removed. A manifest that cannot be read now stops the reader: the checkpoint may be the only one.
"""

import hashlib
import json
import os
import re
import shutil
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.files import write_json
from mentallama_jax.foreign import parse_json, shown
from mentallama_jax.storage import AnyPath, RemotePath, file_sizes
from mentallama_jax.training.run.disk import naming

MANIFEST = "manifest.json"
LARGEST_STEP = 10**9
"""No run has more updates, so a manifest that says so is wrong."""

_FOLDER = re.compile(r"[0-9]{8,10}", re.ASCII)
_UNFINISHED = re.compile(r"[0-9]{8,10}\.orbax-checkpoint-tmp[-.0-9]*", re.ASCII)  # orbax's name until all is written
_BLOCK = 1 << 22
_THREADS = 4
_OWN_SUM = "crc32_of_the_rest"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes:
        path: its folder.
        step: updates done.
        scores: by metric; empty until it is evaluated.
        data_state: where the batches go on; None in those of older versions, for which the step says it.
    """

    path: AnyPath
    step: int
    scores: dict[str, float]
    data_state: dict[str, Any] | None = None


def folder_name(step: int) -> str:
    """The name of the folder of a checkpoint."""
    return f"{step:08d}"


def complete_checkpoints(directory: AnyPath) -> list[Checkpoint]:
    """The checkpoints in a folder that have a manifest, oldest first; `damage` tells whether their files are whole.

    Raises:
        UserError: a manifest cannot be read, or contradicts its folder.
    """
    found = []
    for path in own_folders(directory):
        if _FOLDER.fullmatch(path.name) and (manifest := read_manifest(path)) is not None:
            found.append(Checkpoint(path, manifest["step"], manifest["scores"], manifest.get("data")))
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def own_folders(directory: AnyPath) -> Iterator[AnyPath]:
    """The folders that this package makes below `checkpoints/`, complete or not. All else there is the user's."""
    if directory.is_dir():
        own = [path for path in directory.iterdir() if _FOLDER.fullmatch(path.name) or _UNFINISHED.fullmatch(path.name)]
        yield from sorted((path for path in own if path.is_dir()), key=lambda path: path.name)


def read_manifest(path: AnyPath) -> dict[str, Any] | None:
    """The manifest of the checkpoint folder `path`; None where it has none, as the save was cut off.

    Raises:
        UserError: it is there and cannot be read, or does not describe this folder.
    """
    place = path / MANIFEST
    try:
        manifest = parse_json(place.read_bytes(), place)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{place}: cannot be read ({error.strerror}); {_CURE}") from None
    except UserError as error:
        raise UserError(f"{error}; {_CURE}") from None
    if problem := _problem(manifest, path.name):
        raise UserError(f"{place}: {problem}; {_CURE}")
    return dict(manifest)


_CURE = "nothing is removed: mend it, or move that checkpoint out of the folder, and run again"


def write_manifest(path: AnyPath, manifest: dict[str, Any]) -> None:
    """Make the folder `path` a checkpoint, or replace its manifest."""
    content = {key: value for key, value in manifest.items() if key != _OWN_SUM}
    with naming(path / MANIFEST):
        write_json(path / MANIFEST, content | {_OWN_SUM: _sum_of(content)})


def file_checksums(path: AnyPath, names: Iterable[str]) -> dict[str, str]:
    """A checksum of each file below a folder: CRC-32, or what the service of a bucket tells of its objects.

    Raises:
        OSError, UserError: a file cannot be read.
    """
    if isinstance(path, RemotePath):
        facts = path.facts()
        return {name: _remote_checksum(path / name, facts[name]) for name in names}
    with ThreadPoolExecutor(_THREADS) as threads:  # reading and zlib both leave the interpreter's lock
        wanted = list(names)
        return dict(zip(wanted, threads.map(lambda name: _local_checksum(path / name), wanted), strict=True))


def damage(
    checkpoint: Checkpoint,
    parts: Sequence[str] = ("",),
    say: Callable[[str], None] | None = None,
    share: tuple[int, int] = (0, 1),
) -> str | None:
    """What is wrong with the files of a checkpoint, compared with its manifest; None where they are whole.

    Args:
        checkpoint: the checkpoint.
        parts: leading parts of the names of the files of which checksums are compared; all by default.
        say: is told where the manifest has no checksums, as versions before 0.2 wrote none.
        share: look at the checksum of every n-th file from the i-th on, as (i, n): several processes share the work.

    Raises:
        UserError: a file is there and cannot be read now.
    """
    manifest = read_manifest(checkpoint.path)
    if manifest is None:
        return f"{MANIFEST} is missing"
    there = file_sizes(checkpoint.path)
    for name, size in manifest["files"].items():
        if name not in there:
            return f"{name} is missing"
        if there[name] != size:
            return f"{name} has {there[name]} of {size} bytes"
    if "checksums" not in manifest:
        if say is not None:
            say(f"{checkpoint.path}: no checksums (an older version wrote it); only sizes are compared")
        return None
    wanted = sorted(name for name in manifest["files"] if name.startswith(tuple(parts)))
    names = wanted[share[0] :: share[1]]
    try:
        found = file_checksums(checkpoint.path, names)
    except OSError as error:
        name = error.filename or checkpoint.path
        raise UserError(f"{name}: cannot be read ({error.strerror or error}); {_CURE}") from None
    wrong = [name for name in names if found[name] != manifest["checksums"][name]]
    return f"{wrong[0]} is not what was written (another checksum)" if wrong else None


def contents_fingerprint(checkpoint: Checkpoint) -> str:
    """SHA-256 of what the manifest says of the checkpoint's files; its scores, which come later, do not count.

    Raises:
        UserError: the manifest is gone.
    """
    manifest = read_manifest(checkpoint.path)
    if manifest is None:
        raise UserError(f"{checkpoint.path}: has no manifest any more; choose another checkpoint")
    contents = [manifest["step"], manifest["files"], manifest.get("checksums")]
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def has_checksums(checkpoint: Checkpoint) -> bool:
    """Whether the manifest lists checksums."""
    return "checksums" in (read_manifest(checkpoint.path) or {})


def delete(path: AnyPath) -> None:
    """Remove a checkpoint. The manifest goes first, so that what is left of a deletion cut off does not count."""
    (path / MANIFEST).unlink(missing_ok=True)
    remove(path)


def remove(path: AnyPath) -> None:
    """Remove a folder of `own_folders` as far as that is possible."""
    if isinstance(path, RemotePath):
        with suppress(UserError):
            path.rmtree()
    else:
        shutil.rmtree(path, ignore_errors=True)


def tell(line: str) -> None:
    """Say a line where no run listens."""
    print(line, file=sys.stderr)


def _problem(manifest: Any, name: str) -> str | None:
    """What is wrong with the content of the manifest of the folder `name`."""
    if not isinstance(manifest, dict):
        return "not a manifest (no JSON object)"
    if _OWN_SUM in manifest:
        rest = {key: value for key, value in manifest.items() if key != _OWN_SUM}
        if manifest[_OWN_SUM] != _sum_of(rest):
            return "it was altered (its checksum is another)"
    step, files, scores = manifest.get("step"), manifest.get("files"), manifest.get("scores")
    if type(step) is not int or not 0 < step <= LARGEST_STEP:
        return f"its step is {shown(step)}"
    if folder_name(step) != name:
        return f"it is of step {step}, not of this folder"
    if not isinstance(files, dict) or not all(type(size) is int and size >= 0 for size in files.values()):
        return "its list of files is no list of sizes"
    if unsafe := [file for file in files if file.startswith("/") or ".." in file.split("/")]:
        return f"it names a file outside of the folder ({shown(unsafe[0])})"
    if not isinstance(scores, dict) or not all(type(score) in (int, float) for score in scores.values()):
        return "its scores are no numbers"
    if not isinstance(manifest.get("data"), dict | None):
        return "its place in the data is no JSON object"
    sums = manifest.get("checksums")
    if sums is not None and not (isinstance(sums, dict) and sums.keys() == files.keys()):
        return "its checksums are of other files than it lists"
    return None


def _sum_of(content: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"


def _local_checksum(path: Path) -> str:
    value = 0
    try:
        with path.open("rb", buffering=0) as stream:
            block = memoryview(bytearray(_BLOCK))
            while count := stream.readinto(block):
                value = zlib.crc32(block[:count], value)
    except OSError as error:
        error.filename = error.filename or os.fspath(path)
        raise
    return f"crc32:{value:08x}"


def _remote_checksum(path: RemotePath, facts: dict[str, Any]) -> str:
    """What the service computed itself: an object is not altered there without a new one."""
    for key in ("md5Hash", "crc32c"):
        if key in facts:
            return f"{key}:{facts[key]}"
    return f"crc32:{zlib.crc32(path.read_bytes()):08x}"
