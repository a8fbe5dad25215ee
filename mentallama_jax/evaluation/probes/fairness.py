"""Do labels change with who writes? A sentence that says so is put in front of the same posts.

What a group's sentence changes is set beside what neutral sentences change (the noise floor): labels that flip,
weighted F1, and the probability of the gold label and of "yes". Groups of an attribute are then set beside each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from mentallama_jax.evaluation.probes.label_scores import LabelScores, Scorer
from mentallama_jax.evaluation.probes.post_figures import MeanFigure
from mentallama_jax.evaluation.probes.prefix_measures import (
    NEUTRAL,
    F1Measure,
    Group,
    MeanMeasure,
    Measure,
    PrefixedRow,
)
from mentallama_jax.evaluation.probes.prefix_table import PrefixTable
from mentallama_jax.evaluation.probes.sentence_exchange import p_of_exchanges
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings, few_posts
from mentallama_jax.evaluation.statistics.paired_tests import holm
from mentallama_jax.imhi.records import Record

FAIRNESS_DEFINITIONS = {
    "label": "the likeliest label sentence, by the sum of the log-probabilities of its tokens",
    "flip_rate": "share of rows whose label is another than without a prefix; mean over the sentences of a group",
    "noise_floor": "flip rate of the neutral sentences",
    "difference": "of a group less neutral, on the same rows; interval over posts",
    "p": "two-sided: the sentences of group and neutral are dealt out anew to both sides, post by post",
    "p_holm": "p corrected by Holm's method over all groups, for each measure and each set of rows",
    "gap": "of the two groups of an attribute that differ most in these rows, so that it is never below 0, and chosen "
    "by looking; its p is multiplied by the number of pairs, then corrected by Holm's method over attributes",
    "p_gold": "probability of the gold label: softmax over the labels of the sums of log-probabilities",
    "p_yes": "probability of the label yes, in rows whose task has the labels yes and no",
}


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
    """Figures of a set of rows, fractions of 1; `probe_schema.PROBE_FIELDS` documents each."""

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


def prefixed(record: Record, prefix: str) -> Record:
    """The record with a sentence in front of its post, which stays whole."""
    return replace(record, post=f"{prefix} {record.post}")


def score_prefixed(records: Sequence[Record], table: PrefixTable, scorer: Scorer) -> list[PrefixedRow]:
    """Score each record with each prefix of a table, all at once."""
    sides: dict[Group, tuple[str, ...]] = {NEUTRAL: table.neutral}
    sides |= {(attribute, name): texts for attribute, of in table.groups.items() for name, texts in of.items()}
    variants = [[record, *(prefixed(record, text) for texts in sides.values() for text in texts)] for record in records]
    scored = iter(scorer([variant for of_record in variants for variant in of_record]))

    def take(count: int) -> tuple[LabelScores, ...]:
        return tuple(next(scored) for _ in range(count))

    return [
        PrefixedRow(record, next(scored), {side: take(len(texts)) for side, texts in sides.items()})
        for record in records
    ]


def fairness(rows: Sequence[PrefixedRow], settings: IntervalSettings, seed: int = 0) -> FairnessScores:
    """The figures of rows that have gold labels; at least one. Exchanges of tests are drawn from `seed`."""
    posts = {row.record.post_id for row in rows}
    groups = [side for side in rows[0].sides if side != NEUTRAL]
    yes_no = [row for row in rows if row.record.task.is_yes_no]
    flips = MeanMeasure("flip_rate", rows, settings)
    measures: dict[str, Measure] = {
        "flip_rate": flips,
        "weighted_f1": F1Measure(rows, settings),
        "p_gold": MeanMeasure("p_gold", rows, settings),
    }
    if yes_no:
        measures["p_yes"] = MeanMeasure("p_yes", yes_no, settings)
    against = {name: _against_neutral(of, groups, seed) for name, of in measures.items()}
    gaps = {name: _gaps(of, groups, seed) for name, of in measures.items()}
    attributes = list(dict.fromkeys(attribute for attribute, _ in groups))
    found: dict[str, dict[str, GroupScores]] = {attribute: {} for attribute in attributes}
    for group in groups:
        attribute, name = group
        of_group = {measure: values[group] for measure, values in against.items()}
        found[attribute][name] = GroupScores(
            sentences=len(rows[0].sides[group]),
            flip_rate=of_group["flip_rate"],
            weighted_f1=of_group["weighted_f1"],
            p_gold=of_group["p_gold"],
            p_yes=of_group.get("p_yes"),
        )
    compared = ("weighted_f1", "p_gold", "p_yes")
    return FairnessScores(
        rows=len(rows),
        posts=len(posts),
        yes_no_rows=len(yes_no),
        cut_posts=sum(row.plain.truncated > 0 for row in rows),
        noise_floor=flips.figure(NEUTRAL),
        without_prefix={name: measures[name].plain if name in measures else None for name in compared},
        neutral={name: measures[name].value(NEUTRAL) if name in measures else None for name in compared},
        groups=found,
        gaps={attribute: {name: of[attribute] for name, of in gaps.items()} for attribute in attributes},
        warning=few_posts(len(posts)),
    )


def _against_neutral(measure: Measure, groups: Sequence[Group], seed: int) -> dict[Group, AgainstNeutral]:
    ps = p_of_exchanges([measure.exchange(group, NEUTRAL) for group in groups], seed)
    found = {}
    for group, p, corrected in zip(groups, ps, holm(ps), strict=True):
        figure = measure.difference(group, NEUTRAL)
        found[group] = AgainstNeutral(measure.value(group), figure.value, figure.interval, p, corrected)
    return found


def _gaps(measure: Measure, groups: Sequence[Group], seed: int) -> dict[str, Gap]:
    of_attribute: dict[str, list[Group]] = {}
    for group in groups:
        of_attribute.setdefault(group[0], []).append(group)
    pairs = {
        attribute: _extremes({group: measure.value(group) for group in members})
        for attribute, members in of_attribute.items()
    }
    ps = p_of_exchanges([measure.exchange(highest, lowest) for highest, lowest, _ in pairs.values()], seed)
    times = [min(1.0, p * number) for p, (_, _, number) in zip(ps, pairs.values(), strict=True)]
    found = {}
    for (attribute, (highest, lowest, _)), p, corrected in zip(pairs.items(), times, holm(times), strict=True):
        figure = measure.difference(highest, lowest)
        found[attribute] = Gap(highest[1], lowest[1], figure.value, figure.interval, p, corrected)
    return found


def _extremes(values: Mapping[Group, float]) -> tuple[Group, Group, int]:
    """Two different groups with the highest and the lowest value, and the number of pairs of groups."""
    highest = max(values, key=lambda group: values[group])
    lowest = min((group for group in values if group != highest), key=lambda group: values[group])
    return highest, lowest, len(list(combinations(values, 2)))
