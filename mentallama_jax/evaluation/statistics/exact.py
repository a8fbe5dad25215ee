"""Exact intervals, for samples in which nothing varies between posts, so that resampling them cannot show any width.

The number of independent observations is that of posts, not of rows: n / (1 + (m - 1) ICC), for n rows with m of them a
post. Where nothing varies the ICC cannot be estimated. It is then taken as 1, the most cautious value; for posts of
different sizes that leaves (sum of sizes)^2 / (sum of squared sizes) observations.

Where all rows are right, the lower end of accuracy is that of Clopper and Pearson: the smallest chance of being right
under which such a sample still has the probability of the tail. F1 is treated in the same way: its lower end is the
smallest F1 of any chances by class under which the sample has that probability. For weighted F1 that is close to the
lower end of accuracy. For macro F1 it is lower, as a class of three posts says little about itself. Where all rows are
wrong, the upper end is found likewise.

Shape suffixes: G groups (posts), C classes, N candidates.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from mentallama_jax.evaluation.statistics.f1 import Counts, Tally, TallyMetric


def effective_number(sizes_G: Counts) -> float:
    """Independent observations that groups of these sizes amount to, with an ICC of 1."""
    squares = float((sizes_G**2).sum())
    return float(sizes_G.sum()) ** 2 / squares if squares else 0.0


def clopper_pearson(share: float, observations: float, confidence: float) -> tuple[float, float]:
    """The exact interval of a share; `observations`, and the successes among them, need not be whole numbers."""
    tail = (1 - confidence) / 2
    hits, misses = share * observations, (1 - share) * observations
    low = float(betaincinv(hits, misses + 1, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, misses, 1 - tail)) if misses > 0 else 1.0
    return low, high


def exact_interval(counts: Tally, metric: TallyMetric, confidence: float) -> tuple[float, float]:
    """Lower and upper end of a metric of counts by post [G, C] in which nothing varies between posts."""
    total = counts.total()
    value = float(metric(total))
    tail = (1 - confidence) / 2
    if all_right(total):
        return float(metric(_still_possible_if_right(counts, tail)).min()), value
    if none_right(total):
        return value, float(metric(_still_possible_if_wrong(counts, tail)).max())
    return clopper_pearson(value, effective_number(counts.sizes), confidence)


def all_right(total: Tally) -> bool:
    """Whether every row is right, of totals [C]."""
    return bool((total.hits == total.support).all())


def none_right(total: Tally) -> bool:
    """Whether every row is wrong, of totals [C]."""
    return not total.hits.any()


def _still_possible_if_right(counts: Tally, tail: float) -> Tally:
    """Populations [N, C] in which a sample without an error has the probability `tail`.

    In the first, all classes have the same chance. In the others one class alone has errors, and each is taken for
    one other class, or for none.
    """
    support_C = counts.total().support
    number = support_C.shape[0]
    hits_NC = [support_C * tail ** (1 / effective_number(counts.sizes))]
    predicted_NC = [support_C]
    for place in np.flatnonzero(support_C):
        errors = support_C[place] * (1 - tail ** (1 / effective_number(counts.support[:, place])))
        for other in range(number):
            hits_C, predicted_C = support_C.copy(), support_C.copy()
            hits_C[place] -= errors
            predicted_C[place] -= errors
            if other != place:
                predicted_C[other] += errors
            hits_NC.append(hits_C)
            predicted_NC.append(predicted_C)
    return _stacked(hits_NC, predicted_NC, support_C)


def _still_possible_if_wrong(counts: Tally, tail: float) -> Tally:
    """Populations [N, C] in which a sample without a right row has the probability `tail`."""
    total = counts.total()
    support_C, rows = total.support, total.support.sum()
    chance = 1 - tail ** (1 / effective_number(counts.sizes))
    hits_NC = [support_C * chance]
    for place in np.flatnonzero(support_C):
        hits_C = np.zeros_like(support_C)
        hits_C[place] = support_C[place] * (1 - tail ** (1 / effective_number(counts.support[:, place])))
        hits_NC.append(hits_C)
    # The rows that would be right no longer count as wrong predictions.
    predicted_NC = [total.predicted * (1 - hits_C.sum() / rows) + hits_C for hits_C in hits_NC]
    return _stacked(hits_NC, predicted_NC, support_C)


def _stacked(hits: list[Counts], predicted: list[Counts], support_C: Counts) -> Tally:
    hits_NC: NDArray[np.float64] = np.stack(hits)
    return Tally(hits_NC, np.stack(predicted), np.broadcast_to(support_C, hits_NC.shape))
