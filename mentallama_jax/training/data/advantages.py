"""How much better an answer is than the others to its prompt, as TRL 1.16 counts it."""

import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray

_LEAST = 1e-4
Scale = Literal["group", "batch", "none"]


def advantages(rewards_A: NDArray[np.float64], group: int, scale: Scale) -> NDArray[np.float64]:
    """Rewards less the mean of their group, over a standard deviation and 1e-4.

    Args:
        rewards_A: of all answers, those to a prompt side by side; NaN where an answer has none: it counts nowhere.
        group: answers to a prompt.
        scale: whose standard deviation: that of the group, of all answers, or none.

    Returns:
        [answers]; 0 where there is no reward.
    """
    rewards_PG = rewards_A.reshape(-1, group)
    with _without_warnings():
        gains_PG = rewards_PG - np.nanmean(rewards_PG, axis=1, keepdims=True)
    if scale != "none":
        gains_PG = gains_PG / (deviations(rewards_A, group, scale)[:, None] + _LEAST)
    return np.nan_to_num(gains_PG, nan=0.0).ravel()


def deviations(rewards_A: NDArray[np.float64], group: int, scale: Scale) -> NDArray[np.float64]:
    """[prompts]: the standard deviation (Bessel's) of each group, or of all answers with the scale `batch`.

    It is 0 where fewer than two answers have a reward.
    """
    rewards_PG = rewards_A.reshape(-1, group)
    with _without_warnings():
        of_groups_P = np.nanstd(rewards_PG, axis=1, ddof=1)
        found_P = np.full_like(of_groups_P, np.nanstd(rewards_A, ddof=1)) if scale == "batch" else of_groups_P
    return np.nan_to_num(found_P, nan=0.0)


def _without_warnings() -> warnings.catch_warnings:
    """Keep numpy from warning of groups without rewards."""
    return warnings.catch_warnings(action="ignore", category=RuntimeWarning)
