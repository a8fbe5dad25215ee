"""How often the labels that outputs state are right.

An output without a readable label is `unparsed`: wrong for the class of its gold in every metric, and never dropped. It
is no class of its own. In the pool over data sets the same label word of two data sets stays two classes ("DR: yes").
"""

import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mentallama_jax import __version__
from mentallama_jax.evaluation.label_readers import AS_UPSTREAM, LabelReader, label_of, label_reader
from mentallama_jax.evaluation.schema import SCHEMA_VERSION
from mentallama_jax.evaluation.statistics.f1 import (
    Tally,
    accuracy,
    f1_by_class,
    macro_f1,
    precision_by_class,
    recall_by_class,
    tally,
    weighted_f1,
)
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings, few_posts, metric_intervals
from mentallama_jax.evaluation.system_predictions import Predictions
from mentallama_jax.imhi.labels.upstream import read_as_upstream, upstream_crashes_on, upstream_leaves_out
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import TASKS

UNPARSED = "unparsed"

_METRICS = {"accuracy": accuracy, "weighted_f1": weighted_f1, "macro_f1": macro_f1}
_AVERAGED = ("accuracy", "weighted_f1", "macro_f1", "majority_weighted_f1")
_DEFINITIONS = {
    "unparsed": "rows whose output states no readable label; each is wrong for the class of its gold",
    "weighted_f1": "F1 of each label of the task, weighed by its support; 0/0 is 0",
    "macro_f1": "plain mean of F1 over the labels of the task that occur in gold or prediction; `unparsed` is no label",
    "majority_weighted_f1": "weighted F1 of always answering the commonest gold label, in each data set its own",
    "pooled": "all rows; equal labels of different data sets are different classes",
    "intervals": "over posts: variance by the jackknife, Wilson with Student's t; exact (Clopper-Pearson, by "
    "posts) where all rows are right, none is, or no post differs from the others",
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
    """Scores of a set of rows: fractions of 1, but for the counts `n` and `unparsed` (rows) and `posts`.

    Attributes:
        interval_methods: metric -> "wilson" or "exact".
        warning: what to mind of the intervals; None where there is nothing.
    """

    n: int
    posts: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    weighted_f1: float
    weighted_f1_interval: tuple[float, float]
    macro_f1: float
    macro_f1_interval: tuple[float, float]
    interval_methods: dict[str, str]
    warning: str | None
    unparsed: int
    majority_weighted_f1: float


@dataclass(frozen=True, slots=True)
class UpstreamCount:
    """What the released rule scorer would say of these rows besides its figures.

    Attributes:
        out_of_domain: outputs in which it finds no label, which it counts, and scores as its default class.
        fails_on: rows whose gold makes it fail, so that it gives no figures for the data set.
        leaves_out: rows that it leaves out, gold and output alike; here they are scored.
    """

    out_of_domain: int
    fails_on: int
    leaves_out: int


@dataclass(frozen=True, slots=True)
class DatasetScores(Summary):
    """Scores of one data set.

    Attributes:
        per_class: of every label of the task.
        per_aspect: of the rows of each aspect; None where the task has none or the rows do not tell theirs.
        confusion: gold label -> predicted label, or `unparsed` where that occurs -> rows.
        confusion_per_aspect: the same of the rows of each aspect; None where `per_aspect` is.
        left_out: rows besides these `n` whose gold states no label.
        as_upstream: counts of the released scorer, where labels were read as it reads them; else None.
    """

    per_class: dict[str, ClassScores]
    per_aspect: dict[str, Summary] | None
    confusion: dict[str, dict[str, int]]
    confusion_per_aspect: dict[str, dict[str, dict[str, int]]] | None
    left_out: int = 0
    as_upstream: UpstreamCount | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """What `scores.json` holds; `schema` documents each key.

    Attributes:
        schema_version: of the layout.
        datasets: data set -> its scores, in the order of the table of data sets.
        pooled: of all rows together.
        mean_over_datasets: metric -> plain mean over data sets.
        signature: what was scored, and how.
    """

    schema_version: int
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


def evaluate(predictions: Predictions, *, reader: str | LabelReader, settings: IntervalSettings) -> Scores:
    """Score the labels that outputs state. The order of rows does not matter.

    Args:
        predictions: what to score.
        reader: the name of a way to read labels, see `label_readers.READERS`, or a reader of your own.
        settings: of the intervals, which are over posts.
    """
    rows = label_rows(predictions.rows, reader)
    left_out = Counter(row.dataset for row in predictions.left_out)
    upstream = _upstream_counts(predictions.rows) if label_reader(reader)[0] == AS_UPSTREAM else {}
    datasets = {
        name: replace(
            _score_dataset(name, of_dataset, settings), left_out=left_out[name], as_upstream=upstream.get(name)
        )
        for name, of_dataset in by_dataset(rows).items()
    }
    return Scores(
        schema_version=SCHEMA_VERSION,
        datasets=datasets,
        pooled=_summarise(separate_labels(rows), _pooled_classes(datasets), settings),
        mean_over_datasets={
            metric: float(np.mean([getattr(scores, metric) for scores in datasets.values()])) for metric in _AVERAGED
        },
        signature=sign(predictions, reader, settings),
    )


def sign(predictions: Predictions, reader: str | LabelReader, settings: IntervalSettings) -> dict[str, Any]:
    """All that one must know beside the figures: files, the run that generated them, reader, definitions, versions."""
    return {
        **predictions.provenance(),
        "reader": label_reader(reader)[0],
        "confidence": settings.confidence,
        "definitions": _DEFINITIONS,
        "versions": {
            "mentallama_jax": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def label_rows(rows: Iterable[Prediction], reader: str | LabelReader) -> list[LabelledRow]:
    """Read the label of each output."""
    labelled = ((row, label_of(row, reader)) for row in rows)
    return [
        LabelledRow(row.dataset, row.aspect, row.post_id, row.label, label or UNPARSED, label is None)
        for row, label in labelled
    ]


def by_dataset(rows: Iterable[LabelledRow]) -> dict[str, list[LabelledRow]]:
    """The rows of each data set that has any, in the order of the table of data sets."""
    groups: dict[str, list[LabelledRow]] = {name: [] for name in TASKS}
    for row in rows:
        groups[row.dataset].append(row)
    return {name: group for name, group in groups.items() if group}


def separate_labels(rows: Iterable[LabelledRow]) -> list[LabelledRow]:
    """The rows with equal labels of different data sets made different."""
    return [replace(row, gold=_of(row, row.gold), predicted=_of(row, row.predicted)) for row in rows]


def tally_rows(rows: Sequence[LabelledRow], classes: Sequence[str] | None = None) -> Tally:
    """Counts by post, [G, C]; `classes` in the order given, or the labels that occur, sorted."""
    classes = classes or sorted({row.gold for row in rows} | {row.predicted for row in rows if not row.unparsed})
    return tally([row.gold for row in rows], [row.predicted for row in rows], [row.post for row in rows], classes)


def pooled_f1(rows: Iterable[LabelledRow]) -> float:
    """The weighted F1 of the labels of all rows together, as the report has it for all data sets."""
    return float(weighted_f1(tally_rows(separate_labels(rows)).total()))


def _of(row: LabelledRow, label: str) -> str:
    return f"{row.dataset}: {label}"


def _score_dataset(name: str, rows: list[LabelledRow], settings: IntervalSettings) -> DatasetScores:
    task = TASKS[name]
    summary = _summarise(rows, task.labels, settings)
    counts = tally_rows(rows, task.labels).total()
    columns = (precision_by_class(counts), recall_by_class(counts), f1_by_class(counts), counts.support)
    per_aspect, confusions = None, None
    if task.aspects and all(row.aspect for row in rows):
        of_aspect = {aspect: [row for row in rows if row.aspect == aspect] for aspect in task.aspects}
        per_aspect = {aspect: _summarise(group, task.labels, settings) for aspect, group in of_aspect.items() if group}
        confusions = {aspect: _confusion(group, task.labels) for aspect, group in of_aspect.items() if group}
    return DatasetScores(
        **asdict(summary),
        per_class={
            label: ClassScores(float(precision), float(recall), float(f1), int(support))
            for label, precision, recall, f1, support in zip(task.labels, *columns, strict=True)
        },
        per_aspect=per_aspect,
        confusion=_confusion(rows, task.labels),
        confusion_per_aspect=confusions,
    )


def _confusion(rows: Sequence[LabelledRow], labels: Sequence[str]) -> dict[str, dict[str, int]]:
    pairs = Counter((row.gold, row.predicted) for row in rows)
    read = [*labels, *([UNPARSED] if any(row.unparsed for row in rows) else [])]
    return {gold: {label: pairs[gold, label] for label in read} for gold in labels}


def _pooled_classes(datasets: Iterable[str]) -> list[str]:
    return [f"{name}: {label}" for name in datasets for label in TASKS[name].labels]


def _upstream_counts(rows: Iterable[Prediction]) -> dict[str, UpstreamCount]:
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        gold = row.goldens or row.task.sentences[row.label]
        counts.setdefault(row.dataset, Counter()).update(
            out_of_domain=int(read_as_upstream(row.generated_text, row.task).out_of_domain),
            fails_on=int(upstream_crashes_on(gold, row.task)),
            leaves_out=int(upstream_leaves_out(gold, row.task)),
        )
    return {name: UpstreamCount(**of_dataset) for name, of_dataset in counts.items()}


def _summarise(rows: Sequence[LabelledRow], classes: Sequence[str], settings: IntervalSettings) -> Summary:
    by_post = tally_rows(rows, classes)
    counts = by_post.total()
    intervals = metric_intervals(by_post, _METRICS, settings)
    return Summary(
        n=len(rows),
        posts=by_post.groups,
        accuracy=float(accuracy(counts)),
        accuracy_interval=intervals["accuracy"].ends,
        weighted_f1=float(weighted_f1(counts)),
        weighted_f1_interval=intervals["weighted_f1"].ends,
        macro_f1=float(macro_f1(counts)),
        macro_f1_interval=intervals["macro_f1"].ends,
        interval_methods={metric: interval.method for metric, interval in intervals.items()},
        warning=few_posts(by_post.groups),
        unparsed=sum(row.unparsed for row in rows),
        majority_weighted_f1=_majority_weighted_f1(rows),
    )


def _majority_weighted_f1(rows: Sequence[LabelledRow]) -> float:
    constant = []
    for group in by_dataset(rows).values():
        golds = Counter(sorted(row.gold for row in group))
        commonest, _ = golds.most_common(1)[0]
        constant += [replace(row, predicted=commonest, unparsed=False) for row in group]
    return float(weighted_f1(tally_rows(constant).total()))
