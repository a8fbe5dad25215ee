"""Lets classifiers read outputs: as the reader of labels beside the rules, and of explanations alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mentallama_jax.evaluation.beside_classifiers import ClassifierReport, consistency, differing_rows, reader_agreement
from mentallama_jax.evaluation.label_readers import CLASSIFIER, RULES, LabelReader, label_of
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import TASKS, Task
from mentallama_jax.scorers.label_classifier import open_classifiers, read_explanations, read_outputs


class ClassifiedOutputs(NamedTuple):
    """What classifiers have read.

    Attributes:
        report: for `scores.json`.
        reader: gives the label of each output that was read; None where the rules read labels.
        differing: rows that it and the rules read differently; None likewise.
    """

    report: ClassifierReport
    reader: LabelReader | None
    differing: list[dict[str, Any]] | None


def read_with_classifiers(
    folder: str | Path, rows: Sequence[Prediction], scored: int, reader: str, measure: bool, settings: IntervalSettings
) -> ClassifiedOutputs:
    """Read outputs with a classifier for each of their data sets.

    Args:
        folder: see `scorers.label_classifier.open_classifiers`.
        rows: all whose labels will be asked for.
        scored: how many of them, the first ones, the report is of.
        reader: `CLASSIFIER` where the classifiers read the labels.
        measure: whether to measure the consistency of explanations and labels.
        settings: of the intervals, which are over posts.

    Raises:
        UserError: a data set without a classifier, or one that reads something else.
    """
    present = {row.dataset for row in rows}
    classifiers = open_classifiers(Path(folder), [task for name, task in TASKS.items() if name in present])
    own = rows[:scored]
    stated = [label_of(row, RULES) for row in own]
    agreement = found = differing = None
    if reader == CLASSIFIER:
        labels = read_outputs(classifiers, rows)
        found = _reader_of({_key(row): label for row, label in zip(rows, labels, strict=True)})
        agreement = reader_agreement(own, stated, labels[:scored], settings)
        differing = differing_rows(own, stated, labels[:scored])
    fits = consistency(own, stated, *read_explanations(classifiers, own), settings) if measure else None
    signatures = {name: classifier.signature() for name, classifier in classifiers.items()}
    return ClassifiedOutputs(ClassifierReport(agreement, fits, signatures), found, differing)


def _key(row: Prediction) -> tuple[str, str, str]:
    return row.dataset, row.aspect, row.generated_text


def _reader_of(labels: dict[tuple[str, str, str], str | None]) -> LabelReader:
    def classifier(text: str, task: Task, aspect: str) -> str | None:
        return labels[task.name, aspect, text]

    return classifier
