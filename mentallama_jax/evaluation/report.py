"""Scores as a table in the terminal, as `scores.json`, and as drawn confusion matrices."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mentallama_jax.evaluation.comparison import Comparison
from mentallama_jax.evaluation.correctness import DatasetScores, Scores, Summary
from mentallama_jax.evaluation.statistics import Difference
from mentallama_jax.files import atomic_open, write_json

if TYPE_CHECKING:
    from rich.table import Table

_INCHES_PER_CLASS = 0.62


def write_report(folder: Path, scores: Scores, comparison: Comparison | None = None) -> list[Path]:
    """Write `scores.json` and a `confusion_DATASET.png` for each data set into `folder`; return the paths."""
    value = asdict(scores)
    if comparison:
        value["comparison"] = {"metric": "weighted_f1, these predictions less the other", **asdict(comparison)}
    paths = [folder / "scores.json"]
    write_json(paths[0], value)
    for name, of_dataset in scores.datasets.items():
        paths.append(folder / f"confusion_{name}.png")
        draw_confusion(paths[-1], name, of_dataset)
    return paths


def score_table(scores: Scores) -> "Table":
    """The scores of each data set, of the pool and their mean, as a rich table (in %)."""
    headings = ("rows", "acc.", "weighted\nF1", "95 %", "majority\nF1", "macro\nF1", "unparsed")
    table = _table(f"Correctness in %, reader {scores.signature['reader']}", headings)
    for name, summary in scores.datasets.items():
        table.add_row(name, *_cells(summary))
        for aspect, of_aspect in (summary.per_aspect or {}).items():
            table.add_row(f"- {aspect}", *_cells(of_aspect), style="dim")
    if len(scores.datasets) > 1:
        table.add_section()
        table.add_row("pooled", *_cells(scores.pooled))
        mean = {metric: _percent(value) for metric, value in scores.mean_over_datasets.items()}
        f1s = (mean["weighted_f1"], "", mean["majority_weighted_f1"], mean["macro_f1"])
        table.add_row("mean", "", mean["accuracy"], *f1s, "")
    return table


def comparison_table(comparison: Comparison) -> "Table":
    """Differences of weighted F1 with their intervals, as a rich table (in points)."""
    other = comparison.other["predictions"][0]["file"]
    table = _table(f"Weighted F1 less that of {other}, in points", ("difference", "95 %", "clear of 0"))
    for name, difference in comparison.datasets.items():
        table.add_row(name, *_difference_cells(difference))
    if len(comparison.datasets) > 1:
        table.add_section()
        table.add_row("pooled", *_difference_cells(comparison.pooled))
    return table


def draw_confusion(path: Path, name: str, scores: DatasetScores) -> None:
    """Draw the confusion matrix of a data set as PNG: shades by share of the gold label's rows, counts in the cells."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    golds = [gold for gold, row in scores.confusion.items() if sum(row.values())]
    labels = list(next(iter(scores.confusion.values())))
    counts = [[scores.confusion[gold][label] for label in labels] for gold in golds]
    shares = [[count / sum(row) for count in row] for row in counts]

    size = (2.9 + _INCHES_PER_CLASS * len(labels), 2.1 + _INCHES_PER_CLASS * len(golds))
    figure = Figure(figsize=size, layout="constrained", dpi=150)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    for row, (row_counts, row_shares) in enumerate(zip(counts, shares, strict=True)):
        for column, (count, share) in enumerate(zip(row_counts, row_shares, strict=True)):
            color = "white" if share > 0.55 else "black"
            text = f"{100 * share:.0f} %\n{count}" if count else "0"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks(range(len(labels)), labels, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(golds)), golds)
    axes.set_xlabel("read from the output")
    axes.set_ylabel("gold")
    title = f"{name}: accuracy {_percent(scores.accuracy)} %, weighted F1 {_percent(scores.weighted_f1)} %"
    figure.suptitle(f"{title}\n{scores.n} rows, {scores.unparsed} unparsed", fontsize=9)
    figure.colorbar(image, ax=axes, label="share of the gold label's rows", shrink=0.8)
    with atomic_open(path, "wb") as stream:
        FigureCanvasAgg(figure).print_png(stream)


def _table(title: str, headings: tuple[str, ...]) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("data set")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _cells(summary: Summary) -> list[str]:
    low, high = summary.weighted_f1_interval
    return [
        str(summary.n),
        _percent(summary.accuracy),
        _percent(summary.weighted_f1),
        f"{_percent(low)}-{_percent(high)}",
        _percent(summary.majority_weighted_f1),
        _percent(summary.macro_f1),
        str(summary.unparsed),
    ]


def _difference_cells(difference: Difference) -> list[str]:
    low, high = difference.interval
    clear = "yes" if low > 0 or high < 0 else "no"
    return [f"{100 * difference.difference:+.1f}", f"{100 * low:+.1f} to {100 * high:+.1f}", clear]


def _percent(value: Any) -> str:
    return f"{100 * value:.1f}"
