"""A section of a report on training runs, from the lines of their `metrics.jsonl`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from mentallama_jax.evaluation.reports.document import FigureTable, Gallery, Paragraph, Picture, ReportSection
from mentallama_jax.evaluation.reports.numerals import count, decimal, percent, readable
from mentallama_jax.evaluation.reports.pictures import Curve, curves

_MOST_POINTS = 300
_TRAINING = {
    "loss": ("Training loss", "nats a target token"),
    "learning_rate": ("Learning rate", "learning rate"),
    "grad_norm": ("Gradient norm", "norm before clipping"),
    "tokens_per_second": ("Tokens a second", "tokens a second"),
    "pad_share": ("Padding", "share of positions that are padding"),
}
_VALIDATION = {
    "validation_loss": ("Validation loss", "nats a target token"),
    "label_f1": ("Label F1 on validation", "weighted F1"),
    "weighted_f1": ("Weighted F1 on validation", "weighted F1"),
    "perplexity": ("Perplexity of held-out text", "perplexity"),
    "bits_per_byte": ("Bits per byte of held-out text", "bits per byte"),
}
_LOWER_IS_BETTER = ("validation_loss", "perplexity", "bits_per_byte")


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """A run and the lines of its metrics, `kind` "train" or "validation" each."""

    name: str
    lines: Sequence[Mapping[str, Any]]

    def of_kind(self, kind: str) -> list[Mapping[str, Any]]:
        """Its lines of one kind, in the order of updates."""
        return [line for line in self.lines if line["kind"] == kind]


def training_sections(runs: Sequence[TrainedRun]) -> list[ReportSection]:
    """What happened in training: a table and the curves; nothing where there are no runs."""
    if not runs:
        return []
    pictures = [
        *(_picture(runs, "train", key, *words) for key, words in _TRAINING.items()),
        *(_picture(runs, "validation", key, *words) for key, words in _VALIDATION.items()),
    ]
    drawn = tuple(picture for picture in pictures if picture is not None)
    said = f"Where more than {_MOST_POINTS} updates are logged, a point of a curve is the mean of several."
    return [ReportSection("Training", [_summary(runs), *_validation(runs), Paragraph(said), Gallery(drawn)])]


def _summary(runs: Sequence[TrainedRun]) -> FigureTable:
    rows = []
    for run in runs:
        lines = run.of_kind("train")
        last = lines[-1]
        speeds = [line["tokens_per_second"] for line in lines if "tokens_per_second" in line]
        padding = [line["pad_share"] for line in lines if "pad_share" in line]
        rows.append(
            (
                run.name,
                count(last["step"]),
                readable(last.get("epoch")),
                decimal(lines[0]["loss"], 3),
                decimal(last["loss"], 3),
                decimal(max(line["grad_norm"] for line in lines) if "grad_norm" in last else None),
                count(round(median(speeds))) if speeds else readable(None),
                percent(fmean(padding) if padding else None),
            )
        )
    heads = (
        "run",
        "updates",
        "epoch",
        "first loss",
        "last loss",
        "largest gradient norm",
        "tokens a second, median",
        "padding, mean %",
    )
    return FigureTable("Training runs", heads, tuple(rows))


def _validation(runs: Sequence[TrainedRun]) -> list[FigureTable]:
    rows = []
    for run in runs:
        lines = run.of_kind("validation")
        for key in dict.fromkeys(name for line in lines for name in line if name not in ("kind", "step")):
            found = [(line[key], line["step"]) for line in lines if key in line]
            best = min(found) if key in _LOWER_IS_BETTER else max(found, key=lambda pair: (pair[0], -pair[1]))
            name = _VALIDATION.get(key, (key.replace("_", " "), ""))[0]
            rows.append((run.name, name, decimal(best[0], 4), count(best[1]), decimal(found[-1][0], 4)))
    if not rows:
        return []
    return [FigureTable("Validation", ("run", "figure", "best", "at update", "last"), tuple(rows), words=2)]


def _picture(runs: Sequence[TrainedRun], kind: str, key: str, title: str, up: str) -> Picture | None:
    lines = []
    for run in runs:
        points = [(float(line["step"]), float(line[key])) for line in run.of_kind(kind) if key in line]
        lines.append(Curve(run.name, _thinned(points), marked=kind == "validation"))
    if not any(line.points for line in lines):
        return None
    return curves(title, lines, across="updates", up=up)


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `_MOST_POINTS`, each the mean of neighbours."""
    step = -(-len(points) // _MOST_POINTS)
    groups = [points[start : start + step] for start in range(0, len(points), step)] if points else []
    return [(fmean(x for x, _ in group), fmean(y for _, y in group)) for group in groups]
