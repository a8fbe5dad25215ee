"""Figures of probes: means and differences over rows with intervals over posts; Holm's correction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mentallama_jax.evaluation.statistics.bootstrap import (
    Bootstrap,
    mean_score,
    paired_bootstrap,
    row_scores,
    score_intervals,
)


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


def holm(values: Sequence[float]) -> list[float]:
    """The p of tests made together, corrected by Holm's method (1979), in their order."""
    corrected, highest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda place: values[place])):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = highest
    return corrected
