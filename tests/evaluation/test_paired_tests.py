"""Paired tests, Holm and power: against scipy, against enumeration by hand, and on published examples."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm, permutation_test

from mentallama_jax.evaluation.statistics.f1 import accuracy, macro_f1, tally, weighted_f1
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings, mean_score, paired_difference, row_scores
from mentallama_jax.evaluation.statistics.paired_tests import exchange_tests, holm, mcnemar
from mentallama_jax.evaluation.statistics.power import (
    design_effect,
    intraclass_correlation,
    minimum_detectable,
    posts_needed,
)


def by_post(values):
    return row_scores([float(value) for value in values], [f"{place:03}" for place in range(len(values))])


def p_of(first, second, **how):
    found = exchange_tests(first, second, {"mean": mean_score}, **({"draws": 5000, "seed": 0} | how))
    return found["mean"]


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_test(only_first, only_second):
    number = only_first + only_second
    expected = binomtest(only_first, number, 0.5).pvalue if number else 1.0
    assert mcnemar(only_first, only_second).p == pytest.approx(expected, abs=1e-12)


def test_all_exchanges_are_gone_through_where_few_posts_differ():
    # Differences 3, 2, -1, 0 (in rows of 4): sums of signs as far from 0 as 4 are +-6, +-4: 4 of 8.
    first, second = by_post([3, 2, 0, 1]), by_post([0, 0, 1, 1])
    signed = [
        abs(sum(s * d for s, d in zip(signs, (3, 2, -1), strict=True)))
        for signs in itertools.product((1, -1), repeat=3)
    ]
    by_hand = Fraction(2 * sum(value > 4 for value in signed) + sum(value == 4 for value in signed), 2 * len(signed))
    found = p_of(first, second)
    assert by_hand == Fraction(3, 8)
    assert (found.p, found.test) == (pytest.approx(float(by_hand)), "exchange, all")
    assert p_of(first, first).p == 1


def test_exchanging_f1_is_what_enumeration_by_hand_says():
    rng = np.random.default_rng(3)
    posts = [str(row // 3) for row in range(24)]
    gold, one, other = (rng.choice(["a", "b", "c"], 24) for _ in range(3))
    metrics = {"weighted": weighted_f1, "macro": macro_f1}
    found = exchange_tests(*(tally(gold, read, posts, "abc") for read in (one, other)), metrics, draws=10, seed=0)
    for name, metric in metrics.items():
        values = []
        for exchanged in itertools.product((False, True), repeat=8):
            swap = np.repeat(exchanged, 3)
            pair = np.where(swap, other, one), np.where(swap, one, other)
            values.append(np.subtract(*(float(metric(tally(gold, read, posts, "abc").total())) for read in pair)))
        beyond = np.abs(values) - abs(values[0])
        assert found[name].p == pytest.approx(np.mean(beyond > 1e-12) + np.mean(np.abs(beyond) <= 1e-12) / 2), name


def _mean_difference(first, second, axis):
    return (first - second).mean(axis=axis)


def test_drawn_exchanges_agree_with_the_permutation_test_of_scipy():
    rng = np.random.default_rng(0)
    first, second = rng.random(40), rng.random(40) * 0.8
    seeded = {"random_state": np.random.default_rng(1)}
    expected = permutation_test(
        (first, second), _mean_difference, permutation_type="samples", n_resamples=20_000, vectorized=True, **seeded
    )
    found = p_of(by_post(first), by_post(second), draws=20_000)
    assert found.test == "exchange, drawn"
    assert found.p == pytest.approx(expected.pvalue, abs=0.01)
    assert found == p_of(by_post(first), by_post(second), draws=20_000)
    assert len({p_of(by_post(first), by_post(second), draws=500, seed=seed).p for seed in range(5)}) > 1


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=9))
def test_a_test_is_the_same_from_both_sides_and_between_0_and_1(pairs):
    first, second = by_post([one for one, _ in pairs]), by_post([other for _, other in pairs])
    assert 0 < p_of(first, second).p == p_of(second, first).p <= 1


def test_holm_on_a_published_example():
    """The one of the Wikipedia article on the Holm-Bonferroni method: p of .01, .04, .03, .005."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_p_value_and_that_of_bonferroni_and_keeps_the_order(p_values):
    corrected = holm(p_values)
    for p, own in zip(p_values, corrected, strict=True):
        assert p <= own <= min(1, p * len(p_values)) + 1e-12
    assert [corrected[place] for place in np.argsort(p_values, kind="stable")] == sorted(corrected)


def test_the_intraclass_correlation_is_that_of_shrout_and_fleiss():
    """P. Shrout and J. Fleiss (1979), table 2: six targets, four judges, ICC(1,1) = .17."""
    ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    posts = [str(target) for target in range(6) for _ in range(4)]
    assert intraclass_correlation([each for row in ratings for each in row], posts) == pytest.approx(0.166, abs=5e-4)
    assert intraclass_correlation([1, 1, 0, 0], ["p", "p", "q", "q"]) == 1
    assert intraclass_correlation([1, 0], ["p", "q"]) is None
    assert intraclass_correlation([1, 1, 1, 1], ["p", "p", "q", "q"]) is None


def test_the_design_effect_is_by_how_much_posts_widen_the_variance_of_a_difference():
    rng = np.random.default_rng(0)
    chance = rng.beta(1, 1, size=(2000, 1))
    one, other = ((rng.random((2000, 6)) < chance).astype(float) for _ in range(2))
    other = np.where(rng.random((2000, 1)) < 0.3, 0.0, other)
    posts = [str(post) for post in range(2000) for _ in range(6)]
    differences = (one - other).ravel()
    icc = intraclass_correlation(differences.tolist(), posts)
    found = paired_difference(
        [row_scores(one.ravel().tolist(), posts)],
        [row_scores(other.ravel().tolist(), posts)],
        mean_score,
        IntervalSettings(),
    )
    by_rows = differences.var(ddof=1) / len(differences)
    assert found.post_variance / by_rows == pytest.approx(design_effect(icc, 12_000, 2000), rel=0.05)
    assert icc > 0.1


def test_power_is_that_of_the_textbook():
    # Cohen: 2.8 standard errors are found with a chance of 0.8 at a level of 0.05.
    assert minimum_detectable(1.0, np.inf, 0.95) == pytest.approx(norm.ppf(0.8) + norm.ppf(0.975))
    assert minimum_detectable(2.0, 19, 0.95) > 2 * 2.8016
    assert posts_needed(0.05, 0.05, 100, 0.95) == 787  # 100 x 2.8016 squared is 784.9, and Student's t a little wider
    assert posts_needed(-0.05, 0.05, 100, 0.95) == 787
    for difference, error, posts in ((0.181, 0.0555, 4), (0.3, 0.05, 5), (0.01, 0.002, 50)):
        number = posts_needed(difference, error, posts, 0.95)
        least = [minimum_detectable(error * (posts / n) ** 0.5, n - 1, 0.95) for n in (number, number - 1) if n > 1]
        assert least[0] <= difference
        assert len(least) == 1 or least[1] > difference
    assert posts_needed(0.0, 0.05, 100, 0.95) is None


def test_more_posts_do_not_lessen_the_variance_over_seeds():
    # The largest variance with which it is found: half of it is that of the seeds, and the other half left to posts.
    room = (0.05 / (norm.ppf(0.8) + norm.ppf(0.975))) ** 2
    assert posts_needed(0.05, 0.05, 100, 0.95, room / 2, np.inf) == 1570
    assert posts_needed(0.05, 0.05, 100, 0.95, room * 1.001, np.inf) is None
    assert posts_needed(0.05, 0.0, 100, 0.95, room / 2, np.inf) == 2
    # What two seeds say of a variance is little; many posts leave nothing else to go by.
    assert posts_needed(0.05, 0.05, 100, 0.95, room / 2, 1.0) is None


@pytest.mark.parametrize("seed_freedom", [1.0, 2.0, 4.0, 20.0])
@pytest.mark.parametrize("share", [1e-6, 0.01, 0.03, 0.1, 0.3])
def test_that_many_posts_are_the_first_that_show_the_difference(share, seed_freedom):
    of_seeds = share * (0.05 / 2.8) ** 2
    found = posts_needed(-0.05, 0.05, 100, 0.95, of_seeds, seed_freedom)

    def least(posts):
        variance = 0.05**2 * 100 / posts + of_seeds
        freedom = seed_freedom * (variance / of_seeds) ** 2
        return minimum_detectable(np.sqrt(variance), freedom, 0.95)

    if found is None:
        assert min(least(posts) for posts in range(2, 20_000)) > 0.05
    else:
        assert found >= 785
        assert least(found) <= 0.05 < least(found - 1)


def test_seeds_and_posts_share_the_variance_of_a_difference():
    rng = np.random.default_rng(0)
    posts = [str(post) for post in range(50)]
    base = rng.random(50) * 0.5
    seeds = [row_scores((base + shift).tolist(), posts) for shift in (0.0, 0.1, 0.2)]
    other = [row_scores((base * 0.5).tolist(), posts)]
    found = paired_difference(seeds, other, mean_score, IntervalSettings())
    assert found.difference == pytest.approx((base + 0.1).mean() - base.mean() / 2)
    assert found.seed_variance == pytest.approx(0.1**2 / 3)
    assert found.post_variance == pytest.approx((base / 2).var(ddof=1) / 50)
    alone = paired_difference(seeds[1:2], other, mean_score, IntervalSettings())
    assert alone.seed_variance == 0
    assert alone.interval[1] - alone.interval[0] < found.interval[1] - found.interval[0]
    assert 2 <= found.freedom <= 49


def test_accuracy_of_labels_and_of_scores_by_row_have_one_p_value():
    rng = np.random.default_rng(1)
    posts = [str(row // 6) for row in range(120)]
    gold, one, other = (rng.choice(["a", "b"], 120) for _ in range(3))
    labels = exchange_tests(
        *(tally(gold, read, posts, "ab") for read in (one, other)), {"accuracy": accuracy}, draws=999, seed=0
    )
    scores = exchange_tests(
        *(row_scores((gold == read).astype(float).tolist(), posts) for read in (one, other)),
        {"accuracy": mean_score},
        draws=999,
        seed=0,
    )
    assert labels["accuracy"].p == pytest.approx(scores["accuracy"].p, abs=0.05)
