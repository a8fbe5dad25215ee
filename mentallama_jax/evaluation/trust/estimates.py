"""A figure with its interval, as the sections on trust hold it."""

from collections.abc import Callable
from dataclasses import dataclass

from mentallama_jax.evaluation.statistics.bootstrap import Bootstrap, Sums, bootstrap_interval
from mentallama_jax.evaluation.statistics.f1 import Counts


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure.

    Attributes:
        value: its value on all rows.
        interval: lower and upper end, over posts.
        method: how the ends were found, see `statistics.bootstrap.Interval`.
    """

    value: float
    interval: tuple[float, float]
    method: str


def estimate(sums: Sums, metric: Callable[[Sums], Counts], bootstrap: Bootstrap) -> Estimate:
    """The value of a metric and its interval."""
    found = bootstrap_interval(sums, metric, bootstrap)
    return Estimate(float(metric(sums.total())), found.ends, found.method)
