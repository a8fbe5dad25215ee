"""Choosing the next token: greedy, temperature, top-k and top-p, with a random stream of its own for each row.

Shape suffixes: B rows, V vocabulary.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from mentallama_jax.errors import UserError


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; the filters apply in this order.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest token and leaves the filters without meaning.
        top_k: only the k likeliest tokens (all that tie with the k-th), or None.
        top_p: only tokens such that all likelier ones together have a probability below this; 1 keeps all.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UserError(f"temperature {self.temperature}: give 0 (the likeliest token) or a number above it")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"top-k {self.top_k}: give a number of tokens from 1")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top-p {self.top_p}: give a probability above 0, at most 1")
        if self.temperature == 0 and (self.top_k is not None or self.top_p < 1):
            raise UserError("top-k and top-p choose among likely tokens at random: give a temperature above 0 too")


def next_tokens(logits_BV: jax.Array, keys_B: jax.Array, step: jax.Array | int, sampling: Sampling) -> jax.Array:
    """Choose a token for each row.

    Args:
        logits_BV: fp32.
        keys_B: a random key for each row, see `row_keys`.
        step: how many tokens the rows have so far; a row's draw depends on its key and this alone.
        sampling: how.

    Returns:
        [B] int32.
    """
    if sampling.temperature == 0:
        return first_largest(logits_BV)
    kept_BV = keep(logits_BV, sampling)
    keys_B = jax.vmap(jax.random.fold_in, (0, None))(keys_B, step)
    noise_BV = jax.vmap(lambda key: jax.random.gumbel(key, kept_BV.shape[1:], jnp.float32))(keys_B)
    return first_largest(kept_BV + noise_BV)


def keep(logits_BV: jax.Array, sampling: Sampling) -> jax.Array:
    """Divide by the temperature (above 0) and set what the filters leave out to minus infinity."""
    logits_BV = logits_BV / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < logits_BV.shape[1]:
        weakest_B1 = jax.lax.top_k(logits_BV, sampling.top_k)[0][:, -1:]
        logits_BV = jnp.where(logits_BV >= weakest_B1, logits_BV, -jnp.inf)
    if sampling.top_p < 1:
        probabilities_BV = jax.nn.softmax(logits_BV, axis=-1)
        weakest_B1 = _nucleus_floor(probabilities_BV, sampling.top_p)[:, None]
        logits_BV = jnp.where(probabilities_BV >= weakest_B1, logits_BV, -jnp.inf)
    return logits_BV


def _nucleus_floor(probabilities_BV: jax.Array, top_p: float) -> jax.Array:
    """[B]: the smallest number above which there is less than `top_p` of probability.

    Found by halving the range of float bit patterns, which for numbers from 0 to 1 are in the order of their
    values: exact after 31 halvings, where sorting the vocabulary would take 70 times as long on a CPU.
    """

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        too_low_B, enough_B = bounds
        middle_B = (too_low_B + enough_B) // 2
        floor_B1 = jax.lax.bitcast_convert_type(middle_B, jnp.float32)[:, None]
        mass_B = jnp.sum(jnp.where(probabilities_BV > floor_B1, probabilities_BV, 0), axis=1)
        below_B = mass_B < top_p
        return jnp.where(below_B, too_low_B, middle_B), jnp.where(below_B, middle_B, enough_B)

    rows = probabilities_BV.shape[0]
    one = int(np.float32(1).view(np.int32))
    start = (jnp.full(rows, -1, jnp.int32), jnp.full(rows, one, jnp.int32))
    return jax.lax.bitcast_convert_type(jax.lax.fori_loop(0, 31, halve, start)[1], jnp.float32)


def first_largest(values_BV: jax.Array) -> jax.Array:
    """[B] int32: index of each row's largest value, the first of equals.

    XLA's own argmax carries pairs through a scalar loop on CPUs, ten times slower than these two reductions.
    """
    V = values_BV.shape[1]
    largest_B1 = jnp.max(values_BV, axis=1, keepdims=True)
    indices_BV = jax.lax.broadcasted_iota(jnp.int32, values_BV.shape, 1)
    # A row of NaN equals nothing: it gets the last token rather than an index out of range.
    return jnp.min(jnp.where(values_BV == largest_B1, indices_BV, V - 1), axis=1)


def row_keys(seed: int, ids: Sequence[str]) -> jax.Array:
    """A random key for each row from (seed, record id) alone, so that neither order nor batch matter; [B] keys."""
    words = [np.frombuffer(hashlib.sha256(f"{seed}\n{id_}".encode()).digest()[:8], "<u4") for id_ in ids]
    return jax.random.wrap_key_data(jnp.asarray(np.stack(words)), impl="threefry2x32")
