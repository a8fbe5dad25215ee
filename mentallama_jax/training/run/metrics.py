"""The figures of a run: `metrics.jsonl` is the record; TensorBoard files and the loss curve are made from it.

Each line is a JSON object with `kind`: "train" (one a logged update) or "validation" (one an evaluation), and `step`,
the number of updates done. A resumed run has each step once.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, Self

from mentallama_jax.errors import UserError
from mentallama_jax.files import regular_file, write_jsonl
from mentallama_jax.foreign import parse_json, reading, shown
from mentallama_jax.parallel.processes import writes_files
from mentallama_jax.storage import AnyPath
from mentallama_jax.training.run.disk import naming

Kind = Literal["train", "validation"]
_LARGEST_STEP = 10**9
_LARGEST = 1e300


class MetricsLog:
    """Appends to `metrics.jsonl` and to TensorBoard. Use as a context manager.

    Every method raises `OSError` where the disk is full or gone.
    """

    def __init__(
        self,
        path: Path,
        tensorboard: Path,
        start_step: int,
        *,
        evaluated: bool,
        also: Callable[[Kind, int, Mapping[str, float]], None] = lambda kind, step, figures: None,
    ) -> None:
        """Open the files of a run that has done `start_step` updates; drop what was written past that.

        Args:
            path: the JSONL file.
            tensorboard: folder of the event files.
            start_step: updates done.
            evaluated: whether the evaluation after `start_step` was completed, so that its line stays.
            also: is told of each line once it is written; it must not fail.
        """
        self._writes, self._also = writes_files(), also
        if not self._writes:
            return
        kept = [
            row
            for row in read_metrics(path)
            if row["step"] < start_step or (row["step"] == start_step and (row["kind"] == "train" or evaluated))
        ]
        self._path = path
        with naming(path):
            write_jsonl(path, kept)
        self._stream: IO[str] = path.open("a", encoding="utf-8")
        self._events = _EventFile(tensorboard, start_step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writes:
            self._events.close()
            self._stream.close()

    def write(self, kind: Kind, step: int, figures: dict[str, float | int]) -> None:
        """Add a line; readers see it at once."""
        if not self._writes:
            return
        with naming(self._path):
            self._stream.write(json.dumps({"kind": kind, "step": step, **figures}, allow_nan=False) + "\n")
            self._stream.flush()
        for name, value in figures.items():
            self._events.write(f"{kind}/{name}", step, value)
        self._also(kind, step, figures)

    def sync(self) -> None:
        """Put every line on the disk, so that no checkpoint is ahead of its figures after a power cut."""
        if self._writes:
            with naming(self._path):
                os.fsync(self._stream.fileno())
            self._events.flush()


class _EventFile:
    """A TensorBoard file, written where it is called.

    tensorboardX's own `SummaryWriter` writes from a thread, which dies on a full disk; the run would then wait
    for ever to hand it the next figure.
    """

    def __init__(self, folder: Path, start_step: int) -> None:
        with _torch_out_of_sight():
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto import event_pb2
            from tensorboardX.summary import scalar

        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._event, self._scalar = event_pb2.Event, scalar
        self._writer = EventsWriter(str(folder / "events"), filename_suffix=f".from{start_step}")
        # Tells TensorBoard to forget what an earlier process wrote past this point.
        session = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._writer.write_event(event_pb2.Event(wall_time=time.time(), step=start_step + 1, session_log=session))

    def write(self, name: str, step: int, value: float) -> None:
        summary = self._scalar(name, value)
        with naming(self._folder):
            self._writer.write_event(self._event(wall_time=time.time(), step=step, summary=summary))

    def flush(self) -> None:
        with naming(self._folder):
            self._writer.flush()

    def close(self) -> None:
        self._writer.close()


@contextmanager
def _torch_out_of_sight() -> Iterator[None]:
    """tensorboardX imports torch where it is installed: seconds, and threads that the training step wants."""
    hide = "torch" not in sys.modules
    if hide:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hide:
            del sys.modules["torch"]


def read_metrics(path: AnyPath) -> list[dict[str, Any]]:
    """The lines of a metrics file; a last one that was cut off while it was written is left out.

    Raises:
        UserError: it is no file, or another line is not one that a run writes; the line is named.
    """
    if not path.exists():
        return []
    with reading(path, "metrics"):
        lines = regular_file(path).read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines[:-1], start=1):  # what stands behind the last line feed was cut off
        place = f"{path}, line {number}"
        row = parse_json(line, place)
        if (problem := _problem(row)) is not None:
            raise UserError(f"{place}: {problem}; mend the line, or move the file away to start another")
        rows.append(row)
    return rows


def _problem(row: Any) -> str | None:
    """Why a line is not one that a run writes; None where it is."""
    if not isinstance(row, dict):
        return "not a JSON object"
    if row.get("kind") not in ("train", "validation"):
        return "its kind is neither train nor validation"
    step = row.get("step")
    if type(step) is not int or not 0 <= step <= _LARGEST_STEP:
        return "its step is no number of updates"
    figures = {key for key in row if key not in ("kind", "step")} | ({"loss"} if row["kind"] == "train" else set())
    wrong = sorted(key for key in figures if not _is_figure(row.get(key)))
    return f"its {shown(wrong[0])} is no number" if wrong else None


def _is_figure(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _LARGEST
