"""What a target may not say next: rules on its length, its first and last token, and on repetition.

Shape suffixes: R hypotheses, T places of a target, V vocabulary.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from mentallama_jax.errors import UserError


@dataclass(frozen=True, slots=True)
class TargetRules:
    """Rules as Hugging Face's generation configs name them; lengths count the start token.

    Attributes:
        max_length: of a target.
        min_length: no end token before a target has this length.
        no_repeat_ngram: n-grams of this size occur once; 0 for no rule.
        forced_first_id: the first token after the start, or None.
        forced_last_id: the token at `max_length`, or None.
        end_ids: tokens that end a target.
    """

    max_length: int
    end_ids: tuple[int, ...]
    min_length: int = 0
    no_repeat_ngram: int = 0
    forced_first_id: int | None = None
    forced_last_id: int | None = None

    def __post_init__(self) -> None:
        if self.max_length < 2:
            raise UserError(f"max_length {self.max_length}: the start token and one more are the least")
        if self.min_length < 0 or self.no_repeat_ngram < 0:
            raise UserError("min_length and no_repeat_ngram: give 0 for no rule, or a number above it")

    def __call__(self, scores_RV: jax.Array, targets_RT: jax.Array, length: jax.Array | int) -> jax.Array:
        """Set what the rules exclude to minus infinity, and the score of a forced token to 0.

        Args:
            scores_RV: fp32 logits or log-probabilities of the next token.
            targets_RT: int32 tokens so far, the start token first.
            length: how many of them there are, the same for all.
        """
        V = scores_RV.shape[1]
        ids_V = jnp.arange(V)
        if self.no_repeat_ngram:
            scores_RV = jnp.where(_completed(targets_RT, length, self.no_repeat_ngram, V), -jnp.inf, scores_RV)
        if self.min_length:
            is_end_V = jnp.isin(ids_V, jnp.asarray(self.end_ids))
            scores_RV = jnp.where(is_end_V & (length < self.min_length), -jnp.inf, scores_RV)
        for forced, when in ((self.forced_first_id, 1), (self.forced_last_id, self.max_length - 1)):
            if forced is not None:
                only_V = jnp.where(ids_V == forced, 0.0, -jnp.inf)
                scores_RV = jnp.where(length == when, only_V, scores_RV)
        return scores_RV


def _completed(targets_RT: jax.Array, length: jax.Array | int, size: int, vocabulary: int) -> jax.Array:
    """[R, V] bool: tokens that would complete an n-gram of this size that a target has already."""
    R, T = targets_RT.shape
    if size > T:
        return jnp.zeros((R, vocabulary), bool)
    windows = T - size + 1
    same_RW = jnp.ones((R, windows), bool)
    for place in range(size - 1):
        end_R1 = jax.lax.dynamic_slice_in_dim(targets_RT, jnp.maximum(length + 1 - size + place, 0), 1, axis=1)
        same_RW &= targets_RT[:, place : place + windows] == end_R1
    same_RW &= (jnp.arange(windows) + size <= length) & (length >= size)
    rows_R1 = jnp.arange(R)[:, None]
    return jnp.zeros((R, vocabulary), bool).at[rows_R1, targets_RT[:, size - 1 :]].max(same_RW)
