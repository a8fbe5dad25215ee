"""Bootstrap intervals over posts: rows of one post are not independent, so posts are what is drawn."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mentallama_jax.evaluation.metrics import Counts, Metric, Tally

_DRAWS_AT_ONCE = 2_000_000


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are drawn: percentile intervals of `resamples` draws of as many posts, with replacement."""

    resamples: int = 2000
    seed: int = 0
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference of two metrics on the same rows.

    Attributes:
        difference: the first less the second, in the metric's unit.
        interval: its lower and upper end.
    """

    difference: float
    interval: tuple[float, float]


def bootstrap_interval(counts: Tally, metric: Metric, bootstrap: Bootstrap) -> tuple[float, float]:
    """Lower and upper end of `metric` over resampled posts.

    Args:
        counts: by post, [G, C].
        metric: from counts [..., C] to values [...].
        bootstrap: draws, seed and confidence. Equal counts and settings give equal ends.
    """
    draws = _draws(counts.support.shape[0], bootstrap)
    return _ends(np.concatenate([metric(counts.weighed(weights)) for weights in draws]), bootstrap)


def paired_bootstrap(first: Tally, second: Tally, metric: Metric, bootstrap: Bootstrap) -> Difference:
    """The difference `first` less `second` of `metric`, the same posts drawn for both.

    Args:
        first: counts by post, [G, C].
        second: counts of another model on the same rows, its posts in the same order; classes may differ.
        metric: from counts [..., C] to values [...].
        bootstrap: as for `bootstrap_interval`.
    """
    posts = first.support.shape[0]
    if second.support.shape[0] != posts:
        raise ValueError(f"{posts} posts against {second.support.shape[0]}")
    draws = _draws(posts, bootstrap)
    values = np.concatenate([metric(first.weighed(weights)) - metric(second.weighed(weights)) for weights in draws])
    return Difference(float(metric(first.total()) - metric(second.total())), _ends(values, bootstrap))


def _draws(groups: int, bootstrap: Bootstrap) -> Iterator[Counts]:
    """How often each group is drawn, in blocks of [resamples, groups]."""
    generator = np.random.default_rng(bootstrap.seed)
    block = max(1, _DRAWS_AT_ONCE // groups)
    for start in range(0, bootstrap.resamples, block):
        size = min(block, bootstrap.resamples - start)
        drawn = generator.integers(groups, size=(size, groups)) + groups * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * groups).reshape(size, groups).astype(np.float64)


def _ends(values: Counts, bootstrap: Bootstrap) -> tuple[float, float]:
    tail = (1 - bootstrap.confidence) / 2
    low, high = np.quantile(values, (tail, 1 - tail))
    return float(low), float(high)
