"""F1 against hand-worked and scikit-learn figures; intervals against closed forms."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentallama_jax.evaluation.metrics import (
    Tally,
    accuracy,
    f1_by_class,
    macro_f1,
    precision_by_class,
    recall_by_class,
    tally,
    weighted_f1,
)
from mentallama_jax.evaluation.statistics import Bootstrap, bootstrap_interval, paired_bootstrap

GOLDEN = json.loads(Path(__file__).with_name("f1_golden.json").read_text(encoding="utf-8"))
LABELS = st.sampled_from(["yes", "no", "unparsed"])


def counts(gold, predicted, posts=None) -> Tally:
    return tally(gold, predicted, posts or [str(row) for row in range(len(gold))], sorted({*gold, *predicted}))


def test_figures_worked_by_hand():
    # yes: 2 hits of 3 gold and 2 predicted, F1 4/5; no: 1 of 2 and 2, F1 1/2; unparsed: predicted once, F1 0.
    total = counts(["yes", "yes", "yes", "no", "no"], ["yes", "yes", "no", "no", "unparsed"]).total()
    assert f1_by_class(total) == pytest.approx([1 / 2, 0, 4 / 5])
    assert accuracy(total) == pytest.approx(3 / 5)
    assert weighted_f1(total) == pytest.approx((3 * 4 / 5 + 2 * 1 / 2) / 5)
    assert macro_f1(total) == pytest.approx((4 / 5 + 1 / 2 + 0) / 3)


@pytest.mark.parametrize("case", GOLDEN["cases"])
def test_figures_of_scikit_learn(case):
    total = counts(case["gold"], case["predicted"]).total()
    assert accuracy(total) == pytest.approx(case["accuracy"], abs=1e-12)
    assert weighted_f1(total) == pytest.approx(case["weighted_f1"], abs=1e-12)
    assert macro_f1(total) == pytest.approx(case["macro_f1"], abs=1e-12)
    columns = (precision_by_class(total), recall_by_class(total), f1_by_class(total), total.support)
    for label, *figures in zip(sorted(case["per_class"]), *columns, strict=True):
        assert figures == pytest.approx(case["per_class"][label], abs=1e-12)


def test_classes_that_do_not_occur_change_nothing():
    gold, predicted, posts = ["a", "b"], ["a", "a"], ["p", "q"]
    few, many = (tally(gold, predicted, posts, classes).total() for classes in ("ab", "abcd"))
    assert macro_f1(few) == macro_f1(many)
    assert weighted_f1(few) == weighted_f1(many)


@settings(deadline=None)
@given(st.lists(st.tuples(LABELS, LABELS, st.sampled_from("pqrst")), min_size=1), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows, random):
    shuffled = random.sample(rows, len(rows))
    bootstrap = Bootstrap(resamples=20)
    first, second = (counts(*(list(column) for column in zip(*order, strict=True))) for order in (rows, shuffled))
    assert weighted_f1(first.total()) == weighted_f1(second.total())
    assert bootstrap_interval(first, weighted_f1, bootstrap) == bootstrap_interval(second, weighted_f1, bootstrap)


@settings(deadline=None)
@given(st.lists(st.tuples(LABELS, LABELS), min_size=1))
def test_scores_stay_between_0_and_1_and_perfect_is_1(rows):
    gold, predicted = (list(column) for column in zip(*rows, strict=True))
    total = counts(gold, predicted).total()
    for metric in (accuracy, weighted_f1, macro_f1):
        assert 0 <= metric(total) <= 1
        assert metric(counts(gold, gold).total()) == 1


def test_interval_of_a_share_is_that_of_its_normal_approximation():
    gold = ["yes"] * 400
    half_right = counts(gold, ["yes", "no"] * 200)
    low, high = bootstrap_interval(half_right, accuracy, Bootstrap(resamples=4000))
    margin = 1.96 * np.sqrt(0.25 / 400)
    assert (low, high) == pytest.approx((0.5 - margin, 0.5 + margin), abs=0.006)


def test_posts_and_not_rows_are_drawn():
    gold = ["yes"] * 400
    predicted = (["yes"] * 10 + ["no"] * 10) * 20
    by_row = bootstrap_interval(counts(gold, predicted), accuracy, Bootstrap())
    by_post = bootstrap_interval(counts(gold, predicted, [str(row // 10) for row in range(400)]), accuracy, Bootstrap())
    # Ten rows that stand and fall together: the interval is sqrt(10) times as wide.
    assert (by_post[1] - by_post[0]) / (by_row[1] - by_row[0]) == pytest.approx(np.sqrt(10), rel=0.1)


def test_intervals_repeat_with_their_seed_and_blocks_of_draws_do_not_show(monkeypatch):
    rows = counts(["yes", "no"] * 30, ["yes"] * 60)
    whole = bootstrap_interval(rows, weighted_f1, Bootstrap(resamples=500))
    assert whole == bootstrap_interval(rows, weighted_f1, Bootstrap(resamples=500))
    assert whole != bootstrap_interval(rows, weighted_f1, Bootstrap(resamples=500, seed=1))
    monkeypatch.setattr("mentallama_jax.evaluation.statistics._DRAWS_AT_ONCE", 700)
    assert whole == bootstrap_interval(rows, weighted_f1, Bootstrap(resamples=500))


def test_one_post_has_an_interval_of_no_width():
    assert bootstrap_interval(counts(["yes"], ["no"]), weighted_f1, Bootstrap()) == (0, 0)


def test_paired_differences_are_tighter_than_unpaired_and_antisymmetric():
    gold = ["yes", "no"] * 100
    good = ["yes", "no"] * 80 + ["no", "yes"] * 20
    worse = good[:-20] + ["no", "yes"] * 10
    worse[:10] = ["no", "yes"] * 5
    first, second = counts(gold, good), counts(gold, worse)
    paired = paired_bootstrap(first, second, accuracy, Bootstrap())
    assert paired.difference == pytest.approx(10 / 200)
    assert paired.interval[0] > 0
    low, high = bootstrap_interval(first, accuracy, Bootstrap())
    assert paired.interval[1] - paired.interval[0] < high - low
    back = paired_bootstrap(second, first, accuracy, Bootstrap())
    assert back.difference == -paired.difference
    assert back.interval == pytest.approx((-paired.interval[1], -paired.interval[0]))


def test_pairs_need_the_same_posts():
    with pytest.raises(ValueError, match="2 posts against 1"):
        paired_bootstrap(counts(["a", "b"], ["a", "b"]), counts(["a"], ["a"]), accuracy, Bootstrap())
