"""Figures of probes: means and differences over rows with intervals over posts, and tests that flip posts.

The test of a difference swaps, post by post, what is compared: under the hypothesis that nothing differs, a post's
difference is as likely to have the other sign. The share of draws that differ at least as much as the sample is p.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mentallama_jax.evaluation.statistics.bootstrap import (
    Bootstrap,
    mean_score,
    paired_bootstrap,
    row_scores,
    score_intervals,
)
from mentallama_jax.evaluation.statistics.f1 import Counts, Tally

SWAPS = 9999
"""Draws of the test."""

_NUMBERS_AT_ONCE = 4_000_000
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class MeanFigure:
    """A mean over rows, or a difference of two, with its interval over posts."""

    value: float
    interval: tuple[float, float]


def mean_figures(
    columns: Mapping[str, Sequence[float]], posts: Sequence[str], bootstrap: Bootstrap
) -> dict[str, MeanFigure]:
    """The mean of each column of values from 0 to 1, all intervals from the same draws; nothing of no rows."""
    if not posts:
        return {}
    scores = {name: row_scores(values, posts) for name, values in columns.items()}
    intervals = score_intervals(scores, bootstrap)
    return {
        name: MeanFigure(float(mean_score(of_rows.total())), intervals[name].ends) for name, of_rows in scores.items()
    }


def difference_figures(
    pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]], posts: Sequence[str], bootstrap: Bootstrap
) -> dict[str, MeanFigure]:
    """The mean of the first values less that of the second, row by row; both are from 0 to 1."""
    if not posts:
        return {}
    found = {
        name: paired_bootstrap(row_scores(first, posts), row_scores(second, posts), mean_score, bootstrap)
        for name, (first, second) in pairs.items()
    }
    return {name: MeanFigure(each.difference, each.interval) for name, each in found.items()}


def p_of_differences(
    pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]], posts: Sequence[str], seed: int
) -> dict[str, float]:
    """Two-sided p that the mean difference of each pair is 0, by flipping the signs of posts."""
    sums_GM = np.stack(
        [row_scores(np.subtract(*pair).tolist(), posts, (-1.0, 1.0)).sums for pair in pairs.values()], axis=1
    )
    found_M = np.abs(sums_GM.sum(axis=0))
    as_large_M = np.zeros(len(found_M))
    for swapped_NG in _swaps(sums_GM.shape[0], seed):
        as_large_M += (np.abs((1 - 2 * swapped_NG) @ sums_GM) >= found_M - _ROUNDING).sum(axis=0)
    return dict(zip(pairs, ((1 + as_large_M) / (1 + SWAPS)).tolist(), strict=True))


def p_of_swap(first: Tally, second: Tally, metric: Callable[[Tally], Counts], seed: int) -> float:
    """Two-sided p that a metric of two sets of predictions of the same rows is equal, by swapping posts."""
    one, other = first.total(), second.total()
    found = abs(float(metric(one) - metric(other)))
    as_large = 0
    for swapped_NG in _swaps(first.groups, seed):
        hits_NC = swapped_NG @ (second.hits - first.hits)
        predicted_NC = swapped_NG @ (second.predicted - first.predicted)
        mine = metric(Tally(one.hits + hits_NC, one.predicted + predicted_NC, one.support))
        theirs = metric(Tally(other.hits - hits_NC, other.predicted - predicted_NC, other.support))
        as_large += int((np.abs(mine - theirs) >= found - _ROUNDING).sum())
    return (1 + as_large) / (1 + SWAPS)


def holm(values: Sequence[float]) -> list[float]:
    """The p of tests made together, corrected by Holm's method (1979), in their order."""
    corrected, highest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda place: values[place])):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = highest
    return corrected


def scaled(counts: Tally, factor: float) -> Tally:
    """Counts of several variants of the same rows as those of one."""
    return Tally(counts.hits * factor, counts.predicted * factor, counts.support * factor)


def _swaps(groups: int, seed: int) -> Iterator[Counts]:
    """Which posts are swapped, 0 or 1, in blocks of [draws, groups]."""
    generator = np.random.default_rng(seed)
    block = max(1, _NUMBERS_AT_ONCE // groups)
    for start in range(0, SWAPS, block):
        yield generator.integers(2, size=(min(block, SWAPS - start), groups)).astype(np.float64)
