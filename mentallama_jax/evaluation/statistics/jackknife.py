"""The jackknife over posts: how much a figure changes when a post is left out.

With more than `MOST_BLOCKS` posts, that many blocks of equal size are left out instead.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mentallama_jax.evaluation.statistics.f1 import Counts

MOST_BLOCKS = 1000
_WEIGHTS_AT_ONCE = 2_000_000
_NO_WIDTH = 1e-12


@dataclass(frozen=True, slots=True)
class Spread:
    """How a figure varies.

    Attributes:
        variance: of the figure, by the jackknife.
        posts: how many the variance rests on: all, where each changes the figure as much; few, where few do.
        blocks: how many were left out in turn.
    """

    variance: float
    posts: float
    blocks: int

    @property
    def is_none(self) -> bool:
        """Whether the figure is the same whatever is left out."""
        return self.posts == 0

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the variance, from the kurtosis (blocks / posts) of the changes; blocks - 1 at most."""
        most = self.blocks - 1
        return most if self.posts >= self.blocks else min(most, 2 * self.posts / (1 - self.posts / self.blocks))


def left_out(groups: int) -> Iterator[Counts]:
    """How often each group counts when one is left out, [B, G], some blocks at a time; a single one stays."""
    if groups == 1:
        yield np.ones((1, 1))
        return
    blocks = min(groups, MOST_BLOCKS)
    block_G = np.arange(groups) % blocks
    step = max(1, _WEIGHTS_AT_ONCE // groups)
    for start in range(0, blocks, step):
        yield (block_G != np.arange(start, min(start + step, blocks))[:, None]).astype(np.float64)


def spread_of(value_B: Counts) -> Spread:
    """The spread of a figure of which these are the values with a block left out."""
    number = len(value_B)
    if np.ptp(value_B) <= _NO_WIDTH:
        return Spread(0.0, 0.0, number)
    square_B = (value_B - value_B.mean()) ** 2
    total = float(square_B.sum())
    return Spread((number - 1) / number * total, total**2 / float((square_B**2).sum()), number)
