"""Drafts: tokens that are guessed, so that one step can write several.

A step reads all weights whether it computes one token of a slot or four. So behind each token that is chosen stand
tokens that followed the same tokens before, in a prompt or an answer, and the step computes the scores behind them too.
A drafted token is kept only where it is the one that is chosen anyway; behind the first that is not, all is dropped.
Answers are what they were, only sooner: speculative decoding (Leviathan et al. 2023, arXiv:2211.17192) with n-grams in
place of a second model (Ou et al. 2024, arXiv:2404.08698).

Shape suffixes: B slots, C tokens of a context, O orders of n-grams, P places of a table.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mentallama_jax.errors import UserError
from mentallama_jax.models.attention.dispatch import platform

CONTEXT = 3
"""Tokens that a guess looks back at."""
_PLACES = 2**16
"""Places of each table. What shares one with an older entry replaces it."""
_FACTOR = np.uint32(0x9E3779B1)
_ON_CPU, _MOST = 3, 8
WORTH = 1.6
"""Tokens a step from which on drafts pay: about the time of a step with three drafts over that of one without."""
_HALF = 256
"""Tokens after which what was seen before counts half."""


def usual_drafts() -> int:
    """Tokens that are drafted where nothing else is asked for: none but on CPUs, where it was measured."""
    return _ON_CPU if platform() == "cpu" else 0


def check_drafts(drafts: int) -> None:
    """Refuse a number of tokens that no step drafts.

    Raises:
        UserError: it is below 0 or above what pays.
    """
    if not 0 <= drafts <= _MOST:
        raise UserError(f"--drafts {drafts}: give a number from 0 (none) to {_MOST}")


class DraftTable(NamedTuple):
    """What followed n-grams of `CONTEXT` tokens (the first row), of one less, and so on.

    Attributes:
        hashes_OP: uint32, of the n-gram of each place; 0 where there is none.
        tokens_OP: int32, what followed it last.
    """

    hashes_OP: Any
    tokens_OP: Any


def drafted(table: DraftTable, context_BC: jax.Array) -> jax.Array:
    """A token that may follow, by the longest n-gram that is known; -1 where none is; [B] int32."""
    return _known(DraftTable(*map(jnp.asarray, table)), context_BC.astype(jnp.uint32), jnp.where)


def _known(table: DraftTable, context_XC: Any, where: Callable[..., Any]) -> Any:
    """What `drafted` finds, by numpy or by jax, of a uint32 context."""
    token_X: Any = np.int32(-1)
    for row in reversed(range(CONTEXT)):
        hash_X = _hashed(context_XC[:, row:])
        places_X = hash_X % _PLACES
        token_X = where(table.hashes_OP[row, places_X] == hash_X, table.tokens_OP[row, places_X], token_X)
    return token_X


def _hashed(context_XC: Any) -> Any:
    """Numbers from 1 of n-grams, uint32, by the same operations of numpy and jax."""
    mixed_X = context_XC[:, 0] * _FACTOR
    for place in range(1, context_XC.shape[1]):
        mixed_X = ((mixed_X ^ (mixed_X >> 15)) + context_XC[:, place]) * _FACTOR
    return (mixed_X ^ (mixed_X >> 15)) | np.uint32(1 << 31)


class Drafts:
    """The host's part: what has been read and written so far, and whether drafts would have been right.

    Attributes:
        most: tokens that are drafted a step, while it is worth it.
        worth: tokens a step that must come of it.
        table: for `drafted`.
    """

    def __init__(self, most: int, worth: float = WORTH) -> None:
        """Begin with nothing learned, and without drafts until something is."""
        self.most, self.worth = most, worth
        shape = (CONTEXT, _PLACES)
        self.table = DraftTable(np.zeros(shape, np.uint32), np.full(shape, -1, np.int32))
        self._tokens = self._steps = float(_HALF) / 4

    @property
    def now(self) -> int:
        """How many tokens a step is to draft; decided by tokens alone, so that all hosts of a mesh decide alike."""
        return self.most if self._tokens >= self.worth * self._steps else 0

    def read(self, prompt: Sequence[int]) -> None:
        """Learn from a prompt."""
        if self.most:
            self._learn(np.asarray(prompt).astype(np.uint32), len(prompt))

    def wrote(self, tokens: Sequence[int], new: int) -> None:
        """Learn from the last `new` tokens of an answer, which `CONTEXT` others precede where there are as many.

        Counts before how many steps would have written them, with drafts from what was known.
        """
        if not (self.most and new):
            return
        kept = 0.5 ** (new / _HALF)
        self._tokens = kept * self._tokens + new
        self._steps = kept * self._steps + self.steps(tokens, new)
        self._learn(np.asarray(tokens).astype(np.uint32), new)

    def steps(self, tokens: Sequence[int], new: int) -> int:
        """In how many steps the last `new` tokens would be written, with drafts from what is known."""
        ids = np.asarray(tokens).astype(np.uint32)
        context_XC = np.lib.stride_tricks.sliding_window_view(np.pad(ids, (CONTEXT, 0)), CONTEXT)[-new - 1 : -1]
        return _steps((_known(self.table, context_XC, np.where) == ids[-new:]).tolist(), self.most)

    def _learn(self, ids: Any, new: int) -> None:
        for row in range(CONTEXT):
            length = CONTEXT - row
            count = min(new, len(ids) - length)
            if count > 0:
                hashes = _hashed(np.lib.stride_tricks.sliding_window_view(ids, length)[-count - 1 : -1])
                places = hashes % _PLACES
                self.table.hashes_OP[row, places] = hashes
                self.table.tokens_OP[row, places] = ids[-count:]


def _steps(right: Sequence[bool], drafts: int) -> int:
    """Steps that write tokens of which these would have been guessed: each writes one, and what is right behind it."""
    steps = left = 0
    for is_right in right:
        left = left - 1 if is_right and left else drafts
        steps += left == drafts
    return steps
