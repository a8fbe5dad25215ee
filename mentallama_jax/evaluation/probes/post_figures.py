"""Figures of probes: means and differences over rows with intervals over posts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mentallama_jax.evaluation.statistics.intervals import (
    IntervalSettings,
    mean_score,
    one_seed_difference,
    row_scores,
    score_intervals,
)


@dataclass(frozen=True, slots=True)
class MeanFigure:
    """A mean over rows, or a difference of two, with its interval over posts."""

    value: float
    interval: tuple[float, float]


def mean_figures(
    columns: Mapping[str, Sequence[float]], posts: Sequence[str], settings: IntervalSettings
) -> dict[str, MeanFigure]:
    """The mean of each column of values from 0 to 1; nothing of no rows."""
    if not posts:
        return {}
    scores = {name: row_scores(values, posts) for name, values in columns.items()}
    intervals = score_intervals(scores, settings)
    return {
        name: MeanFigure(float(mean_score(of_rows.total())), intervals[name].ends) for name, of_rows in scores.items()
    }


def difference_figures(
    pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]], posts: Sequence[str], settings: IntervalSettings
) -> dict[str, MeanFigure]:
    """The mean of the first values less that of the second, row by row; both are from 0 to 1."""
    if not posts:
        return {}
    found = {
        name: one_seed_difference(row_scores(first, posts), row_scores(second, posts), mean_score, settings)
        for name, (first, second) in pairs.items()
    }
    return {name: MeanFigure(each.difference, each.interval) for name, each in found.items()}
