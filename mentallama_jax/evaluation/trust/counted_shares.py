"""Shares of rows, or of what is counted in rows, with their intervals over posts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mentallama_jax.evaluation.statistics.intervals import (
    IntervalSettings,
    few_posts,
    mean_score,
    row_scores,
    score_intervals,
)


@dataclass(frozen=True, slots=True)
class CountedShare:
    """How many of some things have a property.

    Attributes:
        count: that have it.
        of: all of them.
        posts: different posts that they are about.
        share: `count` of `of`; None where there is nothing to count.
        interval: its lower and upper end, over posts.
        method: how the ends were found, see `statistics.intervals.Interval`.
        warning: what to mind of the interval; None where there is nothing.
    """

    count: int
    of: int
    posts: int
    share: float | None
    interval: tuple[float, float] | None
    method: str | None
    warning: str | None


def counted_shares(
    figures: Mapping[str, Sequence[bool]], posts: Sequence[str], settings: IntervalSettings
) -> dict[str, CountedShare]:
    """Count several properties of the same things.

    Args:
        figures: name -> whether each thing has the property.
        posts: the post of each thing.
        settings: of the intervals, which are over posts.
    """
    if not posts:
        return {name: CountedShare(0, 0, 0, None, None, None, None) for name in figures}
    sums = {name: row_scores([float(flag) for flag in flags], posts) for name, flags in figures.items()}
    intervals = score_intervals(sums, settings)
    return {
        name: CountedShare(
            count=sum(flags),
            of=len(flags),
            posts=sums[name].groups,
            share=float(mean_score(sums[name].total())),
            interval=intervals[name].ends,
            method=intervals[name].method,
            warning=few_posts(sums[name].groups),
        )
        for name, flags in figures.items()
    }
