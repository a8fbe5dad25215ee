"""Finds numbers that are not finite: one NaN in one weight makes every answer of a model meaningless."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_CHUNK = 1 << 22


def unfit(tensor: np.ndarray[Any, Any], dtype: Any) -> str | None:
    """Why a tensor cannot be used as `dtype`: "NaN or infinity", or a number that `dtype` cannot hold; else None.

    Args:
        tensor: of fp32, fp16 or ml_dtypes' bfloat16, of any shape.
        dtype: the floating type that it is going to be cast to.
    """
    flat = tensor.reshape(-1)
    largest = 0.0
    for start in range(0, flat.size, _CHUNK):
        part = _largest(flat[start : start + _CHUNK])
        if not np.isfinite(part):
            return "holds NaN or infinity"
        largest = max(largest, part)
    with np.errstate(over="ignore"):
        cast = np.asarray(largest, np.float64).astype(np.float32).astype(jnp.dtype(dtype))
    return (
        None if np.isfinite(cast.astype(np.float32)) else f"holds {largest:.3g}, which {jnp.dtype(dtype)} cannot hold"
    )


def nonfinite_parameter(params: Any) -> str | None:
    """The path of the first parameter, on any devices, that holds NaN or infinity; None where all are finite."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    flags = [(path, _all_finite(leaf)) for path, leaf in leaves]
    return next(
        (jax.tree_util.keystr(path, simple=True, separator=".") for path, fine in flags if not bool(fine)), None
    )


@jax.jit
def _all_finite(x: jax.Array) -> jax.Array:
    return jnp.isfinite(x).all()


def _largest(flat: np.ndarray[Any, Any]) -> float:
    """The largest absolute value; NaN where there is one."""
    if flat.dtype in (np.dtype(np.float16), jnp.dtype(jnp.bfloat16)):
        # Without their sign, the bits of a half-precision number are in the order of its values; NaN is above infinity.
        # Comparing bits is fast in numpy, comparing the numbers themselves is not.
        bits = np.bitwise_and(flat.view(np.uint16), np.uint16(0x7FFF)).max()
        return float(bits.reshape(1).view(flat.dtype).astype(np.float32)[0])
    return float(np.maximum(np.abs(flat.max()), np.abs(flat.min())))
