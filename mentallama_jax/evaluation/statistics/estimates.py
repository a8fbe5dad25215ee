"""A figure with its interval, as sections of JSON files hold it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mentallama_jax.evaluation.statistics.f1 import Counts
from mentallama_jax.evaluation.statistics.intervals import (
    Interval,
    IntervalSettings,
    RowScores,
    Sums,
    finite_ends,
    mean_score,
    metric_intervals,
    score_intervals,
)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure.

    Attributes:
        value: its value on all rows.
        interval: lower and upper end, over posts; None where nothing varies and the figure has no bounds.
        method: how the ends were found, see `statistics.intervals.Interval`.
    """

    value: float
    interval: tuple[float, float] | None
    method: str


def estimate(value: float, interval: Interval) -> Estimate:
    """A figure with the interval that was found."""
    return Estimate(float(value), finite_ends(interval.ends), interval.method)


def estimates(
    sums: Sums, metrics: Mapping[str, Callable[[Sums], Counts]], settings: IntervalSettings
) -> dict[str, Estimate]:
    """The values of metrics of the same sums, and their intervals."""
    found = metric_intervals(sums, metrics, settings)
    total = sums.total()
    return {name: estimate(float(metric(total)), found[name]) for name, metric in metrics.items()}


def mean_estimates(scores: Mapping[str, RowScores], settings: IntervalSettings) -> dict[str, Estimate]:
    """The means of scores of the same rows, and their intervals."""
    found = score_intervals(scores, settings)
    return {name: estimate(float(mean_score(of.total())), found[name]) for name, of in scores.items()}
