"""Keys and values of what was read so far, and attention to them.

Shape suffixes: B rows, T new tokens, S cache slots, N query heads, K key/value heads, G = N / K, H head width.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mentallama_jax.models.attention.forms import MASKED
from mentallama_jax.models.attention.reference import by_group
from mentallama_jax.parallel.rules import constrain

CACHE = ("batch", "heads", None, None)
"""Names of the dimensions of cached keys and values; slots are not cut, as each step writes one of them."""


class LayerCache(NamedTuple):
    """Keys and values of one layer, laid out so that neither product of a decoding step transposes them."""

    keys_BKHS: jax.Array
    values_BKSH: jax.Array


KeyValueCache = tuple[LayerCache, ...]
"""One for each layer."""


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


def _constrained(keys_BKHS: jax.Array, values_BKSH: jax.Array) -> LayerCache:
    return LayerCache(constrain(keys_BKHS, *CACHE), constrain(values_BKSH, *CACHE))
