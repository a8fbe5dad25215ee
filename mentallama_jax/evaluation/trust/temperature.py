"""A temperature for probabilities: the one number by which validation rows say that log-probabilities be divided.

It makes the log loss of the validation rows smallest. That loss is convex in 1 / temperature, so there is one best
value; it is found by bisection, the same on every machine. Dividing changes how sure a model is, never which label is
its likeliest.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax, stdtrit

from mentallama_jax.evaluation.trust.label_probabilities import LabelProbabilities

LOWEST, HIGHEST = 0.01, 100.0
_HALVINGS = 100
_MOST_REACH = 2 * float(np.log(HIGHEST / LOWEST))
"""Half an interval of the logarithm reaches at most so far, twice the whole range; a longer one says nothing."""


@dataclass(frozen=True, slots=True)
class Temperature:
    """A fitted temperature.

    Attributes:
        value: above 1 the model was too sure, below 1 not sure enough.
        interval: its lower and upper end, over the posts of validation; None where it stands at an end of its range, or
            next to nothing is known of it.
        rows: of validation, that it was fitted on.
        posts: different posts among them.
        without_log_probabilities: rows of validation besides these that carry none.
        remark: what to mind of it; None where there is nothing.
    """

    value: float
    interval: tuple[float, float] | None
    rows: int
    posts: int
    without_log_probabilities: int
    remark: str | None


def fit_temperature(found: LabelProbabilities, confidence: float = 0.95) -> Temperature:
    """Fit the temperature of a data set on its validation rows, of which there is at least one."""
    value, remark = _best(found)
    posts = len(set(found.posts))
    interval = None if remark else _interval(found, value, confidence)
    return Temperature(value, interval, found.rows, posts, found.without, remark)


def _best(found: LabelProbabilities) -> tuple[float, str | None]:
    if not np.ptp(found.log_RC, axis=1).any():
        return 1.0, "every row of validation gives all labels the same probability, so that none can be fitted"
    if _slope_R(found, 1 / LOWEST).mean() <= 0:
        return LOWEST, "stands at the lower end of its range: no row of validation is wrong, and it has no best value"
    if _slope_R(found, 1 / HIGHEST).mean() >= 0:
        return (
            HIGHEST,
            "stands at the upper end of its range: gold labels of validation are no likelier than others",
        )
    low, high = np.log(1 / HIGHEST), np.log(1 / LOWEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if _slope_R(found, float(np.exp(middle))).mean() > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2)), None


def _slope_R(found: LabelProbabilities, inverse: float) -> np.ndarray:
    """The derivative of each row's log loss by the inverse temperature."""
    shifted_RC = found.log_RC - found.log_RC.max(axis=1, keepdims=True)
    mean_R = (softmax(inverse * shifted_RC, axis=1) * shifted_RC).sum(axis=1)
    return mean_R - shifted_RC[np.arange(found.rows), found.gold_R]


def _interval(found: LabelProbabilities, value: float, confidence: float) -> tuple[float, float] | None:
    """Find the interval in the logarithm of the temperature: a sandwich estimate of variance, posts as clusters."""
    groups, group_R = np.unique(found.posts, return_inverse=True)
    if len(groups) < 2:
        return None
    shifted_RC = found.log_RC - found.log_RC.max(axis=1, keepdims=True)
    probability_RC = softmax(shifted_RC / value, axis=1)
    mean_R = (probability_RC * shifted_RC).sum(axis=1, keepdims=True)
    curvature = float((probability_RC * (shifted_RC - mean_R) ** 2).sum()) / value**2
    slope_G = np.bincount(group_R, _slope_R(found, 1 / value)) / value
    variance = len(groups) / (len(groups) - 1) * float((slope_G**2).sum()) / curvature**2
    reach = float(stdtrit(len(groups) - 1, (1 + confidence) / 2)) * np.sqrt(variance)
    if not reach < _MOST_REACH:  # next to nothing is known of it, and a figure that is endless is no JSON
        return None
    return float(value * np.exp(-reach)), float(value * np.exp(reach))
