"""Choosing the next token: greedy, or at random among filtered tokens, with a random stream of its own for each row.

Shape suffixes: B rows, V vocabulary.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mentallama_jax.errors import UserError

_LOWEST, _HIGHEST = -(2**31), 2**31 - 1
_LEAST, _MOST = 1e-30, 1e30
"""Temperatures and penalties beyond act as these do: in fp32 they would be 0 or infinite, or make logits so."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; the penalty applies first, then the filters in this order.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest token and leaves the filters without meaning.
        top_k: only the k likeliest tokens (all that tie with the k-th), or None.
        top_p: only tokens such that all likelier ones together have a probability below this; 1 keeps all.
        min_p: only tokens that are at least this times as likely as the likeliest one; 0 keeps all.
        repetition_penalty: the logit of a token that the prompt or the answer holds is divided by this where it is
            positive, and multiplied where it is negative (Keskar et al. 2019, as Hugging Face computes it); 1 is none.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UserError(f"temperature {self.temperature}: give 0 (the likeliest token) or a number above it")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"top-k {self.top_k}: give a number of tokens from 1")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top-p {self.top_p}: give a probability above 0, at most 1")
        if not 0 <= self.min_p < 1:
            raise UserError(f"min-p {self.min_p}: give a share of the likeliest token's probability, from 0 to below 1")
        if not 0 < self.repetition_penalty < float("inf"):
            raise UserError(f"repetition-penalty {self.repetition_penalty}: give a number above 0; 1 is no penalty")
        if self.temperature == 0 and (self.top_k is not None or self.top_p < 1 or self.min_p > 0):
            raise UserError(
                "top-k, top-p and min-p choose among likely tokens at random: give a temperature above 0 too"
            )

    @property
    def uses(self) -> "Uses":
        """Which computations this asks for."""
        return Uses(
            self.temperature > 0, self.top_k is not None, self.top_p < 1, self.min_p > 0, self.repetition_penalty != 1
        )


class Uses(NamedTuple):
    """The computations that any row of a batch asks for; a program is compiled for them and does no others."""

    sampled: bool = False
    top_k: bool = False
    top_p: bool = False
    min_p: bool = False
    penalty: bool = False

    def joined(self, other: "Uses") -> "Uses":
        """What either asks for."""
        return Uses(*(one or another for one, another in zip(self, other, strict=True)))


class SamplingRows(NamedTuple):
    """The `Sampling` of each row, as arrays: fp32, but the int32 `top_k_B`, in which no limit is 2**31 - 1.

    Any accepted value is there as a number that fp32 and int32 can compute with.
    """

    temperature_B: Any
    top_k_B: Any
    top_p_B: Any
    min_p_B: Any
    penalty_B: Any

    @classmethod
    def of(cls, rows: Sequence[Sampling]) -> "SamplingRows":
        """The arrays of these rows."""
        return cls(
            np.array([_factor(row.temperature) if row.temperature else 0 for row in rows], np.float32),
            np.array([_HIGHEST if row.top_k is None else min(row.top_k, _HIGHEST) for row in rows], np.int32),
            np.array([row.top_p for row in rows], np.float32),
            np.array([row.min_p for row in rows], np.float32),
            np.array([_factor(row.repetition_penalty) for row in rows], np.float32),
        )


def _factor(value: float) -> float:
    return min(max(value, _LEAST), _MOST)


def next_tokens(logits_BV: jax.Array, keys_B: jax.Array, step: jax.Array | int, sampling: Sampling) -> jax.Array:
    """Choose a token for each row, all rows alike and without a penalty; [B] int32. See `choose`."""
    B = logits_BV.shape[0]
    rows = SamplingRows.of([sampling] * B)
    return choose(logits_BV, keys_B, jnp.broadcast_to(step, (B,)), rows, sampling.uses)


def choose(logits_BV: jax.Array, keys_B: jax.Array, steps_B: jax.Array, rows: SamplingRows, uses: Uses) -> jax.Array:
    """Choose a token for each row.

    Args:
        logits_BV: fp32, after penalties and constraints.
        keys_B: a random key for each row, see `row_keys`.
        steps_B: int32, how many tokens each row has so far; a row's draw depends on its key and this alone.
        rows: how, row by row.
        uses: what any of them asks for.

    Returns:
        [B] int32.
    """
    if not uses.sampled:
        return first_largest(logits_BV)
    drawn_B = jnp.asarray(rows.temperature_B) > 0
    kept_BV = keep(logits_BV, rows, uses)
    keys_B = jax.vmap(jax.random.fold_in)(keys_B, steps_B)
    noise_BV = jax.vmap(lambda key: jax.random.gumbel(key, kept_BV.shape[1:], jnp.float32))(keys_B)
    return first_largest(jnp.where(drawn_B[:, None], kept_BV + noise_BV, logits_BV))


def penalised(logits_BV: jax.Array, seen_BV: jax.Array, penalty_B: jax.Array) -> jax.Array:
    """The logits with those of tokens that a row holds already made less likely by its penalty."""
    penalty_B1 = jnp.asarray(penalty_B)[:, None]
    lowered_BV = jnp.where(logits_BV < 0, logits_BV * penalty_B1, logits_BV / penalty_B1)
    return jnp.where(seen_BV, lowered_BV, logits_BV)


def keep(logits_BV: jax.Array, rows: SamplingRows, uses: Uses) -> jax.Array:
    """The logits below each row's largest, divided by the temperature (where it is above 0).

    What the filters leave out is minus infinity; the likeliest token never is.
    """
    temperature_B = jnp.asarray(rows.temperature_B)
    below_BV = logits_BV - jnp.max(logits_BV, axis=1, keepdims=True)  # so that the largest stays finite
    logits_BV = below_BV / jnp.where(temperature_B > 0, temperature_B, 1)[:, None]
    if uses.top_k:
        weakest_B1 = _kth_largest(logits_BV, jnp.asarray(rows.top_k_B))[:, None]
        logits_BV = jnp.where(logits_BV >= weakest_B1, logits_BV, -jnp.inf)
    if uses.top_p:
        probabilities_BV = jax.nn.softmax(logits_BV, axis=-1)
        top_p_B = jnp.asarray(rows.top_p_B)
        weakest_B1 = jnp.where(top_p_B < 1, _nucleus_floor(probabilities_BV, top_p_B), 0)[:, None]
        logits_BV = jnp.where(probabilities_BV >= weakest_B1, logits_BV, -jnp.inf)
    if uses.min_p:
        floor_B1 = jnp.max(logits_BV, axis=1, keepdims=True) + jnp.log(jnp.asarray(rows.min_p_B))[:, None]
        logits_BV = jnp.where(logits_BV >= floor_B1, logits_BV, -jnp.inf)
    return logits_BV


def _kth_largest(values_BV: jax.Array, k_B: jax.Array) -> jax.Array:
    """[B]: the k-th largest value of each row, or minus infinity where there are no more than k.

    Found by halving the range of integers that are in the order of the floats: exact, for any k of each row.
    """
    bits_BV = jax.lax.bitcast_convert_type(values_BV + 0.0, jnp.int32)  # 0 for -0, which ties with it
    ordered_BV = jnp.where(bits_BV < 0, bits_BV ^ _HIGHEST, bits_BV)

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        enough_B, too_high_B = bounds
        middle_B = (enough_B | too_high_B) - ((enough_B ^ too_high_B) >> 1)  # rounded up, without overflow
        holds_B = jnp.sum(ordered_BV >= middle_B[:, None], axis=1) >= k_B
        return jnp.where(holds_B, middle_B, enough_B), jnp.where(holds_B, too_high_B, middle_B - 1)

    rows = values_BV.shape[0]
    start = (jnp.full(rows, _LOWEST, jnp.int32), jnp.full(rows, _HIGHEST, jnp.int32))
    found_B = jax.lax.fori_loop(0, 32, halve, start)[0]
    floats_B = jax.lax.bitcast_convert_type(jnp.where(found_B < 0, found_B ^ _HIGHEST, found_B), jnp.float32)
    return jnp.where(k_B >= values_BV.shape[1], -jnp.inf, floats_B)


def _nucleus_floor(probabilities_BV: jax.Array, top_p_B: jax.Array) -> jax.Array:
    """[B]: the smallest number above which there is less than `top_p_B` of probability, at most the largest of the row.

    Found by halving the range of float bit patterns, which for numbers from 0 to 1 are in the order of their
    values: exact after 31 halvings, where sorting the vocabulary would take 70 times as long on a CPU.
    """

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        too_low_B, enough_B = bounds
        middle_B = (too_low_B + enough_B) // 2
        floor_B1 = jax.lax.bitcast_convert_type(middle_B, jnp.float32)[:, None]
        mass_B = jnp.sum(jnp.where(probabilities_BV > floor_B1, probabilities_BV, 0), axis=1)
        below_B = mass_B < top_p_B
        return jnp.where(below_B, too_low_B, middle_B), jnp.where(below_B, middle_B, enough_B)

    rows = probabilities_BV.shape[0]
    one = int(np.float32(1).view(np.int32))
    start = (jnp.full(rows, -1, jnp.int32), jnp.full(rows, one, jnp.int32))
    # Below 0 where all of it, as fp32 adds it up, is less than is wanted; 1 where even the smallest top-p is 0 in fp32.
    found_B = jnp.maximum(jax.lax.fori_loop(0, 31, halve, start)[1], 0)
    return jnp.minimum(jax.lax.bitcast_convert_type(found_B, jnp.float32), jnp.max(probabilities_BV, axis=1))


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
    return jax.random.wrap_key_data(jnp.asarray(np.stack([key_words(seed, id_) for id_ in ids])), impl="threefry2x32")


def key_words(seed: int, name: str, sample: int = 0) -> NDArray[np.uint32]:
    """The two words of a row's random key; the first sample of a prompt has that of its only answer."""
    text = f"{seed}\n{name}\n{sample}" if sample else f"{seed}\n{name}"
    return np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], "<u4")
