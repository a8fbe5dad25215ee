"""Rank correlations are those of scipy, for a sample and for one whose posts count several times."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mentallama_jax.evaluation.people.rank_correlation import (
    intervals,
    kendall,
    mean_kendall,
    mean_spearman,
    ranked_pairs,
    spearman,
)
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings

ROWS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([-1.5, 0.0, 0.25, 7.0])), min_size=3, max_size=25)


@given(ROWS)
@settings(max_examples=60)
def test_both_are_those_of_scipy_with_ties(rows: list[tuple[int, float]]) -> None:
    first, second = zip(*rows, strict=True)
    ranked = ranked_pairs([(first, second, [str(place) for place in range(len(rows))])])
    if ranked.pairs[0].constant():
        assert float(mean_spearman(ranked)) == float(mean_kendall(ranked)) == 0
        return
    assert float(mean_spearman(ranked)) == pytest.approx(stats.spearmanr(first, second)[0], abs=1e-9)
    assert float(mean_kendall(ranked)) == pytest.approx(stats.kendalltau(first, second)[0], abs=1e-9)


def test_a_post_that_is_drawn_twice_counts_as_its_rows_twice() -> None:
    generator = np.random.default_rng(3)
    first, second = generator.normal(size=40), generator.integers(0, 4, size=40).astype(float)
    ranked = ranked_pairs([(first, second, [f"{place // 2:02d}" for place in range(40)])])
    (pair,) = ranked.pairs
    weights = generator.integers(0, 4, size=(5, 20)).astype(float)
    drawn = spearman(pair, weights), kendall(pair, weights)
    for place, weight in enumerate(weights):
        rows = np.repeat(np.arange(40), weight[pair.post_R].astype(int))
        assert drawn[0][place] == pytest.approx(stats.spearmanr(first[rows], second[rows])[0], abs=1e-9)
        assert drawn[1][place] == pytest.approx(stats.kendalltau(first[rows], second[rows])[0], abs=1e-9)


def test_a_mean_over_pairs_is_the_mean_of_their_correlations() -> None:
    generator = np.random.default_rng(4)
    columns = [(generator.normal(size=n), generator.normal(size=n), [str(i) for i in range(n)]) for n in (20, 15)]
    wanted = np.mean([stats.kendalltau(first, second)[0] for first, second, _ in columns])
    assert float(mean_kendall(ranked_pairs(columns))) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(("sign", "wanted"), [(1.0, 1.0), (-1.0, -1.0)])
def test_perfect_order_has_an_interval_with_width(sign: float, wanted: float) -> None:
    ranked = ranked_pairs([(range(30), [sign * value for value in range(30)], [str(i) for i in range(30)])])
    found = intervals(ranked, {"s": mean_spearman}, IntervalSettings())["s"]
    value, (low, high) = found.value, found.interval
    assert value == pytest.approx(wanted)
    assert -1 <= low < high <= 1
    assert low <= value <= high


def test_intervals_over_posts_hold_the_truth_and_those_over_rows_do_not() -> None:
    """Three answers a post, all of one height in both scores: of the rows, only posts are independent."""
    held = {"posts": 0, "rows": 0}
    truth = 6 / np.pi * np.arcsin(0.6 / 2)  # Spearman's of a normal distribution with correlation 0.6
    runs = 300
    for seed in range(runs):
        generator = np.random.default_rng(seed)
        heights = generator.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=40)
        first, second = np.repeat(heights, 3, axis=0).T
        for kind, posts in (("posts", [str(i // 3) for i in range(120)]), ("rows", [str(i) for i in range(120)])):
            ranked = ranked_pairs([(first, second, posts)])
            low, high = intervals(ranked, {"s": mean_spearman}, IntervalSettings())["s"].interval
            held[kind] += low <= truth <= high
    assert held["posts"] / runs > 0.9
    assert held["rows"] / runs < 0.8
