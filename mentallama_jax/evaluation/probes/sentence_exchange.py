"""Tests whether two sets of sentences do the same to posts: in each post, sentences change sides by chance.

If what a sentence says does not matter, each sentence of a post could as well stand on the other side. So the sentences
of both sides are dealt out anew, post by post, as many to each side as before. The share of draws that differ at least
as much as the sample is p. Posts stay whole, as their rows are not independent. Flipping signs of differences instead
would reject too often: one sentence against the mean of several is skewed where flips are rare.

Shape suffixes: M and K sentences of the sides, J both, G posts, V values, N draws.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mentallama_jax.evaluation.statistics.f1 import Counts, Tally

DRAWS = 9999
"""Draws of a test."""

_NUMBERS_AT_ONCE = 8_000_000
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Exchange:
    """What two sets of sentences do to the same posts.

    Attributes:
        first_MGV: sums by post of whatever the statistic is made of, for each sentence of one side.
        second_KGV: of the other side.
        statistic: totals over posts [..., V] of a mean sentence -> a value [...]; its difference is tested.
    """

    first_MGV: Counts
    second_KGV: Counts
    statistic: Callable[[Counts], Counts]


def exchange_of_scores(first: Sequence[Counts], second: Sequence[Counts]) -> Exchange:
    """Compare scores, summed by post [G] for each sentence."""
    return Exchange(np.stack(first)[..., None], np.stack(second)[..., None], lambda totals_V: totals_V[..., 0])


def exchange_of_counts(first: Sequence[Tally], second: Sequence[Tally], metric: Callable[[Tally], Counts]) -> Exchange:
    """Compare a metric of the counts by post of the predictions with each sentence; all have the same gold."""
    support_C = first[0].total().support
    number = len(support_C)

    def statistic(totals_V: Counts) -> Counts:
        hits, predicted = totals_V[..., :number], totals_V[..., number:]
        return metric(Tally(hits, predicted, np.broadcast_to(support_C, hits.shape)))

    sides = [
        np.stack([np.concatenate([each.hits, each.predicted], axis=-1) for each in side]) for side in (first, second)
    ]
    return Exchange(sides[0], sides[1], statistic)


def p_of_exchanges(exchanges: Sequence[Exchange], seed: int) -> list[float]:
    """Two-sided p of each; those of equal shape share their draws, which makes them correlated as the sentences are."""
    found = [0.0] * len(exchanges)
    alike: dict[tuple[int, int, int], list[int]] = {}
    for place, each in enumerate(exchanges):
        alike.setdefault((len(each.first_MGV), len(each.second_KGV), each.first_MGV.shape[1]), []).append(place)
    for (M, K, G), at in alike.items():
        # As many at once as fit: what they share is drawn once for all of them.
        numbers = (M + K) * G * max(exchanges[place].first_MGV.shape[-1] for place in at)
        size = max(1, _NUMBERS_AT_ONCE // numbers)
        for start in range(0, len(at), size):
            part = at[start : start + size]
            for place, p in zip(part, _tested([exchanges[place] for place in part], M, K, G, seed), strict=True):
                found[place] = p
    return found


def _tested(exchanges: Sequence[Exchange], M: int, K: int, G: int, seed: int) -> list[float]:
    both = [np.concatenate([each.first_MGV, each.second_KGV]) for each in exchanges]
    totals = [values_JGV.sum(axis=(0, 1)) for values_JGV in both]

    def differences(place: int, played_NV: Counts) -> Counts:
        statistic = exchanges[place].statistic
        return np.abs(statistic(played_NV / M) - statistic((totals[place] - played_NV) / K))

    observed = [differences(place, each.first_MGV.sum(axis=(0, 1))) for place, each in enumerate(exchanges)]
    as_large = [0] * len(exchanges)
    widths = np.cumsum([0, *(values.shape[-1] for values in both)])
    values_JGV = np.concatenate(both, axis=-1)
    for sides_NJG in _dealt(M, M + K, G, seed):
        played_NV = sides_NJG.reshape(len(sides_NJG), -1) @ values_JGV.reshape(-1, values_JGV.shape[-1])
        for place, (start, stop) in enumerate(pairwise(widths)):
            drawn_N = differences(place, played_NV[:, start:stop])
            as_large[place] += int((drawn_N >= observed[place] - _ROUNDING).sum())
    return [(1 + count) / (1 + DRAWS) for count in as_large]


def _dealt(M: int, J: int, G: int, seed: int) -> Iterator[Counts]:
    """Which sentences play the first side in each post, 0 or 1, in blocks of [N, J, G]; M of J do."""
    generator = np.random.default_rng((seed, M, J))
    block = max(1, _NUMBERS_AT_ONCE // (J * G))
    for start in range(0, DRAWS, block):
        shape = (min(block, DRAWS - start), J, G)
        if M == 1:
            chosen_NG = generator.integers(J, size=(shape[0], G))
            yield (chosen_NG[:, None] == np.arange(J)[:, None]).astype(np.float64)
        else:
            order_NJG = generator.random(shape).argsort(axis=1)
            yield (order_NJG < M).astype(np.float64)
