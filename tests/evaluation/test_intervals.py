"""Intervals: against closed forms, against the truth in simulations, and never without width."""

import importlib.util
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtrit

from mentallama_jax.evaluation.statistics.exact import clopper_pearson, effective_number
from mentallama_jax.evaluation.statistics.f1 import Tally, accuracy, macro_f1, tally, weighted_f1
from mentallama_jax.evaluation.statistics.intervals import (
    IntervalSettings,
    few_posts,
    mean_score,
    metric_interval,
    metric_intervals,
    one_seed_difference,
    row_scores,
    wilson,
)
from mentallama_jax.evaluation.statistics.jackknife import left_out, spread_of

SEARCHES = 3000


def counts(gold, predicted, posts=None, classes="") -> Tally:
    posts = posts or [str(row) for row in range(len(gold))]
    return tally(gold, predicted, posts, list(classes) or sorted({*gold, *predicted} - {"unparsed"}))


METRICS = {"accuracy": accuracy, "weighted_f1": weighted_f1, "macro_f1": macro_f1}


def intervals(sums):
    found = metric_intervals(sums, METRICS, IntervalSettings())
    return {name: found[name] for name in METRICS}


def test_all_right_and_none_right_are_exact():
    gold = ["yes", "no"] * 10
    for name, interval in intervals(counts(gold, gold)).items():
        assert interval.ends == pytest.approx((0.025 ** (1 / 20), 1.0)), name
        assert interval.method == "exact"
    swapped = ["no", "yes"] * 10
    for name, interval in intervals(counts(gold, swapped)).items():
        assert interval.ends == pytest.approx((0.0, 1 - 0.025 ** (1 / 20))), name
    # Where nothing was read, precision would be perfect: with a chance r of being read, F1 is 2r / (1 + r).
    chance = 1 - 0.025 ** (1 / 20)
    unread = intervals(counts(gold, ["unparsed"] * 20, classes=["yes", "no"]))
    assert unread["accuracy"].high == pytest.approx(chance)
    assert unread["weighted_f1"].high == pytest.approx(2 * chance / (1 + chance))


def test_a_rare_class_makes_macro_f1_uncertain_though_all_is_right():
    gold = ["a"] * 97 + ["b"] * 97 + ["c"] * 3
    found = intervals(counts(gold, gold))
    assert found["accuracy"].low == found["weighted_f1"].low == pytest.approx(0.025 ** (1 / 197))
    # Three posts of c: they may be right as seldom as 0.025^(1/3), F1 then 2r / (1 + r); its errors cost others a bit.
    chance = 0.025 ** (1 / 3)
    assert found["macro_f1"].low == pytest.approx((2 + 2 * chance / (1 + chance)) / 3, abs=0.005)


@pytest.mark.parametrize("sizes", [(10, 10), (18, 2), (7, 7, 6), (30, 5, 5, 1)])
def test_no_population_that_is_possible_has_a_lower_f1_than_the_exact_end(sizes):
    gold = [label for label, size in zip("abcd", sizes, strict=False) for _ in range(size)]
    found = intervals(counts(gold, gold))
    rng = np.random.default_rng(0)
    support, number = np.array(sizes, float), len(sizes)
    lowest = dict.fromkeys(METRICS, 1.0)
    for _ in range(SEARCHES):
        # Chances by class under which the sample has a probability of 2.5 %, and what errors are taken for.
        parts = rng.dirichlet(np.full(number, rng.choice([0.1, 1.0, 10.0])))
        hits = support * np.exp(np.log(0.025) * parts / support)
        taken_for = (support - hits)[:, None] * rng.dirichlet(np.full(number + 1, rng.choice([0.05, 1.0])), number)
        np.fill_diagonal(taken_for, 0)
        population = Tally(hits, hits + taken_for[:, :number].sum(axis=0), support)
        lowest = {name: min(lowest[name], float(metric(population))) for name, metric in METRICS.items()}
    assert lowest["accuracy"] >= found["accuracy"].low - 1e-9
    assert lowest["weighted_f1"] >= found["weighted_f1"].low - 1e-9
    assert lowest["macro_f1"] >= found["macro_f1"].low - 0.03  # the search is finer than the closed form


def test_one_post_says_almost_nothing_whatever_its_rows():
    gold, posts = ["yes"] * 5, ["p"] * 5
    for right in range(6):
        predicted = ["yes"] * right + ["unparsed"] * (5 - right)
        for interval in intervals(counts(gold, predicted, posts, ["yes"])).values():
            assert interval.method == "exact"
            assert interval.high - interval.low > 0.9


def test_posts_that_are_all_alike_have_an_interval_too():
    gold, predicted = ["yes", "yes"] * 3, ["yes", "unparsed"] * 3
    found = intervals(counts(gold, predicted, ["p", "p", "q", "q", "r", "r"], ["yes"]))
    assert found["accuracy"].ends == pytest.approx(clopper_pearson(0.5, 3, 0.95))


@pytest.mark.parametrize(("hits", "rows", "expected"), [(17, 20, (0.621073, 0.967929)), (0, 20, (0, 0.168433))])
def test_exact_intervals_are_those_of_published_tables(hits, rows, expected):
    assert clopper_pearson(hits / rows, rows, 0.95) == pytest.approx(expected, abs=1e-5)


def test_the_effective_number_is_that_of_posts():
    assert effective_number(np.full(30, 6.0)) == pytest.approx(30)
    assert effective_number(np.array([100.0, 1.0, 1.0])) == pytest.approx(102**2 / 10002)


def test_macro_f1_keeps_its_classes_where_one_is_left_out():
    # Of c nothing is right, in three posts. Its recall may still be 1 - 0.025^(1/3), but there are no two classes only.
    gold = ["a"] * 97 + ["b"] * 97 + ["c"] * 3
    wrong = ["a"] * 97 + ["b"] * 97 + ["unparsed"] * 3
    low, high = metric_interval(counts(gold, wrong), macro_f1, IntervalSettings()).ends
    assert 0.4 < low < 2 / 3 < high < 2 / 3 + 0.71 / 3
    # Of c all is right, and a little is wrong elsewhere: c is still uncertain.
    almost = ["b"] * 2 + gold[2:]
    found = metric_interval(counts(gold, almost), macro_f1, IntervalSettings())
    assert found.method == "wilson"
    assert 0.6 < found.low < 0.95 < found.high <= 1
    # A class that is predicted and occurs in no post may be anything.
    never = metric_interval(
        counts(["a"] * 99 + ["b"] * 99, ["a"] * 99 + ["b"] * 98 + ["c"]), macro_f1, IntervalSettings()
    )
    assert never.low < 0.2 < 0.9 < never.high


@pytest.mark.parametrize(("hits", "rows", "expected"), [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605))])
def test_wilson_intervals_are_those_of_newcombe(hits, rows, expected):
    """R. Newcombe (1998), Two-sided confidence intervals for the single proportion, table I, method 3."""
    assert wilson(hits / rows, rows, 1.959964) == pytest.approx(expected, abs=5e-5)
    right = row_scores([1.0] * hits + [0.0] * (rows - hits), [str(row) for row in range(rows)])
    # The jackknife divides by one less, and half a post of as much changes nothing.
    found = metric_interval(right, mean_score, IntervalSettings())
    assert found.ends == pytest.approx(wilson(hits / rows, rows - 1, 1.959964), abs=1e-4)


def test_the_jackknife_of_a_mean_is_its_standard_error_and_its_freedom_that_of_the_kurtosis():
    score_R = np.random.default_rng(0).normal(size=40)
    spread = spread_of((score_R.sum() - score_R) / 39)
    assert spread.variance == pytest.approx(score_R.var(ddof=1) / 40)
    kurtosis = ((score_R - score_R.mean()) ** 4).mean() / score_R.var() ** 2
    assert spread.posts == pytest.approx(40 / kurtosis)
    assert spread.freedom == pytest.approx(min(39, 2 * 40 / (kurtosis - 1)))
    low, high = metric_interval(
        row_scores(score_R.tolist(), [str(row) for row in range(40)], (-np.inf, np.inf)), mean_score, IntervalSettings()
    ).ends
    margin = -stdtrit(spread.freedom, 0.025) * score_R.std(ddof=1) / np.sqrt(40)
    assert (low, high) == pytest.approx((score_R.mean() - margin, score_R.mean() + margin))


def test_many_posts_are_left_out_by_blocks():
    weights = np.concatenate(list(left_out(2500)))
    assert weights.shape == (1000, 2500)
    assert set(weights.sum(axis=1)) == {2497, 2498}
    assert (weights.sum(axis=0) == 999).all()
    rng = np.random.default_rng(0)
    gold = rng.choice(["a", "b"], 2500).tolist()
    found = metric_interval(counts(gold, ["a"] * 2500), accuracy, IntervalSettings())
    share = np.mean([label == "a" for label in gold])
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(share * (1 - share) / 2500), rel=0.1)


LABELS = st.sampled_from("abc")
READ = st.sampled_from(["a", "b", "c", "unparsed"])


@given(st.lists(st.tuples(LABELS, READ, st.sampled_from("pqrst")), min_size=1, max_size=30))
def test_no_interval_is_without_width(rows):
    gold, predicted, posts = (list(column) for column in zip(*rows, strict=True))
    sums = tally(gold, predicted, posts, list("abc"))
    for name, interval in intervals(sums).items():
        assert 0 <= interval.low < interval.high <= 1, name
    low, high = one_seed_difference(sums, sums, weighted_f1, IntervalSettings()).interval
    assert -1 <= low < 0 < high <= 1


BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "interval_coverage.py"


@pytest.fixture(scope="module")
def simulation():
    spec = importlib.util.spec_from_file_location("interval_coverage", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("posts", "rows", "truth"), [(20, 6, 0.85), (30, 1, 0.5), (60, 6, 0.98), (10, 6, 0.85)])
def test_intervals_hold_the_truth_as_often_as_they_say_and_those_over_rows_do_not(simulation, posts, rows, truth):
    """Of 400 samples, so that a share of 0.95 is known to 0.011: the benchmark draws more."""
    found = simulation.coverage(posts, rows, truth, 400)
    for metric in simulation.METRICS:
        # Where hardly a post has an error, where posts are few, and of rare classes, intervals are rather too wide.
        cautious = posts == 10 or truth > 0.9 or metric in ("recall", "macro F1")
        assert 0.93 <= found[metric] <= (1.0 if cautious else 0.985), metric
    if rows == 6:
        assert max(found[f"rows: {metric}"] for metric in simulation.METRICS[:3]) < 0.75


@pytest.mark.parametrize(("posts", "least"), [(10, 0.02), (30, 0.03)])
def test_the_paired_test_sees_no_differences_where_there_are_none(simulation, posts, least):
    """Of 300 samples, so that 0.05 is known to 0.013; a test of rows sees differences in one of six."""
    found = simulation.false_alarms(posts, 6, 0.5, 300, draws=200)
    for test in ("accuracy", "weighted F1", "macro F1"):
        assert least <= found[test] <= 0.08, test
    assert found["rows: mcnemar"] > 0.12


class Correlated:
    """Sums of a figure that may be negative and does not tell its bounds."""

    def __init__(self, products, sizes):
        self.products, self.sizes, self.groups = products, sizes, np.size(sizes)

    def weighed(self, weights):
        return Correlated(weights @ self.products / weights.sum(axis=-1), weights @ self.sizes)

    def total(self):
        return self.weighed(np.ones(self.groups))


def test_figures_without_bounds_may_be_negative():
    products = np.random.default_rng(0).normal(-0.1, 1, 40)
    found = metric_interval(Correlated(products, np.ones(40)), lambda totals: totals.products, IntervalSettings())
    assert found.method == "t"
    assert found.low < products.mean() - 0.2 < products.mean() + 0.2 < found.high
    alike = metric_interval(Correlated(np.ones(40), np.ones(40)), lambda totals: totals.products, IntervalSettings())
    assert (alike.high, alike.method) == (1, "exact")
    assert alike.low == pytest.approx(0.025 ** (1 / 40))


def test_few_posts_are_warned_about():
    assert few_posts(20) is None
    assert "19 posts are few" in few_posts(19)


def test_twenty_thousand_rows_take_seconds():
    rng = np.random.default_rng(0)
    gold = rng.choice(["a", "b", "c", "d"], 20_000).tolist()
    predicted = np.where(rng.random(20_000) < 0.8, gold, "a").tolist()
    started = time.process_time()
    metric_intervals(counts(gold, predicted), METRICS, IntervalSettings())
    assert time.process_time() - started < 10


def test_scores_by_row_have_the_intervals_of_counts():
    rng = np.random.default_rng(0)
    gold = rng.choice(["a", "b"], 120).tolist()
    predicted = rng.choice(["a", "b"], 120).tolist()
    posts = [str(row // 4) for row in range(120)]
    right = [float(one == other) for one, other in zip(gold, predicted, strict=True)]
    by_row, by_class = row_scores(right, posts), counts(gold, predicted, posts)
    assert float(mean_score(by_row.total())) == pytest.approx(float(accuracy(by_class.total())))
    expected = metric_interval(by_class, accuracy, IntervalSettings())
    assert metric_interval(by_row, mean_score, IntervalSettings()).ends == pytest.approx(expected.ends)
    better = row_scores([1.0] * 120, posts)
    assert one_seed_difference(better, by_row, mean_score, IntervalSettings()).interval[0] > 0


def test_scores_that_never_vary_have_the_width_of_their_bounds():
    alike = row_scores([3.0] * 8, [str(row) for row in range(8)], bounds=(1.0, 5.0))
    low, high = metric_interval(alike, mean_score, IntervalSettings()).ends
    assert (low, high) == pytest.approx(tuple(1 + 4 * end for end in clopper_pearson(0.5, 8, 0.95)))
    endless = row_scores([3.0] * 8, ["p"] * 8, bounds=(-np.inf, np.inf))
    assert metric_interval(endless, mean_score, IntervalSettings()).ends == (-np.inf, np.inf)


def test_answers_that_never_differ_may_differ_by_what_so_few_posts_allow():
    rows = counts(["yes", "no"] * 10, ["yes"] * 20)
    share = 1 - 0.025 ** (1 / 20)
    found = one_seed_difference(rows, rows, weighted_f1, IntervalSettings())
    assert (found.difference, *found.interval) == pytest.approx((0, -share, share))


def test_interval_of_a_share_is_that_of_its_normal_approximation():
    gold = ["yes"] * 400
    half_right = counts(gold, ["yes", "no"] * 200)
    low, high = metric_interval(half_right, accuracy, IntervalSettings()).ends
    margin = 1.96 * np.sqrt(0.25 / 400)
    assert (low, high) == pytest.approx((0.5 - margin, 0.5 + margin), abs=0.006)


def test_the_variance_is_over_posts_and_not_over_rows():
    gold = ["yes"] * 400
    predicted = (["yes"] * 10 + ["no"] * 10) * 20
    by_row = metric_interval(counts(gold, predicted), accuracy, IntervalSettings())
    by_post = metric_interval(
        counts(gold, predicted, [str(row // 10) for row in range(400)]), accuracy, IntervalSettings()
    )
    # Ten rows that stand and fall together: the interval is sqrt(10) times as wide, and wider still as posts are few.
    few, many = (stdtrit(n - 1, 0.975) * np.sqrt(n / (n - 1)) for n in (40, 400))
    expected = np.sqrt(10) * few / many
    assert (by_post.high - by_post.low) / (by_row.high - by_row.low) == pytest.approx(expected, rel=0.1)


def test_how_many_posts_are_left_out_at_once_does_not_show(monkeypatch):
    rows = counts(["yes", "no"] * 30, ["yes"] * 60)
    whole = metric_interval(rows, weighted_f1, IntervalSettings())
    monkeypatch.setattr("mentallama_jax.evaluation.statistics.jackknife._WEIGHTS_AT_ONCE", 700)
    assert whole == metric_interval(rows, weighted_f1, IntervalSettings())


def test_paired_differences_are_tighter_than_unpaired_and_antisymmetric():
    gold = ["yes", "no"] * 100
    good = ["yes", "no"] * 80 + ["no", "yes"] * 20
    worse = good[:-20] + ["no", "yes"] * 10
    worse[:10] = ["no", "yes"] * 5
    first, second = counts(gold, good), counts(gold, worse)
    paired = one_seed_difference(first, second, accuracy, IntervalSettings())
    assert paired.difference == pytest.approx(10 / 200)
    assert paired.interval[0] > 0
    low, high = metric_interval(first, accuracy, IntervalSettings()).ends
    assert paired.interval[1] - paired.interval[0] < high - low
    back = one_seed_difference(second, first, accuracy, IntervalSettings())
    assert back.difference == -paired.difference
    assert back.interval == pytest.approx((-paired.interval[1], -paired.interval[0]))


def test_pairs_need_the_same_posts():
    with pytest.raises(ValueError, match="2 posts against 1"):
        one_seed_difference(counts(["a", "b"], ["a", "b"]), counts(["a"], ["a"]), accuracy, IntervalSettings())
