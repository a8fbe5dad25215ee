"""Calibration of label probabilities: its figures beside slow loops, closed forms and simulations."""

import json
import math
import re
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_scores import predictions_of, scored_row
from scipy.optimize import minimize_scalar

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.correctness import label_rows
from mentallama_jax.evaluation.statistics.estimates import mean_estimates
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings, row_scores
from mentallama_jax.evaluation.trust.calibration import Calibration, calibrate
from mentallama_jax.evaluation.trust.label_probabilities import Outcomes, label_probabilities, outcomes
from mentallama_jax.evaluation.trust.reliability import equal_mass_bins, reliability
from mentallama_jax.evaluation.trust.temperature import fit_temperature
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import TASKS

FEW = IntervalSettings()


def random_rows(count: int, dataset: str = "DR", seed: int = 0, rows_a_post: int = 1, **more: str) -> list[Prediction]:
    generator = np.random.default_rng(seed)
    labels = len(TASKS[dataset].labels)
    sums = -20 - 3 * generator.random((count, labels)).round(1) * 2
    golds = generator.integers(labels, size=count)
    split = more.get("split", "test")
    return [
        scored_row(n, sums[n], int(golds[n]), dataset=dataset, post=f"{split} {n // rows_a_post}", split=split)
        for n in range(count)
    ]


def scored(rows: list[Prediction], validation: list[Prediction] | None = None) -> Calibration | None:
    other = predictions_of(validation) if validation is not None else None
    return calibrate(predictions_of(rows), label_rows(rows, "templates+words"), other, FEW)


def slow_probabilities(row: Prediction) -> dict[str, float]:
    weights = {label: math.exp(each["sum"]) for label, each in row.label_log_probabilities.items()}
    return {label: weight / sum(weights.values()) for label, weight in weights.items()}


def slow_figures(rows: list[Prediction]) -> tuple[float, float, float]:
    """ECE, Brier score and log loss by loops."""
    brier = log_loss = 0.0
    tops = []
    for row in rows:
        found = slow_probabilities(row)
        brier += sum((p - (label == row.label)) ** 2 for label, p in found.items())
        log_loss -= math.log(found[row.label])
        top = max(found, key=lambda label: found[label])
        tops.append((round(found[top], 12), float(top == row.label)))
    number = min(10, max(1, len(rows) // 10))
    bins: dict[int, list[tuple[float, float]]] = {}
    for confidence, right in tops:
        below = sum(other < confidence for other, _ in tops)
        equal = sum(other == confidence for other, _ in tops)
        bins.setdefault(min(number - 1, int((below + equal / 2) / len(tops) * number)), []).append((confidence, right))
    ece = sum(abs(sum(r for _, r in found) - sum(c for c, _ in found)) for found in bins.values()) / len(rows)
    return ece, brier / len(rows), log_loss / len(rows)


@pytest.mark.parametrize(("dataset", "count"), [("DR", 1), ("DR", 7), ("DR", 150), ("SAD", 60), ("T-SID", 205)])
def test_figures_are_those_of_slow_loops(dataset, count):
    rows = random_rows(count, dataset)
    found = scored(rows).datasets[dataset]
    figures = (found.as_given.ece.value, found.as_given.brier.value, found.as_given.log_loss.value)
    assert figures == pytest.approx(slow_figures(rows), abs=1e-9)
    assert (found.rows, found.posts, found.differing) == (count, count, 0)
    assert sum(each.rows for each in found.as_given.bins) == count
    for estimate in (found.as_given.ece, found.as_given.brier):
        assert estimate.interval[0] <= estimate.interval[1]
    ends = found.as_given.log_loss.interval
    assert ends is None if count == 1 else ends[0] <= ends[1]  # one row says nothing of how far a log loss may go


def test_probabilities_come_from_the_sum_and_not_from_the_mean_over_tokens():
    row = scored_row(1, (-10.0, -10.0 + math.log(3)), gold=1)
    row = replace(
        row,
        label_log_probabilities={k: v | {"mean": -1.0} for k, v in row.label_log_probabilities.items()},
    )
    assert np.exp(label_probabilities("DR", [row]).log_RC).tolist() == [pytest.approx([0.25, 0.75])]


def calibrated(count: int, seed: int, sharpen: float = 1.0) -> Outcomes:
    """Rows whose labels are drawn from their probabilities, and sums of these times `sharpen`."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 1.5, (count, 4))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    golds = (generator.random((count, 1)) > chances.cumsum(axis=1)).sum(axis=1)
    rows = [scored_row(n, sharpen * logits[n], int(golds[n]), dataset="T-SID") for n in range(count)]
    return outcomes(label_probabilities("T-SID", rows))


def test_true_probabilities_have_the_ece_of_chance_and_sharpened_ones_more():
    figures = [reliability(calibrated(400, seed), FEW) for seed in range(30)]
    mean = np.mean([each.ece.value for each in figures])
    assert mean == pytest.approx(np.mean([each.ece_if_calibrated for each in figures]), rel=0.12)
    assert reliability(calibrated(400, 1, sharpen=3), FEW).ece.value > 3 * mean


@pytest.mark.parametrize("sharpen", [1.0, 1.5, 3.0])
def test_the_interval_of_ece_holds_the_true_one_in_spite_of_its_bias(sharpen):
    truth = 0.0 if sharpen == 1 else reliability(calibrated(20_000, 99, sharpen), FEW).ece.value
    held = 0
    for seed in range(100):
        found = reliability(calibrated(150, seed, sharpen), FEW).ece
        held += found.interval[0] <= truth <= found.interval[1]
        assert found.interval[0] <= found.value <= found.interval[1]
    assert held >= 93


def test_bins_hold_equally_many_rows_and_ties_stay_together():
    assert np.bincount(equal_mass_bins(np.linspace(0.5, 1, 100))).tolist() == [10] * 10
    assert equal_mass_bins(np.ones(100)).tolist() == [0] * 100
    mixed = equal_mass_bins(np.array([0.6] * 50 + [0.9] * 49 + [1.0]))
    assert len(set(mixed[:50])) == len(set(mixed[50:99])) == 1
    assert sorted(set(mixed.tolist())) == list(range(3))


@given(st.lists(st.floats(0.2, 1.0), min_size=1, max_size=60), st.randoms())
@settings(max_examples=60)
def test_no_bin_is_empty_and_the_order_of_rows_does_not_matter(confidences, random):
    bins = equal_mass_bins(np.array(confidences))
    assert sorted(set(bins.tolist())) == list(range(bins.max() + 1))
    order = list(range(len(confidences)))
    random.shuffle(order)
    assert equal_mass_bins(np.array(confidences)[order]).tolist() == bins[order].tolist()


def test_the_temperature_of_one_gap_is_that_of_its_closed_form():
    # Every row has the gap 4, and 3 of 4 are right: sigmoid(4 / T) = 3 / 4.
    rows = [scored_row(n, (-1.0, -5.0), int(n % 4 == 0)) for n in range(40)]
    found = fit_temperature(label_probabilities("DR", rows))
    assert found.value == pytest.approx(4 / math.log(3), rel=1e-9)
    assert (found.rows, found.posts, found.remark) == (40, 40, None)
    assert found.interval[0] < found.value < found.interval[1]


def test_the_temperature_is_the_best_one_of_another_search():
    probabilities = label_probabilities("SAD", random_rows(200, "SAD", seed=3))
    gold_R = np.arange(200), probabilities.gold_R
    search = minimize_scalar(
        lambda log: -probabilities.tempered(np.exp(log)).log_RC[gold_R].mean(), bounds=(-4, 4.5), method="bounded"
    )
    found = fit_temperature(probabilities).value
    best = -probabilities.tempered(found).log_RC[gold_R].mean()
    assert best <= search.fun + 1e-9


def test_the_interval_of_the_temperature_holds_the_true_one():
    held = 0
    for seed in range(120):
        generator = np.random.default_rng(seed)
        gap = np.repeat(generator.normal(0, 2, 60), 3)  # three equal rows a post
        golds = np.repeat(generator.random(60) > 1 / (1 + np.exp(-gap[::3])), 3)
        rows = [scored_row(n, (2 * gap[n], 0.0), int(golds[n]), post=f"p{n // 3}") for n in range(180)]
        low, high = fit_temperature(label_probabilities("DR", rows)).interval
        held += low <= 2 <= high
    assert 0.9 <= held / 120 <= 0.99


@pytest.mark.parametrize("more", [2e-3, 5e-4])
def test_a_temperature_of_which_next_to_nothing_is_known_has_no_interval(more):
    """Four rows that are nearly even, two of them right: the interval would reach over hundreds of powers of ten."""
    rows = [scored_row(n, (0.1 + more * (n == 0), 0.0), int(n in (1, 2))) for n in range(4)]
    found = fit_temperature(label_probabilities("DR", rows))
    assert found.value == pytest.approx(0.0202 / more, rel=0.05)
    assert (found.interval, found.remark) == (None, None)


@given(
    st.lists(st.lists(st.floats(-300, 0), min_size=4, max_size=4), min_size=1, max_size=8),
    st.floats(0.01, 100),
)
@settings(max_examples=60)
def test_a_temperature_never_changes_which_label_is_likeliest(sums, temperature):
    found = label_probabilities("T-SID", [scored_row(n, each, dataset="T-SID") for n, each in enumerate(sums)])
    cooled = found.tempered(temperature)
    every = np.arange(found.rows)
    assert (cooled.log_RC[every, found.likeliest_R] >= cooled.log_RC.max(axis=1) - 1e-12).all()
    assert np.exp(cooled.log_RC).sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize(
    ("rows", "value", "remark"),
    [
        ([scored_row(n, (0.0, -2.0)) for n in range(20)], 0.01, "lower end"),
        ([scored_row(n, (0.0, -2.0), 1) for n in range(20)], 100, "upper end"),
        ([scored_row(n, (-3.0, -3.0), n % 2) for n in range(20)], 1, "the same probability"),
        ([scored_row(1, (-800.0, 0.0), 1)], 0.01, "lower end"),
    ],
)
def test_a_temperature_without_a_best_value_says_so(rows, value, remark):
    found = fit_temperature(label_probabilities("DR", rows))
    assert found.value == pytest.approx(value)
    assert found.interval is None
    assert remark in found.remark


def test_probabilities_of_0_and_1_and_one_class_give_finite_figures():
    rows = [scored_row(n, (0.0, -2000.0), int(n == 0)) for n in range(12)]
    found = scored(rows, [replace(row, id=f"v{row.id}", post_id=f"v{row.post_id}") for row in rows]).datasets["DR"]
    assert found.as_given.log_loss.value == pytest.approx(2000 / 12)
    assert found.as_given.brier.value == pytest.approx(2 / 12)
    assert found.as_given.ece.value == pytest.approx(1 / 12)
    assert np.isfinite(
        [found.tempered.log_loss.value, found.selective.aurc.value, found.conformal.mean_size.value]
    ).all()
    alone = scored(rows[:1]).datasets["DR"]
    assert alone.as_given.accuracy.value == 0
    assert "few" in alone.warning


def test_rows_without_log_probabilities_are_counted_and_outputs_that_state_another_label():
    rows = [*random_rows(30), scored_row(90, None), scored_row(91, None, dataset="SAD")]
    rows[0] = replace(rows[0], generated_text="I do not know.")
    found = scored(rows)
    assert (found.datasets["DR"].rows, found.datasets["DR"].without_log_probabilities) == (30, 1)
    assert found.datasets["DR"].differing == 1
    assert (found.datasets["SAD"].rows, found.datasets["SAD"].as_given) == (0, None)
    assert (found.pooled.rows, found.pooled.without_log_probabilities) == (30, 2)
    assert scored([scored_row(1, None)]) is None


def test_before_and_after_stand_side_by_side_in_each_data_set_and_the_pool():
    test = random_rows(80) + random_rows(60, "SAD", seed=2)
    found = scored(test, random_rows(90, seed=5, split="val") + random_rows(70, "SAD", seed=6, split="val"))
    dr = found.datasets["DR"]
    by_hand = label_probabilities("DR", test[:80]).tempered(dr.temperature.value)
    assert dr.tempered.log_loss.value == pytest.approx(outcomes(by_hand).log_loss_R.mean())
    assert dr.tempered.accuracy.value == dr.as_given.accuracy.value
    assert found.pooled.tempered.log_loss.value == pytest.approx(
        (80 * dr.tempered.log_loss.value + 60 * found.datasets["SAD"].tempered.log_loss.value) / 140
    )
    assert (found.pooled.temperature, found.pooled.conformal) == (None, None)
    partly = scored(test, random_rows(90, seed=5, split="val"))
    assert (partly.datasets["SAD"].temperature, partly.datasets["SAD"].conformal, partly.pooled.tempered) == (None,) * 3


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ({"yes": {"sum": float("nan"), "mean": 0}, "no": {"sum": -1.0}}, "not finite"),
        ({"yes": {"sum": -float("inf")}, "no": {"sum": -1.0}}, "not finite"),
        ({"yes": {"sum": -(10**400)}, "no": {"sum": -1.0}}, "not finite"),
        ({"yes": {"sum": -1.0}}, "no `sum` of no"),
        ({"yes": {"sum": -1.0}, "no": {"mean": -1.0}}, "no `sum` of no"),
        ({"yes": {"sum": -1.0}, "no": {"sum": -1.0}, "perhaps": {"sum": -1.0}}, "no label of DR"),
    ],
)
def test_what_is_no_log_probability_is_refused_by_its_row(scores, said):
    row = replace(scored_row(7, (0.0, 0.0)), label_log_probabilities=scores)
    with pytest.raises(UserError, match=re.escape("DR/test/7")) as raised:
        scored([scored_row(1, (0.0, -1.0)), row])
    assert said in str(raised.value)


def test_a_post_in_the_place_of_a_label_or_an_id_stays_out_of_the_message():
    post = "I have been unwell for weeks and nobody knows of it, MARKER."
    row = scored_row(7, (0.0, 0.0))
    for odd in (
        replace(row, label_log_probabilities=row.label_log_probabilities | {post: {"sum": -1.0}}),
        replace(row, id=post, label_log_probabilities={}),
    ):
        with pytest.raises(UserError) as raised:
            scored([odd])
        assert "MARKER" not in str(raised.value)


def test_validation_rows_that_do_not_fit_are_refused():
    test, other = random_rows(20), random_rows(20, split="val")
    with pytest.raises(UserError, match="1 of its rows, such as 'DR/val/0', are of posts that are scored"):
        scored(test, [replace(other[0], post_id=test[3].post_id), *other[1:]])
    with pytest.raises(UserError, match="needs rows with label_log_probabilities"):
        scored(test, [replace(row, label_log_probabilities=None) for row in other])
    with pytest.raises(UserError, match="and these have none"):
        scored([scored_row(1, None)], other)
    tuned, base = ({"model": "m", "weights": weights, "mode": "score-labels"} for weights in ("a", "b"))
    labelled = label_rows(test, "templates+words")
    with pytest.raises(UserError, match="another system"):
        calibrate(predictions_of(test, tuned), labelled, predictions_of(other, base), FEW)
    assert calibrate(predictions_of(test, tuned), labelled, predictions_of(other, tuned), FEW)
    for odd in ({"pooled": 5}, {"pooled": [None]}, {"model": "m"}):
        assert calibrate(predictions_of(test, odd), labelled, predictions_of(other, base), FEW)
    pooled = {"pooled": [tuned, base]}
    assert calibrate(predictions_of(test, pooled), labelled, predictions_of(other, base), FEW)


def test_where_nothing_varies_and_there_are_no_bounds_there_is_no_interval():
    """Log losses that are all alike: any value may be as common as a few posts still allow, so no end is known."""
    alike = mean_estimates({"log_loss": row_scores([0.7] * 8, [f"p{n}" for n in range(8)], (0, np.inf))}, FEW)
    assert alike["log_loss"].interval is None
    json.dumps(asdict(alike["log_loss"]), allow_nan=False)
