"""How often the labels that outputs state are right.

An output without a readable label counts as a prediction of the class `unparsed`: wrong, in every metric, and never
dropped. In the pool over data sets the same label word of two data sets stays two classes ("DR: yes").
"""

import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from mentallama_jax import __version__
from mentallama_jax.evaluation.metrics import (
    Tally,
    accuracy,
    f1_by_class,
    macro_f1,
    precision_by_class,
    recall_by_class,
    tally,
    weighted_f1,
)
from mentallama_jax.evaluation.predictions import Prediction, Predictions
from mentallama_jax.evaluation.statistics import Bootstrap, bootstrap_interval
from mentallama_jax.imhi.labels import read_label
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.imhi.upstream import upstream_label

UNPARSED = "unparsed"
Reader = Literal["templates+words", "as-upstream"]

_DEFINITIONS = {
    "unparsed": "rows whose output states no readable label; each is wrong and a prediction of the class `unparsed`",
    "weighted_f1": "F1 of each class, weighed by its support; 0/0 is 0",
    "macro_f1": "plain mean of F1 over the classes that occur in gold or prediction, `unparsed` included",
    "majority_weighted_f1": "weighted F1 of always answering the commonest gold label, in each data set its own",
    "pooled": "all rows; equal labels of different data sets are different classes",
    "intervals": "percentile bootstrap over posts",
}


@dataclass(frozen=True, slots=True)
class ClassScores:
    """One label against all others, fractions of 1; `support` in rows."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Scores of a set of rows: fractions of 1, but for the counts `n` and `unparsed` (rows) and `posts`."""

    n: int
    posts: int
    accuracy: float
    weighted_f1: float
    weighted_f1_interval: tuple[float, float]
    macro_f1: float
    unparsed: int
    majority_weighted_f1: float


@dataclass(frozen=True, slots=True)
class DatasetScores(Summary):
    """Scores of one data set.

    Attributes:
        per_class: of every label of the task, and of `unparsed` where it occurs.
        per_aspect: of the rows of each aspect; None where the task has none or the rows do not tell theirs.
        confusion: gold label -> predicted label -> rows.
    """

    per_class: dict[str, ClassScores]
    per_aspect: dict[str, Summary] | None
    confusion: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Scores:
    """What `scores.json` holds.

    Attributes:
        datasets: data set -> its scores, in the order of the table of data sets.
        pooled: of all rows together.
        mean_over_datasets: metric -> plain mean over data sets.
        signature: what was scored, and how.
    """

    datasets: dict[str, DatasetScores]
    pooled: Summary
    mean_over_datasets: dict[str, float]
    signature: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """A row whose output has been read; `predicted` is `unparsed` where it states no label."""

    dataset: str
    aspect: str
    post: str
    gold: str
    predicted: str
    unparsed: bool


def evaluate(predictions: Predictions, *, reader: Reader, bootstrap: Bootstrap) -> Scores:
    """Score the labels that outputs state. The order of rows does not matter.

    Args:
        predictions: what to score.
        reader: `templates+words` reads the whole output; `as-upstream` is the released rule scorer, default class
            and all, for comparison.
        bootstrap: how intervals are drawn.
    """
    rows = label_rows(predictions.rows, reader)
    datasets = {name: _score_dataset(name, of_dataset, bootstrap) for name, of_dataset in by_dataset(rows).items()}
    averaged = ("accuracy", "weighted_f1", "macro_f1", "majority_weighted_f1")
    return Scores(
        datasets=datasets,
        pooled=_summarise(told_apart(rows), bootstrap),
        mean_over_datasets={
            metric: float(np.mean([getattr(scores, metric) for scores in datasets.values()])) for metric in averaged
        },
        signature=sign(predictions, reader, bootstrap),
    )


def sign(predictions: Predictions, reader: Reader, bootstrap: Bootstrap) -> dict[str, Any]:
    """All that one must know beside the figures: files, the run that generated them, reader, definitions, versions."""
    return {
        "predictions": list(predictions.files),
        "generation": predictions.generation,
        "gold": predictions.gold,
        "reader": reader,
        "posts": "post_id" if predictions.posts_known else "not known: every row counts as a post of its own",
        "bootstrap": asdict(bootstrap),
        "definitions": _DEFINITIONS,
        "versions": {
            "mentallama_jax": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def label_rows(rows: Iterable[Prediction], reader: Reader) -> list[LabelledRow]:
    """Read the label of each output."""

    def read(row: Prediction) -> str | None:
        task = TASKS[row.dataset]
        return upstream_label(row.text, task) if reader == "as-upstream" else read_label(row.text, task, row.aspect)

    labelled = ((row, read(row)) for row in rows)
    return [
        LabelledRow(row.dataset, row.aspect, row.post, row.gold, label or UNPARSED, label is None)
        for row, label in labelled
    ]


def by_dataset(rows: Iterable[LabelledRow]) -> dict[str, list[LabelledRow]]:
    """The rows of each data set that has any, in the order of the table of data sets."""
    groups: dict[str, list[LabelledRow]] = {name: [] for name in TASKS}
    for row in rows:
        groups[row.dataset].append(row)
    return {name: group for name, group in groups.items() if group}


def told_apart(rows: Iterable[LabelledRow]) -> list[LabelledRow]:
    """The rows with equal labels of different data sets made different."""
    return [replace(row, gold=_of(row, row.gold), predicted=_of(row, row.predicted)) for row in rows]


def tally_rows(rows: Sequence[LabelledRow], classes: Sequence[str] | None = None) -> Tally:
    """Counts by post, [G, C]; `classes` in the order given, or those that occur, sorted."""
    classes = classes or sorted({row.gold for row in rows} | {row.predicted for row in rows})
    return tally([row.gold for row in rows], [row.predicted for row in rows], [row.post for row in rows], classes)


def _of(row: LabelledRow, label: str) -> str:
    return f"{row.dataset}: {label}"


def _score_dataset(name: str, rows: list[LabelledRow], bootstrap: Bootstrap) -> DatasetScores:
    task = TASKS[name]
    summary = _summarise(rows, bootstrap)
    classes = [*task.labels, *([UNPARSED] if summary.unparsed else [])]
    counts = tally_rows(rows, classes).total()
    columns = (precision_by_class(counts), recall_by_class(counts), f1_by_class(counts), counts.support)
    pairs = Counter((row.gold, row.predicted) for row in rows)
    per_aspect = None
    if task.aspects and all(row.aspect for row in rows):
        of_aspect = {aspect: [row for row in rows if row.aspect == aspect] for aspect in task.aspects}
        per_aspect = {aspect: _summarise(group, bootstrap) for aspect, group in of_aspect.items() if group}
    return DatasetScores(
        **asdict(summary),
        per_class={
            label: ClassScores(float(precision), float(recall), float(f1), int(support))
            for label, precision, recall, f1, support in zip(classes, *columns, strict=True)
        },
        per_aspect=per_aspect,
        confusion={gold: {label: pairs[gold, label] for label in classes} for gold in task.labels},
    )


def _summarise(rows: Sequence[LabelledRow], bootstrap: Bootstrap) -> Summary:
    by_post = tally_rows(rows)
    counts = by_post.total()
    return Summary(
        n=len(rows),
        posts=by_post.support.shape[0],
        accuracy=float(accuracy(counts)),
        weighted_f1=float(weighted_f1(counts)),
        weighted_f1_interval=bootstrap_interval(by_post, weighted_f1, bootstrap),
        macro_f1=float(macro_f1(counts)),
        unparsed=sum(row.unparsed for row in rows),
        majority_weighted_f1=_majority_weighted_f1(rows),
    )


def _majority_weighted_f1(rows: Sequence[LabelledRow]) -> float:
    constant = []
    for group in by_dataset(rows).values():
        golds = Counter(sorted(row.gold for row in group))
        commonest, _ = golds.most_common(1)[0]
        constant += [replace(row, predicted=commonest) for row in group]
    return float(weighted_f1(tally_rows(constant).total()))
