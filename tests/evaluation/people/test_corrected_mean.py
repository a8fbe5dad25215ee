"""The corrected mean has no bias, its interval holds the truth, and a metric that follows marks makes it narrower."""

import numpy as np
import pytest

from mentallama_jax.evaluation.people.corrected_mean import CorrectedMean, _covariance, _weights, corrected_mean
from mentallama_jax.evaluation.people.human_marks import SCALE


def simulated(seed: int, marked: int, follows: float) -> CorrectedMean:
    """Two answers a post, 300 posts of which some are marked; marks from 0 to 3, a skewed metric on another scale."""
    generator = np.random.default_rng(seed)
    quality = generator.normal(size=(300, 1)) + generator.normal(size=(300, 2))
    marks = np.clip(np.round(1.2 + 0.8 * quality), *SCALE)
    metric = np.exp(follows * quality + 0.4 * generator.normal(size=quality.shape)) / 50
    rows = [(post, answer) for post in range(300) for answer in range(2)]
    own = [(marks[row], metric[row], str(row[0])) for row in rows if row[0] < marked]
    others = [(metric[row], str(row[0])) for row in rows if row[0] >= marked]
    found = corrected_mean(own, others, SCALE, 0.95)
    assert found is not None
    return found


def truth() -> float:
    quality = np.sqrt(2) * np.random.default_rng(99).normal(size=1_000_000)
    return float(np.clip(np.round(1.2 + 0.8 * quality), *SCALE).mean())


@pytest.mark.parametrize("marked", [15, 40])
def test_no_bias_and_the_promised_coverage(marked: int) -> None:
    runs, true = 600, truth()
    found = [simulated(seed, marked, 0.5) for seed in range(runs)]
    estimates = np.array([each.estimate for each in found])
    assert abs(estimates.mean() - true) < 3.5 * estimates.std() / np.sqrt(runs)
    held = np.mean([each.interval[0] <= true <= each.interval[1] for each in found])
    assert 0.92 <= held <= 0.98
    widths = [np.mean(np.diff([getattr(each, name) for each in found])) for name in ("interval", "marked_interval")]
    assert widths[0] < 0.8 * widths[1]


def test_a_metric_that_says_nothing_does_no_harm() -> None:
    true = truth()
    found = [simulated(seed, 40, 0.0) for seed in range(300)]
    held = np.mean([each.interval[0] <= true <= each.interval[1] for each in found])
    assert held >= 0.92
    widths = [np.mean(np.diff([getattr(each, name) for each in found])) for name in ("interval", "marked_interval")]
    assert widths[0] == pytest.approx(widths[1], rel=0.1)


def test_rows_of_marked_posts_are_left_out_and_few_posts_give_nothing() -> None:
    marked = [(float(place % 4), place / 7, str(place)) for place in range(12)]
    others = [(0.5, "3"), (0.25, "x"), (0.75, "y"), (0.1, "y")]
    found = corrected_mean(marked, others, SCALE, 0.95)
    assert found is not None
    assert (found.unmarked_rows, found.unmarked_posts, found.marked_posts) == (3, 2, 12)
    assert corrected_mean(marked[:9], others, SCALE, 0.95) is None
    assert corrected_mean(marked, others[:2], SCALE, 0.95) is None


def test_weights_are_computed_without_the_own_post() -> None:
    generator = np.random.default_rng(5)
    mark, score = generator.normal(size=(2, 30))
    posts = [str(generator.integers(11)) for _ in range(30)]
    found = _weights(mark, score, posts, 0.01)
    for row in range(30):
        left = [place for place in range(30) if posts[place] != posts[row]]
        others = [posts[place] for place in left]
        spread = _covariance(score[left], score[left], others) + 0.01
        assert found[row] == pytest.approx(_covariance(mark[left], score[left], others) / spread)
