"""What a study cost: time, tokens, and money of endpoints, row by row."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.reports.document import Paragraph, ReportSection
from mentallama_jax.files import read_jsonl, write_json
from mentallama_jax.study.step_manifests import StepManifests
from mentallama_jax.study.study_graph import StudyGraph
from mentallama_jax.study.study_steps import StudyStep
from mentallama_jax.study.traced_figures import Cell, FiguresFile, TracedTables

COSTS = "costs.json"
_OF_ALL = "all"


def write_costs(graph: StudyGraph) -> FiguresFile:
    """Count what the steps that are done cost, and the money of all, and write `costs.json`."""
    rows: dict[str, dict[str, Any]] = {}
    manifests = StepManifests(graph.folder)
    for step in graph.steps.values():
        counted = dict(_spent(step))
        with suppress(UserError):
            done = manifests.manifest(step.name)
            counted |= {
                "seconds": float(done["seconds"]),
                "steps": 1,
                "tries": int(done["tries"]),
                **dict(_counted(step)),
            }
        if counted:
            row = rows.setdefault(step.row or _OF_ALL, _nothing())
            row |= {key: (row[key] or 0) + found for key, found in counted.items()}
    total = _nothing()
    for row in rows.values():
        for key, value in row.items():
            total[key] = (total[key] or 0) + value if value is not None else total[key]
    value = {"schema_version": 1, "rows": rows, "total": total}
    path = graph.folder.path / COSTS
    write_json(path, value)
    return FiguresFile(path, COSTS, value)


def _nothing() -> dict[str, Any]:
    return {"seconds": 0.0, "steps": 0, "tries": 0, "trained_tokens": None, "written_tokens": None, "dollars": None}


def _counted(step: StudyStep) -> Iterator[tuple[str, float]]:
    """Tokens and dollars of a step that is done, where its files say them."""
    with suppress(UserError, OSError, KeyError, TypeError, ValueError):
        folder = step.leftovers[0]
        match step.words[:1]:
            case ("train",):
                yield "trained_tokens", _trained(folder)
            case ("transfer",):
                yield "trained_tokens", sum(map(_trained, sorted((folder / "runs").iterdir())))
                yield "written_tokens", sum(map(_written, sorted((folder / "predictions").glob("*.jsonl"))))
            case ("generate",) | ("ask",):
                yield "written_tokens", _written(step.outputs[0])


def _trained(run: Path) -> int:
    lines = read_jsonl(run / "metrics.jsonl", lenient=True)
    return sum(int(line["real_tokens"]) for line in lines if line["kind"] == "train")


def _written(predictions: Path) -> int:
    return sum(int(line.get("new_tokens", 0)) for line in read_jsonl(predictions))


def _spent(step: StudyStep) -> Iterator[tuple[str, float]]:
    """Dollars of a step that asks an endpoint, done or not."""
    if step.words[:1] == ("ask",):
        with suppress(OSError, KeyError, TypeError, ValueError):
            yield "dollars", spent(step.outputs[0].with_suffix(".answers.jsonl"))


def spent(journal: Path) -> float:
    """Dollars of the answers that an endpoint's journal holds, and of attempts that may have to be paid."""
    total, open_attempts = 0.0, dict[int, float]()
    content = journal.read_bytes()
    for line in content[: content.rfind(b"\n") + 1].splitlines():  # the last line may be cut off
        row: Mapping[str, Any] = json.loads(line)
        if "attempt" in row:
            open_attempts[row["attempt"]] = row["most"]
        elif "over" in row:
            open_attempts.pop(row["over"], None)
            total += row.get("cost", 0.0) + row.get("perhaps", 0.0)
    return total + sum(open_attempts.values())


def costs_section(graph: StudyGraph, file: FiguresFile, tables: TracedTables) -> ReportSection:
    """The table of costs."""
    rows: list[list[Cell]] = []
    for name in file.get("rows") or {}:
        row = graph.config.rows.get(name)
        title = (row.title or name) if row is not None else "comparisons"
        rows.append([title, *_cells(file, ("rows", name))])
    rows.append(["total", *_cells(file, ("total",))])
    heads = ["row", "time", "steps", "starts", "tokens trained on", "tokens written", "dollars of endpoints"]
    notes = (
        "Time of the steps, earlier tries of those that were stopped included as far as they were noted. Starts: how "
        "often steps were started. Tokens trained on count each epoch.",
    )
    said = Paragraph("Of this machine as it was: other programs that ran beside it are in the time.")
    table = tables.table("Costs", heads, rows, [file], notes=notes, printed=False)
    return ReportSection("Costs", [said, table])


def _cells(file: FiguresFile, at: tuple[str, ...]) -> list[Cell]:
    return [
        file.cell("duration", (*at, "seconds")),
        *(file.cell("count", (*at, key)) for key in ("steps", "tries", "trained_tokens", "written_tokens")),
        file.cell("dollars", (*at, "dollars")),
    ]
