"""How far a step is that runs, by the files that it writes."""

from contextlib import suppress
from functools import cache
from pathlib import Path

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import parse_json
from mentallama_jax.imhi.mixture import ALL
from mentallama_jax.study.study_graph import StudyGraph
from mentallama_jax.study.study_steps import StudyStep

_TAIL = 1 << 14


def share_done(graph: StudyGraph, step: StudyStep) -> float | None:
    """The share of a step that is done, from 0 to 1; None where nothing says it."""
    with suppress(OSError, UserError, KeyError, TypeError, ValueError, AttributeError):
        if step.words[:1] == ("train",):
            return _of_run(step)
        if step.words[:1] in (("generate",), ("ask",)):
            return _of_answers(graph, step)
    return None


def _of_run(step: StudyStep) -> float | None:
    """Updates that are logged, of all."""
    run = step.leftovers[0]
    training = step.settings["training"]
    with (run / "metrics.jsonl").open("rb") as stream:
        stream.seek(max(0, (run / "metrics.jsonl").stat().st_size - _TAIL))
        lines = [line for line in stream.read().splitlines()[-20:] if line.startswith(b'{"kind": "train"')]
    updates = int(parse_json(lines[-1], run)["step"])
    total = float(training["steps"] or 0)
    if not total:
        known = parse_json((run / "data.json").read_bytes(), run)
        total = int(known["train"]["examples"]) * (training["epochs"] or 1) / training["batch_size"]
    return min(updates / max(total, 1), 1.0)


def _of_answers(graph: StudyGraph, step: StudyStep) -> float | None:
    """Rows that are written, of those that every system answers."""
    out = step.outputs[0]
    asked = graph.config.evaluation
    if not step.name.endswith(".answer") or ALL in asked.datasets:
        return None
    others = [system.predictions for system in graph.systems if system.predictions != out]
    done = [
        _lines_at_rest(path, path.stat().st_mtime_ns)
        for path in others
        if graph.folder.manifest(f"{path.stem}.answer").is_file()
    ]
    known = max(done, default=0) or (asked.max_rows or 0) * len(asked.datasets)
    return min(_lines(out) / known, 1.0) if known else None


@cache
def _lines_at_rest(path: Path, changed: int) -> int:
    """The lines of a file that is asked about every second; `changed` is its time, of which there is one in a run."""
    return _lines(path)


def _lines(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(1 for _ in stream)
