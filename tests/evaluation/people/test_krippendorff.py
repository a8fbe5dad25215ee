"""Krippendorff's alpha gives the figures of published worked examples."""

import numpy as np
import pytest

from mentallama_jax.evaluation.people.krippendorff import Level, alpha, coincidences
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings, metric_interval

FOUR_OBSERVERS = (
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)
"""Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, example C to E, with missing marks."""

THREE_CODERS = (
    ". . . . . 3 4 1 2 1 1 3 3 . 3",
    "1 . 2 1 3 3 4 3 . . . . . . .",
    ". . 2 1 3 4 4 . 2 1 1 3 3 . 4",
)
"""The example of the article on the coefficient in Wikipedia."""


def units(observers: tuple[str, ...]) -> list[list[float | None]]:
    columns = zip(*(line.split() for line in observers), strict=True)
    return [[None if mark == "." else float(mark) for mark in column] for column in columns]


def found(marks: list[list[float | None]], level: Level, posts: list[str] | None = None) -> float:
    counts = coincidences(marks, posts or [str(place) for place in range(len(marks))])
    assert counts is not None
    return float(alpha(counts.total(), level))


@pytest.mark.parametrize(
    ("observers", "level", "wanted"),
    [
        (FOUR_OBSERVERS, "nominal", 0.743),
        (FOUR_OBSERVERS, "ordinal", 0.815),
        (FOUR_OBSERVERS, "interval", 0.849),
        (THREE_CODERS, "nominal", 0.691),
        (THREE_CODERS, "interval", 0.811),
    ],
)
def test_published_examples(observers: tuple[str, ...], level: Level, wanted: float) -> None:
    assert found(units(observers), level) == pytest.approx(wanted, abs=5e-4)


def test_posts_do_not_change_the_figure_and_units_with_one_mark_count_for_nothing() -> None:
    marks = units(FOUR_OBSERVERS)
    assert found(marks, "ordinal", [str(place // 3) for place in range(12)]) == pytest.approx(found(marks, "ordinal"))
    lonely: list[list[float | None]] = [*marks, [None, 0, None, None]]
    assert found(lonely, "ordinal") == pytest.approx(found(marks, "ordinal"))


def test_marks_at_random_agree_by_chance_and_the_interval_says_so() -> None:
    generator = np.random.default_rng(0)
    counts = coincidences(generator.integers(0, 4, size=(200, 3)).tolist(), [str(i) for i in range(200)])
    assert counts is not None
    interval = metric_interval(counts, alpha, IntervalSettings())
    assert interval.low < 0 < interval.high
    assert interval.high - interval.low < 0.3


def test_where_nothing_can_be_compared_there_is_no_figure() -> None:
    assert coincidences([[1, 1], [1, 1]], ["a", "b"]) is None
    assert coincidences([[1, None], [None, 2]], ["a", "b"]) is None
