"""How much better an answer is than the others to its prompt, as TRL 1.16 counts it."""

import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray

_LEAST = 1e-4


def advantages(
    rewards_A: NDArray[np.float64], group: int, scale: Literal["group", "batch", "none"]
) -> NDArray[np.float64]:
    """Rewards less the mean of their group, over a standard deviation (Bessel's) and 1e-4.

    Args:
        rewards_A: of all answers, those to a prompt side by side; NaN where an answer has none: it counts nowhere.
        group: answers to a prompt.
        scale: whose standard deviation: that of the group, of all answers, or none.

    Returns:
        [answers]; 0 where there is no reward.
    """
    rewards_PG = rewards_A.reshape(-1, group)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of groups without rewards
        gains_PG = rewards_PG - np.nanmean(rewards_PG, axis=1, keepdims=True)
        if scale == "group":
            gains_PG = gains_PG / (np.nanstd(rewards_PG, axis=1, ddof=1, keepdims=True) + _LEAST)
        elif scale == "batch":
            gains_PG = gains_PG / (np.nanstd(rewards_PG, ddof=1) + _LEAST)
    return np.nan_to_num(gains_PG, nan=0.0).ravel()
