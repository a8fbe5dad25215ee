"""Whole numbers of 8 or 4 bits with scales: what frozen weights and the keys and values of a cache are stored in.

A number is stored as a whole one, in 8 bits from -127 to 127, in 4 bits from -8 to 7; times its scale it is near what
it was. In 8 bits it is within half a scale. In 4 bits each group of weights has a scale of its own, and all are within
half of it but those near the largest of the group with the other sign, which are within one.
"""

from typing import Any

import jax
import jax.numpy as jnp

LARGEST_INT8 = 127
_NOTHING = 1e-30
SCALE_DTYPE = jnp.dtype(jnp.bfloat16)
GROUP = 64
"""Weights along the input that share a scale in int4; the largest divisor below it where it does not divide."""
_LEAST_INT4, _LARGEST_INT4 = -8, 7


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


def group_of(length: int) -> int:
    """How many of `length` weights along the input share a scale: the largest divisor up to `GROUP`."""
    return next(size for size in range(min(GROUP, length), 0, -1) if length % size == 0)


def to_int4(x: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """int4 numbers of the shape of `x`, and bfloat16 scales, one for each group of neighbours along `axis`.

    The number that is farthest from zero in a group becomes -8, whatever its sign: a scale may be negative. So all
    sixteen numbers are of use. Where all of a group are zero, the scale is 1.
    """
    size = group_of(x.shape[axis])
    grouped = x.astype(jnp.float32).reshape(*x.shape[:axis], -1, size, *x.shape[axis + 1 :])
    farthest = jnp.argmax(jnp.abs(grouped), axis=axis + 1, keepdims=True)
    largest = jnp.take_along_axis(grouped, farthest, axis=axis + 1)
    # In the dtype that they are used in, before they divide, as in `to_int8`.
    scales = jnp.where(jnp.abs(largest) < _NOTHING, 1, largest / _LEAST_INT4).astype(SCALE_DTYPE)
    units = jnp.clip(jnp.round(grouped / scales.astype(jnp.float32)), _LEAST_INT4, _LARGEST_INT4)
    return units.reshape(x.shape).astype(jnp.int4), jnp.squeeze(scales, axis + 1)


def quantise_in_groups(weight: jax.Array, inputs: int) -> tuple[jax.Array, jax.Array]:
    """int4 weights [L, inputs..., outputs...] and bfloat16 scales, which are as long, but for the last of the inputs.

    Along that axis there is one scale for each group: see `to_int4`.
    """
    return to_int4(weight, inputs)


def in_groups(units: jax.Array, scales: jax.Array) -> bool:
    """Whether the scales are those of `quantise_in_groups`, not of `quantise`."""
    return units.ndim == scales.ndim


def dense(units: jax.Array, scales: jax.Array) -> jax.Array:
    """The weights of `quantise_in_groups`, of one layer or of all, in the dtype of `scales`."""
    for axis, (length, groups) in enumerate(zip(units.shape, scales.shape, strict=True)):
        if length != groups:
            scales = jnp.repeat(scales, length // groups, axis=axis)
    return units.astype(scales.dtype) * scales


def stored_bits(dtype: Any) -> int:
    """Bits of a number in the memory of a device; numpy counts eight for four."""
    found = jnp.dtype(dtype)
    return jnp.iinfo(found).bits if jnp.issubdtype(found, jnp.integer) else 8 * found.itemsize
