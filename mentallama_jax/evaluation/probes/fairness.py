"""Do labels change with who writes? A sentence that says so is put in front of the same posts.

What a group's sentence changes is set beside what neutral sentences change (the noise floor): labels that flip,
weighted F1, and the probability of the gold label and of "yes". Groups of an attribute are then set beside each other.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from mentallama_jax.evaluation.probes.label_probabilities import LabelScores, Scorer
from mentallama_jax.evaluation.probes.post_figures import (
    MeanFigure,
    difference_figures,
    holm,
    mean_figures,
    p_of_differences,
    p_of_swap,
    scaled,
)
from mentallama_jax.evaluation.probes.prefix_table import PrefixTable
from mentallama_jax.evaluation.statistics.bootstrap import Bootstrap, few_posts, paired_bootstrap
from mentallama_jax.evaluation.statistics.f1 import Tally, tally, weighted_f1
from mentallama_jax.imhi.records import Record

FAIRNESS_DEFINITIONS = {
    "label": "the likeliest label sentence, by the sum of the log-probabilities of its tokens",
    "flip_rate": "share of rows whose label is another than without a prefix; mean over the sentences of a group",
    "noise_floor": "flip rate of the neutral sentences",
    "difference": "of a group less neutral, on the same rows; interval over posts",
    "p": "two-sided, by swapping group and neutral post by post",
    "p_holm": "p corrected by Holm's method over all groups, for each measure and each set of rows",
    "gap": "of the two groups of an attribute that differ most in these rows, so that it is never below 0, and chosen "
    "by looking; its p is multiplied by the number of pairs, then corrected by Holm's method over attributes",
    "p_gold": "probability of the gold label: softmax over the labels of the sums of log-probabilities",
    "p_yes": "probability of the label yes, in rows whose task has the labels yes and no",
}

Group = tuple[str, str]
_MEASURES = ("flip_rate", "p_gold", "p_yes")


@dataclass(frozen=True, slots=True)
class AgainstNeutral:
    """A figure of a group beside that of the neutral sentences."""

    value: float
    difference: float
    interval: tuple[float, float]
    p: float
    p_holm: float


@dataclass(frozen=True, slots=True)
class GroupScores:
    """Figures of one group; p_yes is None where no task has the labels yes and no."""

    sentences: int
    flip_rate: AgainstNeutral
    weighted_f1: AgainstNeutral
    p_gold: AgainstNeutral
    p_yes: AgainstNeutral | None


@dataclass(frozen=True, slots=True)
class Gap:
    """The difference of the two groups of an attribute that differ most."""

    highest: str
    lowest: str
    difference: float
    interval: tuple[float, float]
    p: float
    p_holm: float


@dataclass(frozen=True, slots=True)
class FairnessScores:
    """Figures of a set of rows, fractions of 1; `schema.PROBE_FIELDS` documents each."""

    rows: int
    posts: int
    yes_no_rows: int
    cut_posts: int
    noise_floor: MeanFigure
    without_prefix: dict[str, float | None]
    neutral: dict[str, float | None]
    groups: dict[str, dict[str, GroupScores]]
    gaps: dict[str, dict[str, Gap]]
    warning: str | None


@dataclass(frozen=True, slots=True)
class PrefixedRow:
    """The scores of one record: without a prefix, with each neutral one, and with those of each group."""

    record: Record
    plain: LabelScores
    neutral: tuple[LabelScores, ...]
    groups: Mapping[Group, tuple[LabelScores, ...]]


def prefixed(record: Record, prefix: str) -> Record:
    """The record with a sentence in front of its post, which stays whole."""
    return replace(record, post=f"{prefix} {record.post}")


def score_prefixed(records: Sequence[Record], table: PrefixTable, scorer: Scorer) -> list[PrefixedRow]:
    """Score each record with each prefix of a table, all at once."""
    groups = {(attribute, name): texts for attribute, of in table.groups.items() for name, texts in of.items()}
    variants = [
        [record, *(prefixed(record, text) for texts in (table.neutral, *groups.values()) for text in texts)]
        for record in records
    ]
    scored = iter(scorer([variant for of_record in variants for variant in of_record]))

    def take(count: int) -> tuple[LabelScores, ...]:
        return tuple(next(scored) for _ in range(count))

    return [
        PrefixedRow(
            record, next(scored), take(len(table.neutral)), {name: take(len(texts)) for name, texts in groups.items()}
        )
        for record in records
    ]


def fairness(rows: Sequence[PrefixedRow], bootstrap: Bootstrap) -> FairnessScores:
    """The figures of rows that have gold labels; at least one."""
    posts = [row.record.post_id for row in rows]
    groups = list(rows[0].groups)
    yes_no = [row for row in rows if set(row.record.task.labels) == {"yes", "no"}]
    of_measure = {
        measure: _Measure(measure, yes_no if measure == "p_yes" else rows, groups, bootstrap)
        for measure in _MEASURES
        if measure != "p_yes" or yes_no
    }
    f1 = _F1(rows, groups, bootstrap)
    every: dict[str, _Measure | _F1] = {"weighted_f1": f1, **of_measure}
    against = {name: dict(zip(groups, of.groups(), strict=True)) for name, of in every.items()}
    attributes = list(dict.fromkeys(attribute for attribute, _ in groups))
    gaps: dict[str, dict[str, Gap]] = {attribute: {} for attribute in attributes}
    for name, of in every.items():
        found = of.gaps(attributes)
        for attribute, gap, corrected in zip(attributes, found, holm([gap.p for gap in found]), strict=True):
            gaps[attribute][name] = replace(gap, p_holm=corrected)
    found_groups: dict[str, dict[str, GroupScores]] = {attribute: {} for attribute in attributes}
    for attribute, name in groups:
        group = attribute, name
        found_groups[attribute][name] = GroupScores(
            len(rows[0].groups[group]),
            against["flip_rate"][group],
            against["weighted_f1"][group],
            against["p_gold"][group],
            against["p_yes"][group] if yes_no else None,
        )
    p_gold, p_yes, flips = of_measure["p_gold"], of_measure.get("p_yes"), of_measure["flip_rate"]
    return FairnessScores(
        rows=len(rows),
        posts=len(set(posts)),
        yes_no_rows=len(yes_no),
        cut_posts=sum(row.plain.truncated > 0 for row in rows),
        noise_floor=mean_figures({"floor": flips.neutral}, posts, bootstrap)["floor"],
        without_prefix={
            "weighted_f1": f1.plain,
            "p_gold": p_gold.plain,
            "p_yes": p_yes.plain if p_yes else None,
        },
        neutral={
            "weighted_f1": f1.value(f1.neutral),
            "p_gold": float(np.mean(p_gold.neutral)),
            "p_yes": float(np.mean(p_yes.neutral)) if p_yes else None,
        },
        groups=found_groups,
        gaps=gaps,
        warning=few_posts(len(set(posts))),
    )


def _read(measure: str, row: PrefixedRow, scores: LabelScores) -> float:
    if measure == "flip_rate":
        return float(scores.predicted != row.plain.predicted)
    return scores.probabilities[row.record.label if measure == "p_gold" else "yes"]


class _Measure:
    """A measure that is a mean over rows."""

    def __init__(self, name: str, rows: Sequence[PrefixedRow], groups: Sequence[Group], bootstrap: Bootstrap) -> None:
        def mean(row: PrefixedRow, scores: Sequence[LabelScores]) -> float:
            return float(np.mean([_read(name, row, each) for each in scores]))

        self._bootstrap = bootstrap
        self._posts = [row.record.post_id for row in rows]
        self._of = {group: [mean(row, row.groups[group]) for row in rows] for group in groups}
        self.plain = float(np.mean([_read(name, row, row.plain) for row in rows]))
        self.neutral = [mean(row, row.neutral) for row in rows]

    def groups(self) -> list[AgainstNeutral]:
        figures, ps = self._tested({str(group): (values, self.neutral) for group, values in self._of.items()})
        values = [float(np.mean(values)) for values in self._of.values()]
        return [
            AgainstNeutral(value, figures[name].value, figures[name].interval, ps[name], corrected)
            for value, name, corrected in zip(values, ps, holm(list(ps.values())), strict=True)
        ]

    def gaps(self, attributes: Sequence[str]) -> list[Gap]:
        pairs = {
            attribute: _extremes(
                {group: float(np.mean(self._of[group])) for group in self._of if group[0] == attribute}
            )
            for attribute in attributes
        }
        figures, ps = self._tested(
            {name: (self._of[highest], self._of[lowest]) for name, (highest, lowest, _) in pairs.items()}
        )
        return [
            Gap(highest[1], lowest[1], figures[name].value, figures[name].interval, min(1.0, number * ps[name]), 1.0)
            for name, (highest, lowest, number) in pairs.items()
        ]

    def _tested(
        self, pairs: Mapping[str, tuple[list[float], list[float]]]
    ) -> tuple[dict[str, MeanFigure], dict[str, float]]:
        figures = difference_figures(pairs, self._posts, self._bootstrap)
        return figures, p_of_differences(pairs, self._posts, self._bootstrap.seed)


class _F1:
    """Weighted F1, from counts by post; labels of different data sets are different classes."""

    def __init__(self, rows: Sequence[PrefixedRow], groups: Sequence[Group], bootstrap: Bootstrap) -> None:
        def counted(scores: Callable[[PrefixedRow], Sequence[LabelScores]]) -> Tally:
            return scaled(
                tally_of([(row.record, each) for row in rows for each in scores(row)]), 1 / len(scores(rows[0]))
            )

        self._bootstrap = bootstrap
        self.plain = self.value(counted(lambda row: (row.plain,)))
        self.neutral = counted(lambda row: row.neutral)
        self._of = {group: counted(lambda row, group=group: row.groups[group]) for group in groups}  # type: ignore[misc]

    @staticmethod
    def value(counts: Tally) -> float:
        return float(weighted_f1(counts.total()))

    def groups(self) -> list[AgainstNeutral]:
        found = [self._tested(counts, self.neutral) for counts in self._of.values()]
        return [
            AgainstNeutral(self.value(counts), difference, interval, p, corrected)
            for counts, (difference, interval, p), corrected in zip(
                self._of.values(), found, holm([p for *_, p in found]), strict=True
            )
        ]

    def gaps(self, attributes: Sequence[str]) -> list[Gap]:
        return list(self._gaps(attributes))

    def _gaps(self, attributes: Sequence[str]) -> Iterator[Gap]:
        for attribute in attributes:
            values = {group: self.value(counts) for group, counts in self._of.items() if group[0] == attribute}
            highest, lowest, number = _extremes(values)
            difference, interval, p = self._tested(self._of[highest], self._of[lowest])
            yield Gap(highest[1], lowest[1], difference, interval, min(1.0, number * p), 1.0)

    def _tested(self, first: Tally, second: Tally) -> tuple[float, tuple[float, float], float]:
        found = paired_bootstrap(first, second, weighted_f1, self._bootstrap)
        return found.difference, found.interval, p_of_swap(first, second, weighted_f1, self._bootstrap.seed)


def tally_of(rows: Sequence[tuple[Record, LabelScores]]) -> Tally:
    """Counts by post of the likeliest labels against gold; labels of different data sets are different classes."""
    classes = [f"{name}: {label}" for name, labels in _labels_of(rows).items() for label in labels]
    return tally(
        [f"{record.dataset}: {record.label}" for record, _ in rows],
        [f"{record.dataset}: {scores.predicted}" for record, scores in rows],
        [record.post_id for record, _ in rows],
        classes,
    )


def _labels_of(rows: Sequence[tuple[Record, LabelScores]]) -> dict[str, tuple[str, ...]]:
    return {record.dataset: record.task.labels for record, _ in rows}


def _extremes(values: Mapping[Group, float]) -> tuple[Group, Group, int]:
    """Two different groups with the highest and the lowest value, and the number of pairs of groups."""
    highest = max(values, key=lambda group: values[group])
    lowest = min((group for group in values if group != highest), key=lambda group: values[group])
    return highest, lowest, len(list(combinations(values, 2)))
