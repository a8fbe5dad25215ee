"""Shares of rows, or of what is counted in rows, with their intervals over posts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mentallama_jax.evaluation.statistics.bootstrap import Bootstrap, few_posts, mean_score, row_scores, score_intervals


@dataclass(frozen=True, slots=True)
class CountedShare:
    """How many of some things have a property.

    Attributes:
        count: that have it.
        of: all of them.
        posts: different posts that they are about.
        share: `count` of `of`; None where there is nothing to count.
        interval: its lower and upper end, over posts.
        method: "bootstrap" or "exact".
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
    figures: Mapping[str, Sequence[bool]], posts: Sequence[str], bootstrap: Bootstrap
) -> dict[str, CountedShare]:
    """Count several properties of the same things, from the same draws.

    Args:
        figures: name -> whether each thing has the property.
        posts: the post of each thing.
        bootstrap: how intervals are drawn.
    """
    if not posts:
        return {name: CountedShare(0, 0, 0, None, None, None, None) for name in figures}
    sums = {name: row_scores([float(flag) for flag in flags], posts) for name, flags in figures.items()}
    intervals = score_intervals(sums, bootstrap)
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
