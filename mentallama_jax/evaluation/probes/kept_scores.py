"""Scores of variants on disk, kept by content while they are made, so that a stopped probe goes on where it was.

A line is one prompt: `key` (of the model, the question and the post), `sums` (label -> log-probability) and
`truncated`. No text stands in the file. Each batch is on disk before the next begins; a last line that was cut off is
dropped. All probes of a folder share the file, and so the scores of the posts themselves.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.probes.label_scores import LabelScores
from mentallama_jax.files import lock_file, regular_file
from mentallama_jax.foreign import parse_json
from mentallama_jax.imhi.records import Record

KEPT = "probe_scores.jsonl"


def content_key(model: str, record: Record) -> str:
    """What decides the scores: SHA-256 of the model's fingerprint, the question and the post."""
    task = record.task
    parts = [model, record.dataset, record.aspect, task.question, task.completion_prefix, record.post]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class KeptScores:
    """The scores in a file, by key. Use as a context manager: the file is locked inside."""

    def __init__(self, path: Path) -> None:
        """Name the file; it is opened where the context begins."""
        self._path = path
        self._stream: FileIO | None = None
        self._scores: dict[str, LabelScores] = {}

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            regular_file(self._path)
        self._stream = self._path.open("a+b", buffering=0)
        try:
            lock_file(self._stream)
            self._read()
        except BlockingIOError:
            self._stream.close()
            raise UserError(f"{self._path}: another probe is writing it; wait for it, or give another --out") from None
        except BaseException:
            self._stream.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._stream is not None
        self._stream.close()

    def __contains__(self, key: str) -> bool:
        return key in self._scores

    def __getitem__(self, key: str) -> LabelScores:
        return self._scores[key]

    def add(self, batch: Mapping[str, LabelScores]) -> None:
        """Write a batch, all of it or nothing that counts.

        Raises:
            UserError: the disk refuses it.
        """
        assert self._stream is not None
        lines = [
            json.dumps({"key": key, "sums": dict(scores.sums), "truncated": scores.truncated}, ensure_ascii=False)
            for key, scores in batch.items()
        ]
        rest = memoryview("".join(f"{line}\n" for line in lines).encode())
        try:
            while rest:
                rest = rest[self._stream.write(rest) :]
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise UserError(
                f"{self._path}: cannot be written ({error.strerror}); the same command goes on from here"
            ) from None
        self._scores |= batch

    def _read(self) -> None:
        assert self._stream is not None
        whole = 0
        with self._path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.endswith(b"\n"):
                    self._stream.truncate(whole)
                    break
                key, scores = _parsed(line, f"{self._path}, line {number}")
                self._scores[key] = scores
                whole += len(line)


def _parsed(line: bytes, place: str) -> tuple[str, LabelScores]:
    row: Any = parse_json(line, place)
    try:
        key, sums, truncated = row["key"], row["sums"], row["truncated"]
        numbers = all(type(value) is float and math.isfinite(value) for value in sums.values())
        if type(key) is str and type(truncated) is int and sums and numbers:
            return key, LabelScores(sums, truncated)
    except (AttributeError, KeyError, TypeError):
        pass
    raise UserError(f"{place}: is no line of a probe; delete the file, and all is computed again")
