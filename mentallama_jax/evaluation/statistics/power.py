"""How small a difference a comparison can see, and how many posts it would take to see the one that was found."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

POWER = 0.8
"""The chance with which a difference is to be found where there is one."""

_MOST_POSTS = 1e9


def intraclass_correlation(values: Sequence[float], posts: Sequence[str]) -> float | None:
    """How much rows of a post agree: the estimate of the analysis of variance, cut at 0 and 1.

    None where no post has two rows, where there is one post, or where nothing varies.
    """
    value_R = np.asarray(values, dtype=np.float64)
    _, group_R, size_G = np.unique(posts, return_inverse=True, return_counts=True)
    rows, groups = len(value_R), len(size_G)
    if groups < 2 or rows == groups:
        return None
    mean_G = np.bincount(group_R, value_R) / size_G
    between = float((size_G * (mean_G - value_R.mean()) ** 2).sum()) / (groups - 1)
    within = float(((value_R - mean_G[group_R]) ** 2).sum()) / (rows - groups)
    size = (rows - float((size_G**2).sum()) / rows) / (groups - 1)
    whole = between + (size - 1) * within
    return min(max((between - within) / whole, 0.0), 1.0) if whole > 0 else None


def design_effect(icc: float, rows: int, posts: int) -> float:
    """By how much rows that share posts widen the variance: 1 + (m - 1) ICC, for m rows a post."""
    return 1 + (rows / posts - 1) * icc


def minimum_detectable(error: float, freedom: float, confidence: float) -> float:
    """The smallest true difference that is found with a chance of `POWER`, of a difference with this standard error."""
    return error * float(stdtrit(freedom, POWER) - stdtrit(freedom, (1 - confidence) / 2))


def posts_needed(
    difference: float,
    error: float,
    posts: int,
    confidence: float,
    seed_variance: float = 0.0,
    seed_freedom: float = math.inf,
) -> int | None:
    """How many posts would show this difference, were it the true one, with a chance of `POWER`.

    More posts lessen the variance over posts alone: that over seeds, and what few seeds say of it, stay as they are.

    Args:
        difference: that was seen.
        error: its standard error over posts.
        posts: how many it was seen on.
        confidence: of the test, such as 0.95.
        seed_variance: of the difference over seeds; 0 where each system has one.
        seed_freedom: degrees of freedom of the seed variance.

    Returns:
        The least number; None where the difference is 0, or no number of posts would do.
    """
    if difference == 0:
        return None
    of_one = error**2 * posts
    if not seed_variance:
        # That of the normal distribution is too few by a little, and by much where it is small.
        quantiles = float(ndtri(POWER) - ndtri((1 - confidence) / 2))
        number = max(2, math.ceil(of_one * (quantiles / difference) ** 2))
        while minimum_detectable(math.sqrt(of_one / number), number - 1, confidence) > abs(difference):
            number += 1
        return number

    def shows(number_N: NDArray[np.float64]) -> NDArray[np.bool_]:
        variance_N = of_one / number_N + seed_variance
        freedom_N = seed_freedom * (variance_N / seed_variance) ** 2
        quantile_N = stdtrit(freedom_N, POWER) - stdtrit(freedom_N, (1 - confidence) / 2)
        return np.asarray(np.sqrt(variance_N) * quantile_N <= abs(difference))

    # Not halved from the ends: with more posts the seeds weigh more, and few of them say little of their variance.
    tried_N = np.unique(np.geomspace(2, _MOST_POSTS, 300).round())
    shown = np.flatnonzero(shows(tried_N))
    if not shown.size:
        return None
    enough, too_few = int(tried_N[shown[0]]), int(tried_N[shown[0] - 1]) if shown[0] else 1
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        enough, too_few = (middle, too_few) if shows(np.array([middle], np.float64))[0] else (enough, middle)
    return enough
