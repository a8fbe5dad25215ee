"""The checks of collected explanations, row by row, and what they find of all rows together.

The paper measured three things: whether the answer states the annotators' label, whether a classifier reads that label
from the explanation alone, and how near explanations are to those of experts (BARTScore). It reports the last two and
drops no row for them; this is the default here too. A row whose answer does not state the gold label is always dropped,
as it would teach that an explanation need not fit its label.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mentallama_jax.imhi.labels import contradicts, read_label
from mentallama_jax.imhi.labels.gold_response import explanation_in
from mentallama_jax.imhi.records import Record

CUT = "the answer was cut at its longest length"
WITHHELD = "the answer was withheld"
NO_LABEL = "the answer states no label"
OTHER_LABEL = "the answer states another label"
EMPTY = "the answer explains nothing"
CONTRADICTS = "the explanation argues for another label"
INCONSISTENT = "the classifier reads another label from the explanation"
FAR = "its BARTScore is below the threshold"
NO_ANSWER = "the prompt is too long for the model"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What drops a row, beside a label that does not fit.

    Attributes:
        reject_inconsistent: drop rows from whose explanation the classifier reads another label.
        least_bartscore: drop rows with an expert's explanation whose score (nats) is below; None drops none.
        shortest: words of an explanation at least.
    """

    reject_inconsistent: bool = False
    least_bartscore: float | None = None
    shortest: int = 1


@dataclass(frozen=True, slots=True)
class Collected:
    """An answer to the question why a label fits.

    Attributes:
        record: with the gold label; its explanation, if any, is an expert's.
        text: the answer, whole; None where the question could not be asked.
        finish: why the answer ended, as in predictions.
    """

    record: Record
    text: str | None
    finish: str

    @property
    def explanation(self) -> str:
        """The explanation in the answer, without its label sentence."""
        return explanation_in(self.text or "", self.record.task)


@dataclass(slots=True)
class Checked:
    """What the checks say of one answer.

    Attributes:
        collected: the answer.
        reasons: why it is dropped; empty where it is kept.
        read: the label that a classifier reads from the explanation; None without one.
        bartscore: of the explanation against the expert's; None without one.
    """

    collected: Collected
    reasons: list[str] = field(default_factory=list)
    read: str | None = None
    bartscore: float | None = None


def check_labels(rows: Sequence[Collected], thresholds: Thresholds) -> list[Checked]:
    """The checks that need no model."""
    return [Checked(row, _reasons(row, thresholds)) for row in rows]


def _reasons(row: Collected, thresholds: Thresholds) -> list[str]:
    record = row.record
    if row.text is None:
        return [NO_ANSWER]
    if row.finish == "content_filter":
        return [WITHHELD]
    reasons = [CUT] if row.finish == "length" else []
    stated = read_label(row.text, record.task, record.aspect)
    if stated != record.label:
        return [*reasons, NO_LABEL if stated is None else OTHER_LABEL]
    if len(row.explanation.split()) < max(1, thresholds.shortest):
        return [*reasons, EMPTY]
    if contradicts(record.label, row.explanation, record.task, record.aspect):
        reasons.append(CONTRADICTS)
    return reasons


def add_consistency(rows: Sequence[Checked], read: Sequence[str | None], thresholds: Thresholds) -> None:
    """Note the labels that classifiers read from explanations, and drop what does not fit where that is asked for."""
    for row, label in zip(rows, read, strict=True):
        row.read = label
        if thresholds.reject_inconsistent and label not in (None, row.collected.record.label):
            row.reasons.append(INCONSISTENT)


def add_bartscores(rows: Sequence[Checked], scores: Mapping[int, float], thresholds: Thresholds) -> None:
    """Note the scores of rows by their places, and drop what is below the threshold."""
    for place, score in scores.items():
        rows[place].bartscore = score
        if thresholds.least_bartscore is not None and score < thresholds.least_bartscore:
            rows[place].reasons.append(FAR)


def collection_report(rows: Sequence[Checked]) -> dict[str, Any]:
    """Counts and figures of all rows and of each data set, as plain JSON values."""
    names = list(dict.fromkeys(row.collected.record.dataset for row in rows))
    return {
        "all": _counts(rows),
        "datasets": {name: _counts([r for r in rows if r.collected.record.dataset == name]) for name in names},
    }


def _counts(rows: Sequence[Checked]) -> dict[str, Any]:
    reasons = Counter(reason for row in rows for reason in row.reasons)
    labelled = [row for row in rows if not {NO_LABEL, OTHER_LABEL, NO_ANSWER, WITHHELD} & set(row.reasons)]
    read = [row for row in rows if row.read is not None]
    scores = [row.bartscore for row in rows if row.bartscore is not None]
    return {
        "rows": len(rows),
        "kept": sum(not row.reasons for row in rows),
        "rejected": dict(sorted(reasons.items())),
        "label_agreement": len(labelled) / len(rows) if rows else None,
        "consistency": {
            "rows": len(read),
            "share": sum(row.read == row.collected.record.label for row in read) / len(read) if read else None,
        },
        "bartscore": {"rows": len(scores), "mean": float(np.mean(scores)) if scores else None},
    }
