"""Krippendorff's alpha: how far annotators agree beyond chance, with any number of annotators and with gaps.

A unit is one marked answer. Each pair of marks within a unit adds to a table of coincidences o[c, k]; with n[c] its
margins and n their sum, alpha = 1 - (n - 1) sum(o d2) / sum(n[c] n[k] d2). The squared difference d2 of two marks is,
for ordinal marks, the number of marks between them: (sum of n from c to k, less half of n[c] and n[k]) squared.
Units with fewer than two marks count for nothing. (Krippendorff 2011, Computing Krippendorff's Alpha-Reliability.)

Shape suffixes: U units, G groups (posts), V different marks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mentallama_jax.evaluation.statistics.f1 import Counts

Level = Literal["nominal", "ordinal", "interval"]
Marks = Sequence[float | None]
"""The marks of one answer, one an annotator; None where there is none."""


@dataclass(frozen=True, slots=True)
class Coincidences:
    """Coincidences of marks, summed by post; see `intervals.PostSums`.

    Attributes:
        table: [G, V, V] by post or [..., V, V] of totals.
        sizes: units of each post, [G].
        values: the different marks in rising order, [V].
    """

    table: Counts
    sizes: Counts
    values: Counts

    @property
    def groups(self) -> int:
        """The number of posts."""
        return int(self.sizes.shape[0])

    def weighed(self, weights: Counts) -> "Coincidences":
        """The totals when each post counts `weights` [..., G] times."""
        return Coincidences(np.tensordot(weights, self.table, axes=1), self.sizes, self.values)

    def total(self) -> "Coincidences":
        """The totals when each post counts once."""
        return self.weighed(np.ones(self.groups))


def coincidences(marks: Sequence[Marks], posts: Sequence[str]) -> Coincidences | None:
    """Count the coincidences of marks within units; None where no unit has two marks, or all marks are equal.

    Args:
        marks: of each unit.
        posts: post of each unit.
    """
    paired = [(given, post) for unit, post in zip(marks, posts, strict=True) if len(given := _given(unit)) > 1]
    values = np.unique([mark for given, _ in paired for mark in given])
    if len(values) < 2:
        return None
    groups, group_U = np.unique([post for _, post in paired], return_inverse=True)
    table = np.zeros((len(groups), len(values), len(values)))
    for (given, _), group in zip(paired, group_U, strict=True):
        count_V = np.bincount(np.searchsorted(values, given), minlength=len(values)).astype(np.float64)
        table[group] += (np.outer(count_V, count_V) - np.diag(count_V)) / (len(given) - 1)
    return Coincidences(table, np.bincount(group_U).astype(np.float64), values)


def alpha(counts: Coincidences, level: Level = "ordinal") -> Counts:
    """Krippendorff's alpha, [...]; 1 where all marks are equal, as nobody disagrees there."""
    margin_V = counts.table.sum(axis=-1)
    every = margin_V.sum(axis=-1)
    squared = _squared_differences(margin_V, counts.values, level)
    observed = (counts.table * squared).sum(axis=(-1, -2))
    expected = (margin_V[..., :, None] * margin_V[..., None, :] * squared).sum(axis=(-1, -2))
    share = np.divide((every - 1) * observed, expected, out=np.zeros(np.shape(expected)), where=expected > 0)
    return np.asarray(1 - share)


def _squared_differences(margin_V: Counts, values: Counts, level: Level) -> Counts:
    if level == "nominal":
        return 1 - np.eye(len(values))
    if level == "interval":
        return (values[:, None] - values) ** 2
    middle_V = np.cumsum(margin_V, axis=-1) - margin_V / 2
    return np.asarray((middle_V[..., :, None] - middle_V[..., None, :]) ** 2)


def _given(marks: Marks) -> list[float]:
    return [mark for mark in marks if mark is not None]
