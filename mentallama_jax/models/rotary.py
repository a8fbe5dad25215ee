"""Rotary position embeddings (Su et al. 2021) in the half-split layout of Hugging Face checkpoints."""

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How the rotary frequencies are changed to reach contexts past the pre-training length.

    Attributes:
        kind: `linear` divides every frequency by `factor` (Chen et al. 2023); `llama3` divides low
            frequencies and blends those between the two bounds (LLaMA 3.1); `dynamic` changes the base past
            `max_positions` only, so it equals no scaling for the rows this package accepts.
        factor: how far the context is stretched.
        low_frequency_factor: `llama3` only; wavelengths above original / this are divided by `factor`.
        high_frequency_factor: `llama3` only; wavelengths below original / this stay.
        original_max_positions: `llama3` only; the pre-training length in tokens.
    """

    kind: Literal["linear", "llama3", "dynamic"]
    factor: float
    low_frequency_factor: float | None = None
    high_frequency_factor: float | None = None
    original_max_positions: int | None = None

    def __post_init__(self) -> None:
        parts = (self.low_frequency_factor, self.high_frequency_factor, self.original_max_positions)
        if (self.kind == "llama3") != all(part is not None for part in parts):
            raise ValueError(
                f"rope scaling {self.kind!r}: the two frequency factors and the original length go with llama3"
            )


def rotary_frequencies(head_dim: int, theta: float, scaling: RopeScaling | None) -> np.ndarray:
    """Radians per position of each pair, [H/2] fp32: theta^(-2i/H), scaled."""
    frequencies = 1.0 / theta ** (np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim))
    frequencies = frequencies.astype(np.float32)
    if scaling is None or scaling.kind == "dynamic":
        return frequencies
    if scaling.kind == "linear":
        return frequencies / np.float32(scaling.factor)
    assert scaling.low_frequency_factor is not None  # checked by RopeScaling
    assert scaling.high_frequency_factor is not None
    assert scaling.original_max_positions is not None
    turns = scaling.original_max_positions * frequencies / (2 * math.pi)
    keep = (turns - scaling.low_frequency_factor) / (scaling.high_frequency_factor - scaling.low_frequency_factor)
    keep = np.clip(keep, 0.0, 1.0)
    return (frequencies * keep + frequencies / scaling.factor * (1 - keep)).astype(np.float32)


def rotary_tables(
    positions_BT: jax.Array, head_dim: int, theta: float, scaling: RopeScaling | None
) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines, [B, T, 1, H] fp32 each; the sines of the first half carry the minus of the rotation."""
    frequencies = jnp.asarray(rotary_frequencies(head_dim, theta, scaling))
    angles_BTP = positions_BT[..., None].astype(jnp.float32) * frequencies
    cos, sin = jnp.cos(angles_BTP), jnp.sin(angles_BTP)
    return jnp.concatenate([cos, cos], -1)[:, :, None], jnp.concatenate([-sin, sin], -1)[:, :, None]


@jax.custom_vjp
def apply_rotary(x_BTNH: jax.Array, cos_BT1H: jax.Array, sin_BT1H: jax.Array) -> jax.Array:
    """Rotate the pairs (i, i + H/2) of each head in fp32; the result has the dtype of `x_BTNH`.

    The halves change places by a product with a permutation matrix, which is exact: a TPU has no cheap way to move
    half a vector register. The backward pass is the same rotation backwards; the tables get no gradient.
    """
    H = x_BTNH.shape[-1]
    swap_HH = jnp.roll(jnp.eye(H, dtype=x_BTNH.dtype), H // 2, axis=0)
    swapped = jnp.dot(x_BTNH, swap_HH, preferred_element_type=jnp.float32)
    return (x_BTNH.astype(jnp.float32) * cos_BT1H + swapped * sin_BT1H).astype(x_BTNH.dtype)


def _forward(
    x_BTNH: jax.Array, cos_BT1H: jax.Array, sin_BT1H: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return apply_rotary(x_BTNH, cos_BT1H, sin_BT1H), (cos_BT1H, sin_BT1H)


def _backward(tables: tuple[jax.Array, jax.Array], d_rotated_BTNH: jax.Array) -> tuple[jax.Array, None, None]:
    cos_BT1H, sin_BT1H = tables
    return apply_rotary(d_rotated_BTNH, cos_BT1H, -sin_BT1H), None, None


apply_rotary.defvjp(_forward, _backward)
