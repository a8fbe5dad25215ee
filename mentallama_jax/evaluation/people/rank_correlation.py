"""Spearman's and Kendall's rank correlation (tau-b), of one sample or of many at once.

Each row has a weight: how often its post counts. Ranks are those of the weighed rows, with the mean rank for ties. With
all weights 1 the numbers are those of `scipy.stats.spearmanr` and `kendalltau`.

Shape suffixes: R rows, G groups (posts), L different values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mentallama_jax.evaluation.statistics.estimates import Estimate, estimates
from mentallama_jax.evaluation.statistics.f1 import Counts
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings

_NO_VARIANCE = 1e-12


@dataclass(frozen=True, slots=True)
class RowPair:
    """Two scores of each row.

    Attributes:
        first_R: the one.
        second_R: the other.
        post_R: the number of the row's post.
    """

    first_R: Counts
    second_R: Counts
    post_R: NDArray[np.int64]

    def constant(self) -> bool:
        """Whether one of the scores is the same in all rows, so that nothing can be correlated with it."""
        return len(self.post_R) < 2 or not np.ptp(self.first_R) or not np.ptp(self.second_R)


@dataclass(frozen=True, slots=True)
class RankedPairs:
    """Pairs of scores over the same posts, and how often each post counts; see `intervals.PostSums`.

    Attributes:
        pairs: a figure is the mean of its correlations over them.
        sizes: rows of each post, [G].
        weights: how often each post counts, [..., G].
    """

    pairs: tuple[RowPair, ...]
    sizes: Counts
    weights: Counts

    @property
    def groups(self) -> int:
        """The number of posts."""
        return int(self.sizes.shape[0])

    def weighed(self, weights: Counts) -> "RankedPairs":
        """The rows when each post counts `weights` [..., G] times."""
        return replace(self, weights=weights)

    def total(self) -> "RankedPairs":
        """The rows when each post counts once."""
        return replace(self, weights=np.ones(self.groups))


def ranked_pairs(scores: Sequence[tuple[Sequence[float], Sequence[float], Sequence[str]]]) -> RankedPairs:
    """Pairs of scores, each with the posts of its rows."""
    posts = np.unique([post for *_, of_rows in scores for post in of_rows])
    pairs = tuple(
        RowPair(
            np.asarray(first, dtype=np.float64),
            np.asarray(second, dtype=np.float64),
            np.searchsorted(posts, np.asarray(of_rows)).astype(np.int64),
        )
        for first, second, of_rows in scores
    )
    sizes = sum(
        (np.bincount(pair.post_R, minlength=len(posts)) for pair in pairs), np.zeros(len(posts), dtype=np.int64)
    )
    return RankedPairs(pairs, sizes / max(1, len(pairs)), np.ones(len(posts)))


def mean_spearman(ranked: RankedPairs) -> Counts:
    """The mean over the pairs of Spearman's correlation, [...]."""
    return _mean([spearman(pair, ranked.weights) for pair in ranked.pairs])


def mean_kendall(ranked: RankedPairs) -> Counts:
    """The mean over the pairs of Kendall's tau-b, [...]."""
    return _mean([kendall(pair, ranked.weights) for pair in ranked.pairs])


def spearman(pair: RowPair, weights: Counts) -> Counts:
    """Spearman's correlation, [...], with posts weighed by `weights` [..., G]; 0 where nothing varies."""
    weight_R = weights[..., pair.post_R]
    rows = weight_R.sum(axis=-1, keepdims=True)
    # The mean of ranks 1 to n is (n + 1) / 2 with ties too.
    first_R = _ranks(pair.first_R, weight_R) - (rows + 1) / 2
    second_R = _ranks(pair.second_R, weight_R) - (rows + 1) / 2
    weighed_R = weight_R * first_R
    covariance = (weighed_R * second_R).sum(axis=-1)
    variances = (weighed_R * first_R).sum(axis=-1) * (weight_R * second_R**2).sum(axis=-1)
    return _ratio(covariance, np.sqrt(variances))


def kendall(pair: RowPair, weights: Counts) -> Counts:
    """Kendall's tau-b, [...], with posts weighed by `weights` [..., G]; 0 where nothing varies."""
    weight_R = weights[..., pair.post_R]
    order = np.sign(pair.first_R[:, None] - pair.first_R) * np.sign(pair.second_R[:, None] - pair.second_R)
    concordant = ((weight_R @ order) * weight_R).sum(axis=-1)
    every = weight_R.sum(axis=-1) ** 2
    untied = [every - (_by_value(of_row, weight_R)[0] ** 2).sum(axis=-1) for of_row in (pair.first_R, pair.second_R)]
    return _ratio(concordant, np.sqrt(untied[0] * untied[1]))


def intervals(
    ranked: RankedPairs, figures: dict[str, Callable[[RankedPairs], Counts]], settings: IntervalSettings
) -> dict[str, Estimate]:
    """Each figure with its interval over posts, which does not pass the figure's own ends of -1 and 1."""
    values = {name: float(figure(ranked.total())) for name, figure in figures.items()}
    # Exact intervals are of shares: of a sample that is ordered the wrong way round, the other side is taken.
    signs = {name: -1.0 if value < 0 else 1.0 for name, value in values.items()}

    def turned(name: str) -> Callable[[RankedPairs], Counts]:
        return lambda weighed: signs[name] * figures[name](weighed)

    found = estimates(ranked, {name: turned(name) for name in figures}, settings)
    return {
        name: Estimate(values[name], _within(found[name].interval, signs[name]), found[name].method) for name in figures
    }


def _within(ends: tuple[float, float] | None, sign: float) -> tuple[float, float] | None:
    if ends is None:
        return None
    low, high = sorted(sign * end for end in ends)
    return max(-1.0, low), min(1.0, high)


def _ranks(value_R: Counts, weight_R: Counts) -> Counts:
    """The rank of each row, from 1, when rows count `weight_R` times; ties share their mean rank."""
    weight_L, inverse = _by_value(value_R, weight_R)
    return (np.cumsum(weight_L, axis=-1) - (weight_L - 1) / 2)[..., inverse]


def _by_value(value_R: Counts, weight_R: Counts) -> tuple[Counts, NDArray[np.intp]]:
    """The weight of each different value in rising order, [..., L], and the place of each row's value among them."""
    order = np.argsort(value_R, kind="stable")
    known, inverse = np.unique(value_R, return_inverse=True)
    starts = np.searchsorted(value_R[order], known)
    return np.add.reduceat(weight_R[..., order], starts, axis=-1), inverse


def _mean(found: list[Counts]) -> Counts:
    return np.asarray(np.mean(found, axis=0))


def _ratio(numerator: Counts, denominator: Counts) -> Counts:
    out = np.zeros(np.shape(denominator))
    found = np.divide(numerator, denominator, out=out, where=np.asarray(denominator) > _NO_VARIANCE)
    return np.asarray(np.clip(found, -1.0, 1.0))
