"""Intervals over posts: rows of one post are not independent, so a figure's variance is taken over posts.

The variance is that of the jackknife: the figure of the sample with one post left out, for each post in turn. It is
made a number of independent observations, those of a share with the same variance, and the interval is Wilson's of
such a share, with Student's t for few posts. Differences, and figures without bounds, have the interval of Student's t.

A few posts with an error say little about how errors stand together in a post, and the variance of a sample with few of
them is too small too often. So half a post of the variance that rows would have if those of a post always
agreed is added to what the sample says. The weight of the latter is the number of posts that its variance rests on.
Where each post is all right or all wrong the variance follows from the figure, and Student's t is not needed.

Where all rows are right or none is the interval is exact, see `exact`; no interval is ever without width.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self, TypeVar, cast

import numpy as np
from scipy.special import stdtrit

from mentallama_jax.evaluation.statistics.exact import (
    all_right,
    clopper_pearson,
    effective_number,
    exact_interval,
    none_right,
)
from mentallama_jax.evaluation.statistics.f1 import Counts, Tally, TallyMetric, macro_f1
from mentallama_jax.evaluation.statistics.jackknife import Spread, left_out, spread_of
from mentallama_jax.evaluation.statistics.rare_classes import macro_f1_unseen_variance

FEW_POSTS = 20
"""With fewer posts than this, intervals are warned about: in simulations they hold the truth too seldom."""

_PRIOR_POSTS = 0.5


class PostSums(Protocol):
    """Sums by post, of which a metric is computed.

    They may have `bounds`, the lowest and the highest value of the metric: then its interval is Wilson's, else
    Student's.
    """

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
        squares: sum of the squared scores, of the same shape; None where they are not known.
    """

    sums: Counts
    rows: Counts
    bounds: tuple[float, float] = (0.0, 1.0)
    squares: Counts | None = None

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
        squares = None if self.squares is None else weights @ self.squares
        return RowScores(weights @ self.sums, weights @ self.rows, self.bounds, squares)

    def total(self) -> "RowScores":
        """The totals when each post counts once."""
        squares = None if self.squares is None else self.squares.sum(axis=0)
        return RowScores(self.sums.sum(axis=0), self.rows.sum(axis=0), self.bounds, squares)


def row_scores(scores: Sequence[float], posts: Sequence[str], bounds: tuple[float, float] = (0.0, 1.0)) -> RowScores:
    """Sum the score of each row by its post; posts in sorted order."""
    groups, group_R = np.unique(posts, return_inverse=True)
    score_R = np.asarray(scores, dtype=np.float64)

    def summed(value_R: Counts | None) -> Counts:
        return np.bincount(group_R, value_R, len(groups)).astype(np.float64)

    return RowScores(summed(score_R), summed(None), bounds, summed(score_R**2))


def mean_score(scores: RowScores) -> Counts:
    """The mean over rows, [...]."""
    return scores.sums / scores.rows


@dataclass(frozen=True, slots=True)
class IntervalSettings:
    """How sure intervals are: the share of samples whose interval shall hold the truth."""

    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """Lower and upper end of a metric, and how they were found.

    Attributes:
        low: the lower end.
        high: the upper end.
        method: "wilson": Wilson's interval of a share; "t": Student's t, of a figure without bounds; "exact": of
            Clopper and Pearson, where all posts are alike.
    """

    low: float
    high: float
    method: Literal["wilson", "t", "exact"]

    @property
    def ends(self) -> tuple[float, float]:
        """Both ends."""
        return self.low, self.high


def finite_ends(ends: tuple[float, float]) -> tuple[float, float] | None:
    """Both ends; None where one is infinite: nothing varies, and the figure has no bounds."""
    return ends if all(map(math.isfinite, ends)) else None


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference of two metrics on the same rows.

    Attributes:
        difference: the first less the second, in the metric's unit.
        interval: its lower and upper end.
        warning: what to mind of the interval; None where there is nothing.
        post_variance: variance of the difference over posts, by the jackknife.
        seed_variance: variance of the difference over the seeds of the systems; 0 where each has one.
        freedom: degrees of freedom of their sum.
        seed_freedom: degrees of freedom of the seed variance; infinite where there is none.
    """

    difference: float
    interval: tuple[float, float]
    warning: str | None = None
    post_variance: float = 0.0
    seed_variance: float = 0.0
    freedom: float = 1.0
    seed_freedom: float = math.inf

    @property
    def error(self) -> float:
        """The standard error of the difference."""
        return float(np.sqrt(self.post_variance + self.seed_variance))


def metric_intervals(
    sums: Sums, metrics: Mapping[str, Callable[[Sums], Counts]], settings: IntervalSettings
) -> dict[str, Interval]:
    """Lower and upper end of each metric.

    Args:
        sums: by post.
        metrics: name -> function from totals to values [...].
        settings: the confidence.
    """
    found: dict[str, list[Counts]] = {name: [] for name in metrics}
    for weights in left_out(sums.groups):
        totals = sums.weighed(weights)
        for name, metric in metrics.items():
            found[name].append(metric(totals))
    return {
        name: _interval(sums, metric, np.concatenate(found[name]), settings.confidence)
        for name, metric in metrics.items()
    }


def metric_interval(sums: Sums, metric: Callable[[Sums], Counts], settings: IntervalSettings) -> Interval:
    """Lower and upper end of one metric, see `metric_intervals`."""
    return metric_intervals(sums, {"metric": metric}, settings)["metric"]


def score_intervals(scores: Mapping[str, RowScores], settings: IntervalSettings) -> dict[str, Interval]:
    """The intervals of the means of several scores."""
    return {name: metric_interval(of_rows, mean_score, settings) for name, of_rows in scores.items()}


def one_seed_difference(
    first: Sums, second: Sums, metric: Callable[[Sums], Counts], settings: IntervalSettings, span: float = 1.0
) -> Difference:
    """The difference `first` less `second` of one seed each, see `paired_difference`."""
    return paired_difference([first], [second], metric, settings, span)


def paired_difference(
    first: Sequence[Sums],
    second: Sequence[Sums],
    metric: Callable[[Sums], Counts],
    settings: IntervalSettings,
    span: float = 1.0,
) -> Difference:
    """The difference `first` less `second` of `metric`, with the interval of Student's t over posts and seeds.

    Args:
        first: sums by post of each seed of a system; its figure is the mean over seeds.
        second: those of another system on the same rows, posts in the same order; classes may differ.
        metric: from totals to values [...].
        settings: the confidence.
        span: the highest value of the metric less the lowest.
    """
    posts = first[0].groups
    for sums in (*first, *second):
        if sums.groups != posts:
            raise ValueError(f"{posts} posts against {sums.groups}")
    ours, theirs = ([float(metric(sums.total())) for sums in seeds] for seeds in (first, second))
    difference = float(np.mean(ours) - np.mean(theirs))
    spread = spread_of(
        np.concatenate(
            [_mean_of(first, metric, weights) - _mean_of(second, metric, weights) for weights in left_out(posts)]
        )
    )
    of_seeds = [
        (float(np.var(values, ddof=1)) / len(values), len(values) - 1) for values in (ours, theirs) if len(values) > 1
    ]
    seed_variance = sum(variance for variance, _ in of_seeds)
    if spread.is_none and not seed_variance:
        # No post differs from the others. One that does may be as common as a sample without any still allows.
        share = 1 - clopper_pearson(1.0, effective_number(first[0].sizes), settings.confidence)[0]
        ends = difference - share * (span + difference), difference + share * (span - difference)
        return Difference(difference, ends, few_posts(posts))
    parts = [(spread.variance, spread.freedom), *of_seeds]
    freedom = _joint_freedom(parts)
    margin = _quantile(freedom, settings.confidence) * float(np.sqrt(spread.variance + seed_variance))
    ends = max(difference - margin, -span), min(difference + margin, span)
    seed_freedom = _joint_freedom(of_seeds)
    return Difference(difference, ends, few_posts(posts), spread.variance, seed_variance, freedom, seed_freedom)


def _joint_freedom(parts: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of variances, each with its own, by Welch and Satterthwaite; infinite for none."""
    squares = sum(variance**2 / own for variance, own in parts if variance)
    return sum(variance for variance, _ in parts) ** 2 / squares if squares else math.inf


def few_posts(posts: int) -> str | None:
    """What to say of intervals over so few posts; None where there are enough."""
    if posts >= FEW_POSTS:
        return None
    return f"{posts} posts are few (under {FEW_POSTS}): intervals may be too narrow"


def _interval(sums: Sums, metric: Callable[[Sums], Counts], values: Counts, confidence: float) -> Interval:
    """The interval of a metric of which `values` are those with a post left out."""
    if isinstance(sums, Tally) and (all_right(sums.total()) or none_right(sums.total())):
        return Interval(*exact_interval(sums, cast(TallyMetric, metric), confidence), "exact")
    value, spread = float(metric(sums.total())), spread_of(values)
    low, high = _bounds(sums, spread)
    span = high - low
    if not np.isfinite(span):
        ends = (low, high) if spread.is_none else _student(value, spread, (low, high), confidence)
        return Interval(*ends, "exact" if spread.is_none else "t")
    share = min(max((value - low) / span, 0.0), 1.0)
    unseen = macro_f1_unseen_variance(sums) if metric is macro_f1 and isinstance(sums, Tally) else 0.0
    variance = unseen + (0.0 if spread.is_none else _with_prior(spread, sums, share, span))
    if 0 < share < 1 and variance and sums.groups > 1:
        lower, upper = wilson(share, share * (1 - share) / variance, _quantile(_freedom(spread, sums), confidence))
        return Interval(low + span * lower, low + span * upper, "wilson")
    lower, upper = clopper_pearson(share, _fewest(sums), confidence)
    return Interval(low + span * lower, low + span * upper, "exact")


def _bounds(sums: PostSums, spread: Spread) -> tuple[float, float]:
    """The bounds of a metric: 0 and 1 of labels; of other sums their own, and none where they do not tell them."""
    if isinstance(sums, Tally) or (spread.is_none and not hasattr(sums, "bounds")):
        return 0.0, 1.0
    low, high = getattr(sums, "bounds", (-np.inf, np.inf))
    return float(low), float(high)


def wilson(share: float, observations: float, quantile: float) -> tuple[float, float]:
    """Wilson's interval of a share; `observations` need not be a whole number."""
    shrunk = 1 + quantile**2 / observations
    middle = (share + quantile**2 / (2 * observations)) / shrunk
    margin = np.sqrt(share * (1 - share) / observations + (quantile / (2 * observations)) ** 2) * quantile / shrunk
    return max(float(middle - margin), 0.0), min(float(middle + margin), 1.0)


def _mean_of(seeds: Sequence[Sums], metric: Callable[[Sums], Counts], weights: Counts) -> Counts:
    return np.asarray(sum(metric(sums.weighed(weights)) for sums in seeds) / len(seeds))


def _student(value: float, spread: Spread, bounds: tuple[float, float], confidence: float) -> tuple[float, float]:
    margin = _quantile(spread.freedom, confidence) * np.sqrt(spread.variance)
    return max(float(value - margin), bounds[0]), min(float(value + margin), bounds[1])


def _with_prior(spread: Spread, sums: PostSums, share: float, span: float) -> float:
    """The variance of a share over posts, with half a post of rows that always agree in a post."""
    variance, of_rows = spread.variance / span**2, share * (1 - share)
    if isinstance(sums, RowScores):
        total = sums.total()
        if total.squares is None:
            return variance
        of_rows = float(total.squares / total.rows - (total.sums / total.rows) ** 2) / span**2
    agreeing = of_rows / effective_number(sums.sizes)
    return (spread.posts * variance + _PRIOR_POSTS * agreeing) / (spread.posts + _PRIOR_POSTS)


def _fewest(sums: PostSums) -> float:
    """Independent observations: of the rarest class, where a figure may be of one class alone."""
    if not isinstance(sums, Tally):
        return effective_number(sums.sizes)
    return min(effective_number(size_G) for size_G in sums.support.T if size_G.any())


def _freedom(spread: Spread, sums: PostSums) -> float:
    """Degrees of freedom of the variance: without limit where it follows from the figure."""
    if isinstance(sums, Tally):
        hits, most = sums.hits.sum(axis=-1), sums.sizes
    elif isinstance(sums, RowScores):
        if not _right_or_wrong(sums):
            return spread.freedom
        hits, most = sums.sums - sums.bounds[0] * sums.rows, (sums.bounds[1] - sums.bounds[0]) * sums.rows
    else:
        return spread.blocks - 1
    alike = bool(((hits == 0) | (hits == most)).all()) and bool((sums.sizes == sums.sizes[0]).all())
    return np.inf if alike else spread.blocks - 1


def _right_or_wrong(sums: RowScores) -> bool:
    """Whether each row has the lowest or the highest score."""
    if sums.squares is None:
        return False
    low, high = sums.bounds
    return bool(np.allclose(sums.squares - (low + high) * sums.sums + low * high * sums.rows, 0))


def _quantile(freedom: float, confidence: float) -> float:
    """Return the two-sided quantile of Student's t."""
    return -float(stdtrit(freedom, (1 - confidence) / 2))
