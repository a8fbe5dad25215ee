"""A predictions file that survives being stopped: rows are appended batch by batch, and ordered at the end.

Several processes answer together, and the first of them has the file: it tells the others which rows are left.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from io import FileIO
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from numpy.typing import NDArray

from mentallama_jax.errors import UserError
from mentallama_jax.files import lock_file, regular_file, write_jsonl
from mentallama_jax.foreign import parse_json, reading, shown, shown_cell
from mentallama_jax.imhi.predictions import Prediction, parse_prediction
from mentallama_jax.imhi.records import Record
from mentallama_jax.models.module import Params
from mentallama_jax.parallel.processes import first_tells, writes_files

MAY_DIFFER = ("model", "revision", "adapter", "sources", "shots_from", "versions")
"""Keys of the signature that going on does not compare: what they name is compared by its fingerprint."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_SHOWN_OF_A_DIGEST = 8
_LONGEST_VALUE = 80
_SAMPLE = 4096
"""Numbers of each tensor that the fingerprint of weights looks at."""


def signature_path(predictions: Path) -> Path:
    """The file beside the predictions that says how they were made."""
    return predictions.with_suffix(".meta.json")


def write_predictions(
    path: Path,
    records: Sequence[Record],
    signature: Mapping[str, Any],
    answer: Callable[[list[Record]], Iterator[list[Prediction]]],
    on_batch: Callable[[list[Prediction]], None] = lambda rows: None,
) -> list[Prediction]:
    """Answer the records that `path` does not hold yet; at the end it holds all, in the order of `records`.

    Each batch is on disk before the next begins. A last line that was cut off is dropped and its record answered
    again. All processes of several call this, with the same records; the first alone touches files.

    Args:
        path: ends in `.jsonl`; `signature_path(path)` is written beside it.
        records: all that the file is to answer, with unique ids.
        signature: all that decides the answers, as plain JSON values; versions and names besides.
        answer: yields batches of predictions for records.
        on_batch: is told of each batch once it is on disk.

    Returns:
        All predictions in the order of `records`; of several processes only the first has those that were there.

    Raises:
        UserError: the file was made with another signature or is not one of ours, or another process writes it.
    """
    path = Path(path)
    if path.suffix != ".jsonl":
        raise UserError(f"{path}: predictions are written to a file that ends in .jsonl")
    wanted = {record.id: record for record in records}
    if len(wanted) != len(records):
        raise UserError(
            f"{path}: {len(records) - len(wanted)} of the records to answer repeat an id; ids must be unique"
        )
    if not writes_files():
        left = _agreed(records, ())
        rows = [row for batch in (answer(left) if left else ()) for row in batch]
        found = {row.id: row for row in rows}
        return [found[record.id] for record in left]
    for place in (path, signature_path(path)):
        if place.exists():
            regular_file(place)
    if _holds_rows(path) and not signature_path(path).exists():
        raise UserError(
            f"{path}: exists without {signature_path(path).name}, which says how it was made; name another file"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        _check_signature(path, signature)
        done = _read_done(path)
        if strangers := done.keys() - wanted.keys():
            raise UserError(f"{path}: holds {len(strangers)} rows of other records; name another file")
        left = _agreed(records, done)
        if left:
            with path.open("ab", buffering=0) as stream:
                for rows in answer(left):
                    _append(stream, rows, path)
                    done |= {row.id: row for row in rows}
                    on_batch(rows)
        predictions = [done[record.id] for record in records]
        write_jsonl(path, (row.to_json() for row in predictions))
        return predictions


def _agreed(records: Sequence[Record], done: Container[str]) -> list[Record]:
    """The records that are left, on every process: process 0 says which are done."""
    left = np.array([record.id not in done for record in records], np.uint8)
    told = np.frombuffer(first_tells(left.tobytes()), np.uint8)
    return [record for record, missing in zip(records, told, strict=True) if missing]


def records_fingerprint(records: Sequence[Record]) -> str:
    """SHA-256 of what decides prompts and gold answers, in order; where records were read from does not count."""
    digest = hashlib.sha256()
    for record in records:
        values = asdict(record)
        del values["source"]
        digest.update(json.dumps(values, sort_keys=True).encode())
    for task in sorted({record.task for record in records if not record.task.is_shipped}, key=lambda task: task.name):
        digest.update(task.fingerprint.encode())
    return digest.hexdigest()


def params_fingerprint(params: Params) -> str:
    """SHA-256 of names, shapes, types and evenly spaced numbers of all parameters; [L, ...] arrays on any device."""
    digest = hashlib.sha256()
    for path, array in jax.tree_util.tree_leaves_with_path(params):
        digest.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        places = np.unravel_index(np.linspace(0, array.size - 1, min(array.size, _SAMPLE), dtype=np.int64), array.shape)
        digest.update(_numbers(array, places).astype(np.float32).tobytes())
    return digest.hexdigest()


def _numbers(array: jax.Array, places: tuple[NDArray[np.int64], ...]) -> NDArray[Any]:
    """The numbers at some places, whichever host holds them."""
    if array.is_fully_addressable:
        return np.asarray(array[places])
    assert isinstance(array.sharding, NamedSharding)
    whole = NamedSharding(array.sharding.mesh, PartitionSpec())
    return np.asarray(jax.jit(lambda x: x[places], out_shardings=whole)(array))


def _append(stream: FileIO, rows: Sequence[Prediction], path: Path) -> None:
    rest = memoryview("".join(row.to_line() for row in rows).encode())
    try:
        while rest:
            rest = rest[stream.write(rest) :]
        os.fsync(stream.fileno())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); the same command goes on from here") from None


def _holds_rows(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # The predictions file itself is replaced at the end, so the lock is held on the file beside it.
    with signature_path(path).open("a") as stream:
        try:
            lock_file(stream)  # where the file system has no locks, nothing tells whether another process writes
        except BlockingIOError:
            raise UserError(f"{path}: another process is writing it; wait for it, or name another file") from None
        yield


def _check_signature(path: Path, signature: Mapping[str, Any]) -> None:
    """Write the signature, or compare it with the one that the rows at hand were made with."""
    beside = signature_path(path)
    now = json.loads(json.dumps(signature))
    if _holds_rows(path):
        before = _read_signature(path)
        then, wanted = (
            dict(_flat({key: value for key, value in values.items() if key not in MAY_DIFFER}))
            for values in (before, now)
        )
        differences = [
            f"{_brief(key)} was {_brief(then.get(key))}, is {_brief(wanted.get(key))}"
            for key in sorted(then.keys() | wanted.keys())
            if then.get(key) != wanted.get(key)
        ]
        if differences:
            raise UserError(
                f"{path}: was begun with other settings ({'; '.join(differences)}); "
                "restore them to go on, or name another file"
            )
        return
    with beside.open("r+", encoding="utf-8") as stream:
        stream.truncate()
        json.dump(now, stream, indent=2, ensure_ascii=False)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())


def _read_signature(path: Path) -> dict[str, Any]:
    beside = signature_path(path)
    try:
        with reading(beside, "JSON"):
            before = parse_json(beside.read_bytes(), beside)
        if not isinstance(before, dict):
            raise UserError(f"{beside}: expected a JSON object, found {type(before).__name__}")
    except UserError as error:
        raise UserError(f"{error}; it is damaged, so {path.name} cannot be continued; name another file") from None
    return before


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting by its dotted key, so that a message shows what differs and no more."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _brief(value: Any) -> str:
    text = str(value)
    if _DIGEST.fullmatch(text):
        return f"{text[:_SHOWN_OF_A_DIGEST]}..."
    return text if text.isprintable() and len(text) <= _LONGEST_VALUE else shown(text, _LONGEST_VALUE)


def _read_done(path: Path) -> dict[str, Prediction]:
    """The rows at hand by id; a last line that was cut off is removed from the file."""
    if not path.exists():
        return {}
    done: dict[str, Prediction] = {}
    with path.open("r+b") as stream:
        whole = 0
        for number, line in enumerate(stream, start=1):
            if not line.endswith(b"\n"):
                stream.truncate(whole)
                break
            place = f"{path}, line {number}"
            try:
                row = parse_prediction(line, place)
            except UserError as error:
                what = str(error).removeprefix(f"{place}: ")
                raise UserError(f"{place}: not a prediction ({what}); name another file") from None
            if row.id in done:
                raise UserError(f"{place}: id {shown_cell(row.id)} stands in an earlier line too; name another file")
            done[row.id] = row
            whole += len(line)
    return done
