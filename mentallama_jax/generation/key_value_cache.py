"""Keys and values of what was read so far, and attention to them.

Shape suffixes: B rows, T new tokens, S cache slots, N query heads, K key/value heads, G = N / K, H head width.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mentallama_jax.models.attention.dispatch import platform
from mentallama_jax.models.attention.forms import MASKED
from mentallama_jax.models.attention.reference import by_group
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.parallel.rules import constrain

MATRIX_ROWS = 8
"""Rows of a product that the matrix unit of a TPU takes at once."""
CACHE = ("batch", "heads", None, None)
"""Names of the dimensions of cached keys and values; slots are not cut, as each step writes one of them."""


class LayerCache(NamedTuple):
    """Keys and values of one layer, laid out so that neither product of a decoding step transposes them."""

    keys_BKHS: jax.Array
    values_BKSH: jax.Array


KeyValueCache = tuple[LayerCache, ...]
"""One for each layer."""


def empty(
    config: LlamaConfig, rows: int, slots: int, dtype: Any, names: tuple[str | None, ...] = CACHE
) -> KeyValueCache:
    """A cache of nothing but room, its dimensions by these names."""
    K, H = config.num_kv_heads, config.head_dim
    keys = constrain(jnp.zeros((rows, K, H, slots), dtype), *names)
    values = constrain(jnp.zeros((rows, K, slots, H), dtype), *names)
    return (LayerCache(keys, values),) * config.num_layers


def laid_out(k_BTKH: jax.Array, v_BTKH: jax.Array, free: int = 0) -> LayerCache:
    """A cache that holds these keys and values in its first slots, and has `free` slots behind them."""
    return _constrained(
        jnp.pad(jnp.transpose(k_BTKH, (0, 2, 3, 1)), ((0, 0), (0, 0), (0, 0), (0, free))),
        jnp.pad(jnp.transpose(v_BTKH, (0, 2, 1, 3)), ((0, 0), (0, 0), (0, free), (0, 0))),
    )


def write(cache: LayerCache, k_BTKH: jax.Array, v_BTKH: jax.Array, slot: jax.Array | int) -> LayerCache:
    """The cache with these keys and values from `slot` on."""
    k_BKHT, v_BKTH = jnp.transpose(k_BTKH, (0, 2, 3, 1)), jnp.transpose(v_BTKH, (0, 2, 1, 3))
    return _constrained(
        jax.lax.dynamic_update_slice(cache.keys_BKHS, k_BKHT, (0, 0, 0, slot)),
        jax.lax.dynamic_update_slice(cache.values_BKSH, v_BKTH, (0, 0, slot, 0)),
    )


def cached_attention(
    q_BTNH: jax.Array, cache: LayerCache, visible_BTS: jax.Array, bias_BNTS: jax.Array | None = None
) -> jax.Array:
    """Softmax attention over cache slots, scores scaled by 1/sqrt(H) plus the bias, softmax in fp32; [B, T, N, H]."""
    B, T, N, H = q_BTNH.shape
    K, S = cache.values_BKSH.shape[1:3]
    G = N // K
    q_BKRH = q_BTNH.reshape(B, T, K, G, H).swapaxes(1, 2).reshape(B, K, T * G, H)
    scores = jnp.einsum("BKRH,BKHS->BKRS", q_BKRH, cache.keys_BKHS, preferred_element_type=jnp.float32) * H**-0.5
    scores = scores.reshape(B, K, T, G, S)
    if bias_BNTS is not None:
        scores = scores + by_group(bias_BNTS, K).swapaxes(2, 3)
    scores = jnp.where(visible_BTS[:, None, :, None], scores, MASKED)
    weights_BKRS = jax.nn.softmax(scores, axis=-1).astype(cache.values_BKSH.dtype).reshape(B, K, T * G, S)
    out_BKRH = jnp.einsum("BKRS,BKSH->BKRH", weights_BKRS, cache.values_BKSH)
    out_BTNH = out_BKRH.reshape(B, K, T, G, H).swapaxes(1, 2).reshape(B, T, N, H)
    return constrain(out_BTNH, "batch", None, "heads", None)


def joint_attention(q_B1NH: jax.Array, caches: Sequence[LayerCache], visible: Sequence[jax.Array]) -> jax.Array:
    """Attention of one query of each row to several caches as if they were one; [B, 1, N, H].

    Args:
        q_B1NH: queries.
        caches: whose slots differ.
        visible: for each cache [B or 1, S] bool, which of its slots a row sees.
    """
    B, _, N, H = q_B1NH.shape
    K = caches[0].values_BKSH.shape[1]
    G, dtype = N // K, caches[0].values_BKSH.dtype
    q_BKRH = _whole_rows(q_B1NH.reshape(B, K, G, H))
    scores = [
        jnp.where(visible_BS[:, None, None], _product("BKRH,BKHS->BKRS", q_BKRH, cache.keys_BKHS) * H**-0.5, MASKED)
        for cache, visible_BS in zip(caches, visible, strict=True)
    ]
    # The sums of the softmax divide at the end: so no array of all scores is put together and cut again.
    highest_BKR1 = reduce(jnp.maximum, (jnp.max(one, axis=-1, keepdims=True) for one in scores))
    weights = [jnp.exp(one - highest_BKR1) for one in scores]
    total_BKR1 = reduce(jnp.add, (jnp.sum(one, axis=-1, keepdims=True) for one in weights))
    out_BKRH = reduce(
        jnp.add,
        (
            _product("BKRS,BKSH->BKRH", one.astype(dtype), cache.values_BKSH)
            for one, cache in zip(weights, caches, strict=True)
        ),
    )
    out_BKGH = (out_BKRH / total_BKR1)[:, :, :G].astype(dtype)
    return constrain(out_BKGH.reshape(B, 1, N, H), "batch", None, "heads", None)


def _product(subscripts: str, one: jax.Array, other: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, one, other, preferred_element_type=jnp.float32)


def _whole_rows(q_BKGH: jax.Array) -> jax.Array:
    """The query heads of a group, on TPUs filled up to `MATRIX_ROWS`.

    With as many rows the compiler for TPUs gives the products with keys and values to the matrix unit. With one, as in
    a model without grouped heads, they become sums of the vector unit, at six times the cycles: more than the
    memory takes to deliver keys and values.
    """
    missing = MATRIX_ROWS - q_BKGH.shape[2]
    if missing <= 0 or platform() != "tpu":
        return q_BKGH
    # Behind a barrier, as the compiler would see through the zeros.
    return jax.lax.optimization_barrier(jnp.pad(q_BKGH, ((0, 0), (0, 0), (0, missing), (0, 0))))


def _constrained(keys_BKHS: jax.Array, values_BKSH: jax.Array) -> LayerCache:
    return LayerCache(constrain(keys_BKHS, *CACHE), constrain(values_BKSH, *CACHE))
