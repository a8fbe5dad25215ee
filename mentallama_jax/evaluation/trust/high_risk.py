"""How many posts of high risk are found: recall and false negatives of the labels that the table of data sets marks.

A miss is a row of such a gold label whose output states another label, or none: an unparsed output warns nobody. The
figures of a data set stay beside each other and are not averaged, so that one that misses many is seen.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mentallama_jax.evaluation.correctness import UNPARSED, LabelledRow, by_dataset
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.evaluation.trust.counted_shares import CountedShare, counted_shares
from mentallama_jax.imhi.tasks import TASKS

_DEFINITIONS = {
    "recall": "share of the rows of this gold label whose output states it",
    "missed": "share of the rows of this gold label whose output states another label or none (1 - recall): the "
    "false-negative rate",
    "precision": "share of the rows whose output states this label that have it as gold; a system that always states "
    "it has a recall of 1 and a low precision",
    "unparsed": "rows among the missed whose output states no readable label",
    "read_as": "label that the output states, or `unparsed` -> missed rows",
}


@dataclass(frozen=True, slots=True)
class HighRiskClass:
    """A label of high risk in a data set.

    Attributes:
        label: canonical.
        aspect: what was asked about; "" for all rows of the data set.
        recall: of the rows with this gold label, those whose output states it.
        missed: of the same rows, those whose output does not: the false negatives.
        precision: of the rows whose output states it, those with this gold label.
        unparsed: missed rows whose output states no label.
        read_as: what missed rows were read as -> rows, the commonest first.
    """

    label: str
    aspect: str
    recall: CountedShare
    missed: CountedShare
    precision: CountedShare
    unparsed: int
    read_as: dict[str, int]


@dataclass(frozen=True, slots=True)
class HighRisk:
    """What `scores.json` holds under `high_risk`; `schema` documents each key.

    Attributes:
        datasets: data set -> its labels of high risk, those of each aspect behind those of all rows.
        reasons: data set -> which of its labels are of high risk, and why.
        definitions: figure -> its definition.
    """

    datasets: dict[str, list[HighRiskClass]]
    reasons: dict[str, str]
    definitions: dict[str, str]


def score_high_risk(rows: Sequence[LabelledRow], settings: IntervalSettings) -> HighRisk:
    """Find how many rows of high risk were missed, for each data set that has labels of high risk."""
    groups = by_dataset(rows)
    return HighRisk(
        datasets={name: _of_dataset(name, group, settings) for name, group in groups.items() if TASKS[name].high_risk},
        reasons={name: TASKS[name].high_risk_note for name in groups},
        definitions=dict(_DEFINITIONS),
    )


def _of_dataset(name: str, rows: Sequence[LabelledRow], settings: IntervalSettings) -> list[HighRiskClass]:
    task = TASKS[name]
    present = {row.aspect for row in rows}
    aspects = ["", *(aspect for aspect in task.aspects if aspect in present)] if task.aspects else [""]
    return [
        _of_class(label, aspect, [row for row in rows if aspect in ("", row.aspect)], settings)
        for label in task.high_risk
        for aspect in aspects
    ]


def _of_class(label: str, aspect: str, rows: Sequence[LabelledRow], settings: IntervalSettings) -> HighRiskClass:
    gold = [row for row in rows if row.gold == label]
    stated = [row for row in rows if _states(row, label)]
    missed = Counter(UNPARSED if row.unparsed else row.predicted for row in gold if not _states(row, label))
    return HighRiskClass(
        label=label,
        aspect=aspect,
        recall=_share(gold, lambda row: _states(row, label), settings),
        missed=_share(gold, lambda row: not _states(row, label), settings),
        precision=_share(stated, lambda row: row.gold == label, settings),
        unparsed=missed[UNPARSED],
        read_as=dict(sorted(missed.items(), key=lambda item: (-item[1], item[0]))),
    )


def _states(row: LabelledRow, label: str) -> bool:
    return not row.unparsed and row.predicted == label


def _share(
    rows: Sequence[LabelledRow], holds: Callable[[LabelledRow], bool], settings: IntervalSettings
) -> CountedShare:
    return counted_shares({"share": [holds(row) for row in rows]}, [row.post for row in rows], settings)["share"]
