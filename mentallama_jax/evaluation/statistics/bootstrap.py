"""Intervals over posts: rows of one post are not independent, so posts are what is drawn.

What is drawn are sums by post (`PostSums`): counts by class for accuracy and F1 (`f1.Tally`), or scores of any kind by
row (`RowScores`). The ends are quantiles of the draws, a little further out than the confidence says, as so few posts
as there are vary less than the posts of the world (Hesterberg 2015, "expanded percentile"). Where the draws cannot show
any width, the interval is exact, see `exact`; no interval is ever without width.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self, TypeVar, cast

import numpy as np
from scipy.special import ndtr, stdtrit

from mentallama_jax.evaluation.statistics.exact import (
    all_right,
    clopper_pearson,
    effective_number,
    exact_interval,
    none_right,
)
from mentallama_jax.evaluation.statistics.f1 import Counts, Tally, TallyMetric

FEW_POSTS = 20
"""With fewer posts than this, intervals are warned about: in simulations they hold the truth too seldom."""

_DRAWS_AT_ONCE = 2_000_000
_NO_WIDTH = 1e-12


class PostSums(Protocol):
    """Sums by post, of which a metric is computed."""

    @property
    def groups(self) -> int:
        """The number of posts."""

    @property
    def sizes(self) -> Counts:
        """The rows of each post, [G]."""

    def weighed(self, weights: Counts) -> Self:
        """The totals when each post counts `weights` [..., G] times."""

    def total(self) -> Self:
        """The totals when each post counts once."""


Sums = TypeVar("Sums", bound=PostSums)


@dataclass(frozen=True, slots=True)
class RowScores:
    """Scores of rows, summed by post: what any metric that is a mean over rows needs.

    Attributes:
        sums: sum of the scores, [G] by post or [...] of totals.
        rows: number of rows, of the same shape.
        bounds: the lowest and the highest score that a row can have; infinite where there is none.
    """

    sums: Counts
    rows: Counts
    bounds: tuple[float, float] = (0.0, 1.0)

    @property
    def groups(self) -> int:
        """The number of posts."""
        return int(self.rows.shape[0])

    @property
    def sizes(self) -> Counts:
        """The rows of each post, [G]."""
        return self.rows

    def weighed(self, weights: Counts) -> "RowScores":
        """The totals when each post counts `weights` [..., G] times."""
        return RowScores(weights @ self.sums, weights @ self.rows, self.bounds)

    def total(self) -> "RowScores":
        """The totals when each post counts once."""
        return RowScores(self.sums.sum(axis=0), self.rows.sum(axis=0), self.bounds)


def row_scores(scores: Sequence[float], posts: Sequence[str], bounds: tuple[float, float] = (0.0, 1.0)) -> RowScores:
    """Sum the score of each row by its post; posts in sorted order."""
    groups, group_R = np.unique(posts, return_inverse=True)
    sums = np.bincount(group_R, np.asarray(scores, dtype=np.float64), len(groups)).astype(np.float64)
    return RowScores(sums, np.bincount(group_R, minlength=len(groups)).astype(np.float64), bounds)


def mean_score(scores: RowScores) -> Counts:
    """The mean over rows, [...]."""
    return scores.sums / scores.rows


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are drawn: `resamples` draws of as many posts as there are, with replacement."""

    resamples: int = 2000
    seed: int = 0
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """Lower and upper end of a metric, and whether they come from draws or are exact."""

    low: float
    high: float
    method: Literal["bootstrap", "exact"]

    @property
    def ends(self) -> tuple[float, float]:
        """Both ends."""
        return self.low, self.high


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference of two metrics on the same rows.

    Attributes:
        difference: the first less the second, in the metric's unit.
        interval: its lower and upper end.
        warning: what to mind of the interval; None where there is nothing.
    """

    difference: float
    interval: tuple[float, float]
    warning: str | None = None


def bootstrap_intervals(
    sums: Sums, metrics: Mapping[str, Callable[[Sums], Counts]], bootstrap: Bootstrap
) -> dict[str, Interval]:
    """Lower and upper end of each metric over resampled posts, the same draws for all metrics.

    Args:
        sums: by post.
        metrics: name -> function from totals to values [...].
        bootstrap: draws, seed and confidence. Equal sums and settings give equal ends.
    """
    drawn: dict[str, list[Counts]] = {name: [] for name in metrics}
    for weights in _draws(sums.groups, bootstrap):
        totals = sums.weighed(weights)
        for name, metric in metrics.items():
            drawn[name].append(metric(totals))
    return {
        name: _interval(sums, metric, np.concatenate(drawn[name]), bootstrap.confidence)
        for name, metric in metrics.items()
    }


def bootstrap_interval(sums: Sums, metric: Callable[[Sums], Counts], bootstrap: Bootstrap) -> Interval:
    """Lower and upper end of one metric, see `bootstrap_intervals`."""
    return bootstrap_intervals(sums, {"metric": metric}, bootstrap)["metric"]


def score_intervals(scores: Mapping[str, RowScores], bootstrap: Bootstrap) -> dict[str, Interval]:
    """The intervals of the means of several scores of the same rows, from the same draws, which are made once."""
    drawn: dict[str, list[Counts]] = {name: [] for name in scores}
    groups = next(iter(scores.values())).groups
    for weights in _draws(groups, bootstrap):
        for name, of_rows in scores.items():
            drawn[name].append(mean_score(of_rows.weighed(weights)))
    return {
        name: _interval(of_rows, mean_score, np.concatenate(drawn[name]), bootstrap.confidence)
        for name, of_rows in scores.items()
    }


def paired_bootstrap(
    first: Sums, second: Sums, metric: Callable[[Sums], Counts], bootstrap: Bootstrap, span: float = 1.0
) -> Difference:
    """The difference `first` less `second` of `metric`, the same posts drawn for both.

    Args:
        first: sums by post.
        second: sums of another model on the same rows, its posts in the same order; classes may differ.
        metric: from totals to values [...].
        bootstrap: as for `bootstrap_intervals`.
        span: the highest value of the metric less the lowest.
    """
    if second.groups != first.groups:
        raise ValueError(f"{first.groups} posts against {second.groups}")
    difference = float(metric(first.total()) - metric(second.total()))
    draws = _draws(first.groups, bootstrap)
    values = np.concatenate([metric(first.weighed(weights)) - metric(second.weighed(weights)) for weights in draws])
    if np.ptp(values) > _NO_WIDTH:
        return Difference(difference, _ends(values, first.groups, bootstrap.confidence), few_posts(first.groups))
    # No post differs from the others. One that does may be as common as a sample without any still allows.
    share = 1 - clopper_pearson(1.0, effective_number(first.sizes), bootstrap.confidence)[0]
    ends = difference - share * (span + difference), difference + share * (span - difference)
    return Difference(difference, ends, few_posts(first.groups))


def few_posts(posts: int) -> str | None:
    """What to say of intervals over so few posts; None where there are enough."""
    if posts >= FEW_POSTS:
        return None
    return f"{posts} posts are few (under {FEW_POSTS}): intervals may be too narrow"


def _interval(sums: Sums, metric: Callable[[Sums], Counts], values: Counts, confidence: float) -> Interval:
    extreme = isinstance(sums, Tally) and (all_right(sums.total()) or none_right(sums.total()))
    if np.ptp(values) > _NO_WIDTH and not extreme:
        return Interval(*_ends(values, sums.groups, confidence), "bootstrap")
    if isinstance(sums, Tally):
        return Interval(*exact_interval(sums, cast(TallyMetric, metric), confidence), "exact")
    low, high = sums.bounds if isinstance(sums, RowScores) else (0.0, 1.0)
    if not np.isfinite(high - low):
        return Interval(low, high, "exact")
    share = (float(metric(sums.total())) - low) / (high - low)
    lower, upper = clopper_pearson(share, effective_number(sums.sizes), confidence)
    return Interval(low + (high - low) * lower, low + (high - low) * upper, "exact")


def _draws(groups: int, bootstrap: Bootstrap) -> Iterator[Counts]:
    """How often each group is drawn, in blocks of [resamples, groups]."""
    generator = np.random.default_rng(bootstrap.seed)
    block = max(1, _DRAWS_AT_ONCE // groups)
    for start in range(0, bootstrap.resamples, block):
        size = min(block, bootstrap.resamples - start)
        drawn = generator.integers(groups, size=(size, groups)) + groups * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * groups).reshape(size, groups).astype(np.float64)


def _ends(values: Counts, groups: int, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    if groups > 1:
        # As a normal interval would use Student's t and divide by n - 1.
        tail = float(ndtr(np.sqrt(groups / (groups - 1)) * stdtrit(groups - 1, tail)))
    low, high = np.quantile(values, (tail, 1 - tail))
    return float(low), float(high)
