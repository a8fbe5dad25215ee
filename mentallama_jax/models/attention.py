"""One attention function; every implementation honours causality, positions, segments and grouped heads.

Shape suffixes: B batch, T queries, S keys (the same tokens), N query heads, K key/value heads, G = N / K, H head width.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mentallama_jax.models.blockwise_attention import BLOCK, blockwise_attention

_MASKED = -0.7 * float(jnp.finfo(jnp.float32).max)
"""A finite minus infinity: a fully masked row must give numbers, not NaN."""


class Places(NamedTuple):
    """Where each token stands: int32 position within its segment, and int32 segment id (0 is padding), [B, T]."""

    positions_BT: jax.Array
    segment_ids_BT: jax.Array


def attention(q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array, places: Places) -> jax.Array:
    """Causal softmax attention within segments, scores scaled by 1/sqrt(H).

    A query sees the keys of its own segment at its own and earlier positions. Segment 0 is padding: nothing sees
    it, and its own outputs are 0. Query head n uses key/value head n // (N / K). The tokens of a segment stand in
    order of their positions, which makes every key after a query invisible to it: the blockwise implementation,
    taken where the rows are whole blocks, leaves that half of the work out.

    Args:
        q_BTNH: queries, rotated.
        k_BTKH: keys, rotated; N is a multiple of K.
        v_BTKH: values.
        places: of the tokens.

    Returns:
        [B, T, N, H] in the dtype of `q_BTNH`; the softmax is in fp32.
    """
    if q_BTNH.shape[1] % BLOCK == 0:
        return blockwise_attention(q_BTNH, k_BTKH, v_BTKH, places.segment_ids_BT)
    return reference_attention(q_BTNH, k_BTKH, v_BTKH, places)


def reference_attention(q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array, places: Places) -> jax.Array:
    """`attention` by the textbook, in whatever order the tokens stand: forms all [B, N, T, T] scores."""
    B, T, N, H = q_BTNH.shape
    K = k_BTKH.shape[2]
    positions_BT, segment_ids_BT = places
    visible_BTS = (
        (segment_ids_BT[:, :, None] == segment_ids_BT[:, None, :])
        & (segment_ids_BT[:, None, :] != 0)
        & (positions_BT[:, None, :] <= positions_BT[:, :, None])
    )
    q_BTKGH = q_BTNH.reshape(B, T, K, N // K, H)
    scores = jnp.einsum("BTKGH,BSKH->BKGTS", q_BTKGH, k_BTKH, preferred_element_type=jnp.float32) * H**-0.5
    scores = jnp.where(visible_BTS[:, None, None], scores, _MASKED)
    weights = jax.nn.softmax(scores, axis=-1) * jnp.any(visible_BTS, -1)[:, None, None, :, None]
    return jnp.einsum("BKGTS,BSKH->BTKGH", weights.astype(v_BTKH.dtype), v_BTKH).reshape(B, T, N, H)
