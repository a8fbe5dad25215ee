"""What is measured of posts with a sentence in front: for groups, for neutral sentences, and without any."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mentallama_jax.evaluation.probes.label_scores import LabelScores
from mentallama_jax.evaluation.probes.post_figures import MeanFigure, difference_figures, mean_figures
from mentallama_jax.evaluation.probes.sentence_exchange import Exchange, exchange_of_counts, exchange_of_scores
from mentallama_jax.evaluation.statistics.f1 import Tally, tally, weighted_f1
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings, one_seed_difference, row_scores
from mentallama_jax.imhi.records import Record

Group = tuple[str, str]
"""An attribute and the name of a group."""

NEUTRAL: Group = ("", "neutral")


@dataclass(frozen=True, slots=True)
class PrefixedRow:
    """The scores of one record.

    Attributes:
        record: the post itself.
        plain: without a prefix.
        sides: with each sentence of each group, and of `NEUTRAL`.
    """

    record: Record
    plain: LabelScores
    sides: Mapping[Group, tuple[LabelScores, ...]]


class Measure(Protocol):
    """A figure of posts with sentences in front."""

    @property
    def plain(self) -> float:
        """The value without a prefix."""

    def value(self, side: Group) -> float:
        """The mean over the sentences of a side."""

    def difference(self, first: Group, second: Group) -> MeanFigure:
        """The first side less the second, with its interval over posts."""

    def exchange(self, first: Group, second: Group) -> Exchange:
        """What the test of this difference needs."""


class MeanMeasure:
    """A measure that is a mean over rows: flips, or the probability of a label."""

    def __init__(self, name: str, rows: Sequence[PrefixedRow], settings: IntervalSettings) -> None:
        """Read the measure `flip_rate`, `p_gold` or `p_yes` of each row and sentence."""
        self._settings = settings
        self._posts = [row.record.post_id for row in rows]
        self._by_sentence = {
            side: [
                [_read(name, row, row.sides[side][number]) for row in rows]
                for number in range(len(rows[0].sides[side]))
            ]
            for side in rows[0].sides
        }
        self._means = {side: np.mean(by_sentence, axis=0).tolist() for side, by_sentence in self._by_sentence.items()}
        self._plain = [_read(name, row, row.plain) for row in rows]

    @property
    def plain(self) -> float:
        """The value without a prefix."""
        return float(np.mean(self._plain))

    def value(self, side: Group) -> float:
        """The value with the sentences of a side."""
        return float(np.mean(self._means[side]))

    def figure(self, side: Group) -> MeanFigure:
        """The same with its interval over posts."""
        return mean_figures({"value": self._means[side]}, self._posts, self._settings)["value"]

    def difference(self, first: Group, second: Group) -> MeanFigure:
        """The first side less the second."""
        pair = self._means[first], self._means[second]
        return difference_figures({"difference": pair}, self._posts, self._settings)["difference"]

    def exchange(self, first: Group, second: Group) -> Exchange:
        """The scores of each sentence, summed by post."""
        sides = [
            [row_scores(values, self._posts).sums for values in self._by_sentence[side]] for side in (first, second)
        ]
        return exchange_of_scores(*sides)


class F1Measure:
    """Weighted F1, from counts by post; labels of different data sets are different classes."""

    def __init__(self, rows: Sequence[PrefixedRow], settings: IntervalSettings) -> None:
        """Count the likeliest labels with each sentence."""
        self._settings = settings
        self._by_sentence = {
            side: [
                tally_of([(row.record, row.sides[side][number]) for row in rows])
                for number in range(len(rows[0].sides[side]))
            ]
            for side in rows[0].sides
        }
        self._plain = tally_of([(row.record, row.plain) for row in rows])

    @property
    def plain(self) -> float:
        """The value without a prefix."""
        return float(weighted_f1(self._plain.total()))

    def value(self, side: Group) -> float:
        """The metric of the mean counts of the sentences of a side."""
        return float(weighted_f1(self._mean(side).total()))

    def difference(self, first: Group, second: Group) -> MeanFigure:
        """The first side less the second."""
        found = one_seed_difference(self._mean(first), self._mean(second), weighted_f1, self._settings)
        return MeanFigure(found.difference, found.interval)

    def exchange(self, first: Group, second: Group) -> Exchange:
        """The counts with each sentence."""
        return exchange_of_counts(self._by_sentence[first], self._by_sentence[second], weighted_f1)

    def _mean(self, side: Group) -> Tally:
        counts = self._by_sentence[side]
        hits, predicted = (np.mean([getattr(each, name) for each in counts], axis=0) for name in ("hits", "predicted"))
        return Tally(hits, predicted, counts[0].support)


def tally_of(rows: Sequence[tuple[Record, LabelScores]]) -> Tally:
    """Counts by post of the likeliest labels against gold; labels of different data sets are different classes."""
    tasks = {record.dataset: record.task for record, _ in rows}
    return tally(
        [f"{record.dataset}: {record.label}" for record, _ in rows],
        [f"{record.dataset}: {scores.predicted}" for record, scores in rows],
        [record.post_id for record, _ in rows],
        [f"{name}: {label}" for name, task in tasks.items() for label in task.labels],
    )


def _read(measure: str, row: PrefixedRow, scores: LabelScores) -> float:
    if measure == "flip_rate":
        return float(scores.predicted != row.plain.predicted)
    return scores.probabilities[row.record.label if measure == "p_gold" else "yes"]
