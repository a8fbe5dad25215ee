"""Whole numbers of 8 bits with scales: what frozen weights and the keys and values of a cache are stored in.

A number is stored as a whole one from -127 to 127; times its scale it is near what it was: within half a scale.
"""

import jax
import jax.numpy as jnp

LARGEST_INT8 = 127
_NOTHING = 1e-30
SCALE_DTYPE = jnp.dtype(jnp.bfloat16)


def to_int8(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """int8 numbers of the shape of `x`, and bfloat16 scales, one for all numbers along `axes`, which have size 1 there.

    The largest number under a scale is 127. Numbers that are all below `_NOTHING` become zeros with the scale 1; one
    that is not finite makes its scale not finite, so that what is damaged is seen to be.
    """
    whole = x.astype(jnp.float32)
    largest = jnp.max(jnp.abs(whole), axis=axes, keepdims=True)
    # In the dtype that they are used in, before they divide: what is rounded there is made up for here.
    scales = jnp.where(largest < _NOTHING, 1, largest / LARGEST_INT8).astype(SCALE_DTYPE)
    units = jnp.clip(jnp.round(whole / scales.astype(jnp.float32)), -LARGEST_INT8, LARGEST_INT8)
    return units.astype(jnp.int8), scales


def quantise(weight: jax.Array, inputs: int) -> tuple[jax.Array, jax.Array]:
    """int8 weights [L, inputs..., outputs...] and the scale of each output, [L, outputs...] bfloat16: see `to_int8`."""
    axes = tuple(range(1, 1 + inputs))
    units, scales = to_int8(weight, axes)
    return units, jnp.squeeze(scales, axes)
