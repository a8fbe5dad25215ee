"""Risk-coverage curves and conformal sets, beside brute force and simulations."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_scores import scored_row

from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.evaluation.trust.conformal import conformal_sets, score_threshold
from mentallama_jax.evaluation.trust.label_probabilities import Outcomes, label_probabilities
from mentallama_jax.evaluation.trust.selective import (
    accuracy_at_coverage,
    area_under_risk,
    excess_area,
    ranked,
    selective,
)

FEW = IntervalSettings()

ROWS = st.lists(st.tuples(st.sampled_from([0.3, 0.5, 0.6, 0.9, 1.0]), st.booleans()), min_size=1, max_size=40)


def outcomes_of(rows: list[tuple[float, bool]], posts: list[str] | None = None) -> Outcomes:
    confidence, right = np.array([row[0] for row in rows]), np.array([float(row[1]) for row in rows])
    nothing = np.zeros(len(rows))
    return Outcomes(tuple(posts or (f"p{n}" for n in range(len(rows)))), confidence, right, nothing, nothing)


def area_of_order(rights: list[bool]) -> float:
    risks = [sum(not right for right in rights[:k]) / k for k in range(1, len(rights) + 1)]
    return sum(risks) / len(risks)


@pytest.mark.parametrize("seed", range(8))
def test_the_area_is_the_mean_over_all_orders_of_equal_rows(seed):
    generator = np.random.default_rng(seed)
    rows = [(float(generator.choice([0.5, 0.7, 0.9])), bool(generator.random() < 0.6)) for _ in range(6)]
    orders = [order for order in itertools.permutations(rows) if list(order) == sorted(order, key=lambda row: -row[0])]
    areas = [area_of_order([right for _, right in order]) for order in orders]
    found = ranked(outcomes_of(rows)).total()
    assert float(area_under_risk(found)) == pytest.approx(np.mean(areas))
    best = area_of_order(sorted((right for _, right in rows), reverse=True))
    assert float(excess_area(found)) == pytest.approx(np.mean(areas) - best)
    fifth = [sum(right for _, right in order[:5]) / 5 for order in orders]  # 80 % of 6, rounded up
    assert float(accuracy_at_coverage(found)) == pytest.approx(np.mean(fifth))


def test_rows_without_ties_by_a_slow_loop_and_by_closed_forms():
    generator = np.random.default_rng(4)
    confidences = generator.random(300)
    rows = [(float(each), bool(generator.random() < each)) for each in confidences]
    by_confidence = [right for _, right in sorted(rows, key=lambda row: -row[0])]
    found = ranked(outcomes_of(rows)).total()
    assert float(area_under_risk(found)) == pytest.approx(area_of_order(by_confidence))
    assert float(accuracy_at_coverage(found)) == pytest.approx(sum(by_confidence[:240]) / 240)
    # All errors last: no excess. All rows equal: the error rate.
    perfect = ranked(outcomes_of([(0.9, True)] * 7 + [(0.2, False)] * 3)).total()
    assert float(excess_area(perfect)) == pytest.approx(0, abs=1e-12)
    assert float(area_under_risk(perfect)) == pytest.approx(sum(k / (7 + k) for k in (1, 2, 3)) / 10)
    assert float(area_under_risk(ranked(outcomes_of([(0.9, n < 6) for n in range(10)])).total())) == pytest.approx(0.4)


@given(ROWS, st.randoms())
@settings(max_examples=60)
def test_the_curve_ends_at_the_error_rate_and_no_order_of_rows_changes_it(rows, random):
    found = selective(outcomes_of(rows), IntervalSettings())
    last = found.risk_coverage[-1]
    assert (last.coverage, last.threshold) == (1, min(confidence for confidence, _ in rows))
    assert last.risk == pytest.approx(sum(not right for _, right in rows) / len(rows))
    coverages = [point.coverage for point in found.risk_coverage]
    assert coverages == sorted(set(coverages))
    assert len(coverages) == min(50, len(rows))
    assert all(0 <= point.risk <= 1 + 1e-12 for point in found.risk_coverage)
    assert 0 <= found.excess_aurc.value <= found.aurc.value + 1e-12
    mixed = list(enumerate(rows))
    random.shuffle(mixed)
    again = selective(outcomes_of([row for _, row in mixed], [f"p{n}" for n, _ in mixed]), IntervalSettings())
    assert again.risk_coverage == found.risk_coverage
    assert again.aurc.value == pytest.approx(found.aurc.value)


@pytest.mark.parametrize("wrong", [{19}, {0}, {18, 19}, set(range(1, 20))])
def test_no_interval_passes_0_or_1(wrong):
    found = selective(outcomes_of([(0.99 - row / 50, row not in wrong) for row in range(20)]), FEW)
    for figure in (found.aurc, found.excess_aurc, found.accuracy_at_80):
        low, high = figure.interval
        assert 0 <= low <= figure.value <= high <= 1
        assert figure.method in ("wilson", "exact")


@given(st.lists(st.tuples(st.sampled_from([0.4, 0.6, 0.8]), st.booleans(), st.integers(0, 3)), min_size=1, max_size=15))
@settings(max_examples=50)
def test_a_post_of_weight_two_counts_as_two_posts(rows):
    if not any(times for *_, times in rows):
        return
    plain = [(confidence, right) for confidence, right, _ in rows]
    sums = ranked(outcomes_of(plain, [f"p{n:02}" for n in range(len(rows))]))
    drawn = sums.weighed(np.array([[float(times) for *_, times in rows]] * 2))
    repeated = [(confidence, right) for confidence, right, times in rows for _ in range(times)]
    for metric in (area_under_risk, excess_area, accuracy_at_coverage):
        expected = float(metric(ranked(outcomes_of(repeated)).total()))
        assert metric(drawn) == pytest.approx([expected] * 2, abs=1e-9)


def test_the_threshold_is_the_quantile_of_small_samples():
    for n in range(1, 400):
        scores = np.random.default_rng(n).random(n)
        place = -(-9 * (n + 1) // 10)
        expected = np.sort(scores)[place - 1] if place <= n else math.inf
        assert score_threshold(scores, [f"p{k}" for k in range(n)]) == expected
    assert [math.isinf(score_threshold(np.zeros(n), [str(k) for k in range(n)])) for n in (1, 8, 9, 10)] == [
        True,
        True,
        False,
        False,
    ]


def test_posts_weigh_the_same_whatever_their_rows():
    # 19 posts: 18 of weight are needed. The post with 50 high scores weighs as much as each of the others.
    scores = [*range(18), *[100] * 50]
    posts = [*(f"p{n}" for n in range(18)), *["long"] * 50]
    assert score_threshold(scores, posts) == 17
    assert score_threshold(scores, [f"q{n}" for n in range(68)]) == 100


def simulated(generator: np.random.Generator, posts: int) -> tuple[np.ndarray, list[str]]:
    """Scores of rows that share much within a post; posts with more rows are harder."""
    scores, names = [], []
    for post in range(posts):
        rows = int(generator.choice([1, 6]))
        scores += list(generator.normal(rows / 3, 1) + generator.normal(0, 0.3, rows))
        names += [f"p{post}"] * rows
    return np.array(scores), names


def test_sets_cover_a_row_of_a_new_post_as_promised_though_posts_are_clustered():
    generator = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        threshold = score_threshold(*simulated(generator, 30))
        scores, names = simulated(generator, 40)
        _, group = np.unique(names, return_inverse=True)
        covered.append(np.mean(np.bincount(group, scores <= threshold) / np.bincount(group)))
    # Between what is promised and one post more; the standard error is about 0.003.
    assert 0.89 <= np.mean(covered) <= 0.9 + 1 / 31 + 0.01


def test_sets_of_labels_by_hand():
    logs = [math.log(each) for each in np.linspace(0.05, 0.95, 19)]
    calibration = [scored_row(n, (log, math.log1p(-math.exp(log))), split="val") for n, log in enumerate(logs)]
    test = [(0.97, 0), (0.5, 1), (0.88, 1), (0.91, 1), (0.02, 0)]
    rows = [scored_row(n, (math.log(yes), math.log(1 - yes)), gold) for n, (yes, gold) in enumerate(test)]
    found = conformal_sets(label_probabilities("DR", calibration), label_probabilities("DR", rows), FEW)
    # 18 of 19 posts: the second lowest probability of a gold label, 0.1.
    assert found.threshold == pytest.approx(0.1)
    assert found.sizes == {"0": 0, "1": 3, "2": 2}
    assert found.mean_size.value == pytest.approx(7 / 5)
    assert found.coverage.value == pytest.approx(3 / 5)
    assert (found.calibration_rows, found.calibration_posts, found.remark, found.labels) == (19, 19, None, 2)
    few = conformal_sets(label_probabilities("DR", calibration[:8]), label_probabilities("DR", rows), FEW)
    assert (few.threshold, few.mean_size.value, few.coverage.value) == (0, 2, 1)
    assert "8 posts of validation are too few" in few.remark
