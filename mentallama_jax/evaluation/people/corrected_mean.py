"""The mean human mark of a system, from a metric on many rows corrected by human marks on few.

This is prediction-powered inference (Angelopoulos et al. 2023, with the weight of PPI++, each from the other posts).
With marks y and scores x on the marked rows M, scores on rows U without marks, and i running over M,

    estimate = mean of y[i] - weight[i] * (x[i] - mean of x on U)

The weight is the one with the smallest variance, cov(mean y, mean x on M) / (var(mean x on M) + var(mean x on U)). It
also brings the metric to the scale of marks. The weight of a row is computed without the rows of its post, so that the
estimate has no bias, whatever the metric is, as long as M was drawn at random from all rows. A metric that says nothing
about marks gets weights near 0, and the estimate is close to the plain mean of the marks. Variances are those of means
over rows, clustered by post; the interval is Student's t with two degrees of freedom less than M has posts. The
correction of yes-or-no judges by their sensitivity and specificity (arXiv 2511.21140) has the same purpose; marks from
0 to 3 need this form.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from mentallama_jax.evaluation.statistics.f1 import Counts

LEAST_POSTS = 10
"""With fewer marked posts there is no estimate: its interval would hold the truth too seldom."""


@dataclass(frozen=True, slots=True)
class CorrectedMean:
    """The mean mark of all rows, estimated from marks on some and a metric on all.

    Attributes:
        estimate: in marks.
        interval: its lower and upper end.
        weight: marks that one unit of the metric is worth, on average over the marked rows.
        marked_mean: the plain mean of the marks.
        marked_interval: its interval, made in the same way.
        marked_rows: rows with marks.
        marked_posts: different posts among them.
        unmarked_rows: rows with the metric alone, of other posts.
        unmarked_posts: different posts among them.
    """

    estimate: float
    interval: tuple[float, float]
    weight: float
    marked_mean: float
    marked_interval: tuple[float, float]
    marked_rows: int
    marked_posts: int
    unmarked_rows: int
    unmarked_posts: int


def corrected_mean(
    marked: Sequence[tuple[float, float, str]],
    unmarked: Sequence[tuple[float, str]],
    scale: tuple[float, float],
    confidence: float,
) -> CorrectedMean | None:
    """Estimate the mean mark; None where too few posts are marked, or none are without marks.

    Args:
        marked: mark, score and post of the rows that have both.
        unmarked: score and post of other rows; those of marked posts are left out, as they are not independent.
        scale: the lowest and the highest mark; the interval stays within it.
        confidence: of the interval.
    """
    own = {post for *_, post in marked}
    others = [(score, post) for score, post in unmarked if post not in own]
    if len(own) < LEAST_POSTS or len({post for _, post in others}) < 2:
        return None
    mark = np.array([row[0] for row in marked], dtype=np.float64)
    score = np.array([row[1] for row in marked], dtype=np.float64)
    posts = [row[2] for row in marked]
    other = np.array([row[0] for row in others], dtype=np.float64)
    of_other = _covariance(other, other, [post for _, post in others])
    weight_R = _weights(mark, score, posts, of_other)
    corrected_R = mark - weight_R * (score - other.mean())
    estimate, weight = float(corrected_R.mean()), float(weight_R.mean())
    variance = _covariance(corrected_R, corrected_R, posts) + weight**2 * of_other
    plain = _covariance(mark, mark, posts)
    return CorrectedMean(
        estimate,
        _interval(estimate, variance, len(own) - 2, scale, confidence),
        weight,
        float(mark.mean()),
        _interval(float(mark.mean()), plain, len(own) - 1, scale, confidence),
        len(marked),
        len(own),
        len(others),
        len({post for _, post in others}),
    )


def _weights(mark: Counts, score: Counts, posts: Sequence[str], of_other: float) -> Counts:
    """The weight of each marked row, from the rows of the other posts: `_covariance` without the own post."""
    groups, group_R = np.unique(posts, return_inverse=True)
    count_G = np.bincount(group_R).astype(np.float64)
    mark_G, score_G = (np.bincount(group_R, each - each.mean()).astype(np.float64) for each in (mark, score))

    def without(first_G: Counts, second_G: Counts) -> Counts:
        def left(of_group: Counts) -> Counts:
            return np.asarray(of_group.sum() - of_group)

        rows = left(count_G)
        one, two = left(first_G) / rows, left(second_G) / rows
        spread = left(first_G * second_G) - two * left(first_G * count_G) - one * left(second_G * count_G)
        number = len(groups) - 1
        return np.asarray((spread + one * two * left(count_G**2)) / rows**2 * number / (number - 1))

    whole = without(score_G, score_G) + of_other
    weight_G = np.divide(without(mark_G, score_G), whole, out=np.zeros(len(groups)), where=whole > 0)
    return np.asarray(weight_G[group_R])


def _covariance(first: Counts, second: Counts, posts: Sequence[str]) -> float:
    """The covariance of the means of two scores of the same rows, clustered by post."""
    groups, group_R = np.unique(posts, return_inverse=True)
    sums = [np.bincount(group_R, each - each.mean(), len(groups)) for each in (first, second)]
    return float((sums[0] * sums[1]).sum()) / len(first) ** 2 * len(groups) / (len(groups) - 1)


def _interval(
    mean: float, variance: float, freedom: int, scale: tuple[float, float], confidence: float
) -> tuple[float, float]:
    reach = -float(stdtrit(freedom, (1 - confidence) / 2)) * float(np.sqrt(variance))
    return max(scale[0], mean - reach), min(scale[1], mean + reach)
