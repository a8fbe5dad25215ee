"""F1 against hand-worked and scikit-learn figures."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallama_jax.evaluation.statistics.f1 import (
    Tally,
    accuracy,
    f1_by_class,
    macro_f1,
    precision_by_class,
    recall_by_class,
    tally,
    weighted_f1,
)
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings, metric_interval

GOLDEN = json.loads(Path(__file__).with_name("f1_golden.json").read_text(encoding="utf-8"))
LABELS = st.sampled_from(["yes", "no", "work"])
READ = st.sampled_from(["yes", "no", "work", "unparsed"])
TASK = ["yes", "no", "work"]


def counts(gold, predicted, posts=None) -> Tally:
    classes = sorted({*gold, *predicted} - {"unparsed"})
    return tally(gold, predicted, posts or [str(row) for row in range(len(gold))], classes)


def test_figures_worked_by_hand():
    # yes: 2 hits of 3 gold and 2 predicted, F1 4/5; no: 1 of 2 and 2, F1 1/2; unparsed is no class.
    total = counts(["yes", "yes", "yes", "no", "no"], ["yes", "yes", "no", "no", "unparsed"]).total()
    assert f1_by_class(total) == pytest.approx([1 / 2, 4 / 5])
    assert accuracy(total) == pytest.approx(3 / 5)
    assert weighted_f1(total) == pytest.approx((3 * 4 / 5 + 2 * 1 / 2) / 5)
    assert macro_f1(total) == pytest.approx((4 / 5 + 1 / 2) / 2)


@pytest.mark.parametrize("case", GOLDEN["cases"])
def test_figures_of_scikit_learn(case):
    posts = [str(row) for row in range(len(case["gold"]))]
    total = tally(case["gold"], case["predicted"], posts, TASK).total()
    assert accuracy(total) == pytest.approx(case["accuracy"], abs=1e-12)
    assert weighted_f1(total) == pytest.approx(case["weighted_f1"], abs=1e-12)
    assert macro_f1(total) == pytest.approx(case["macro_f1"], abs=1e-12)
    columns = (precision_by_class(total), recall_by_class(total), f1_by_class(total), total.support)
    for label, *figures in zip(TASK, *columns, strict=True):
        assert figures == pytest.approx(case["per_class"][label], abs=1e-12)


def test_classes_that_do_not_occur_change_nothing():
    gold, predicted, posts = ["a", "b"], ["a", "a"], ["p", "q"]
    few, many = (tally(gold, predicted, posts, classes).total() for classes in ("ab", "abcd"))
    assert macro_f1(few) == macro_f1(many)
    assert weighted_f1(few) == weighted_f1(many)


@given(st.lists(st.tuples(LABELS, READ, st.sampled_from("pqrst")), min_size=1), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows, random):
    shuffled = random.sample(rows, len(rows))
    settings = IntervalSettings()
    first, second = (counts(*(list(column) for column in zip(*order, strict=True))) for order in (rows, shuffled))
    assert weighted_f1(first.total()) == weighted_f1(second.total())
    assert metric_interval(first, weighted_f1, settings) == metric_interval(second, weighted_f1, settings)


@given(st.lists(st.tuples(LABELS, READ), min_size=1))
def test_scores_stay_between_0_and_1_and_perfect_is_1(rows):
    gold, predicted = (list(column) for column in zip(*rows, strict=True))
    total = counts(gold, predicted).total()
    for metric in (accuracy, weighted_f1, macro_f1):
        assert 0 <= metric(total) <= 1
        assert metric(counts(gold, gold).total()) == 1


def test_one_unparsed_row_costs_no_class():
    # 399 of 400 right and one unparsed: F1 of yes 2*199/399, of no 1. As a class of its own it would make 66.6 of 99.9.
    gold = ["yes", "no"] * 200
    total = counts(gold, ["unparsed", *gold[1:]]).total()
    assert macro_f1(total) == pytest.approx((2 * 199 / 399 + 1) / 2)
    assert weighted_f1(total) == pytest.approx((2 * 199 / 399 + 1) / 2)
    assert accuracy(total) == pytest.approx(399 / 400)
