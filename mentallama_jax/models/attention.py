"""One attention function; every implementation honours causality, positions, segments and grouped heads.

Shape suffixes: B batch, T queries, S keys, N query heads, K key/value heads, G = N / K, H head width.
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


def attention(
    q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, q_places: Places, kv_places: Places
) -> jax.Array:
    """Causal softmax attention within segments, scores scaled by 1/sqrt(H).

    A query sees the keys of its own segment at its own and earlier positions. Segment 0 is padding or an empty
    cache slot: nothing sees it, and its own outputs are 0. Query head n uses key/value head n // (N / K).

    Args:
        q_BTNH: queries, rotated.
        k_BSKH: keys, rotated; N is a multiple of K.
        v_BSKH: values.
        q_places: of the queries.
        kv_places: of the keys.

    Returns:
        [B, T, N, H] in the dtype of `q_BTNH`; the softmax is in fp32.
    """
    return reference_attention(q_BTNH, k_BSKH, v_BSKH, q_places, kv_places)


def self_attention(q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array, places: Places) -> jax.Array:
    """`attention` of rows over themselves, where tokens of a segment stand in order of their positions.

    That order makes every key after a query invisible to it, so the blockwise implementation can leave
    out half of the work.
    """
    if q_BTNH.shape[1] % BLOCK == 0:
        return blockwise_attention(q_BTNH, k_BTKH, v_BTKH, places.segment_ids_BT)
    return attention(q_BTNH, k_BTKH, v_BTKH, places, places)


def reference_attention(
    q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, q_places: Places, kv_places: Places
) -> jax.Array:
    """Attention by the textbook: forms all [B, N, T, S] scores."""
    B, T, N, H = q_BTNH.shape
    K = k_BSKH.shape[2]
    q_segments, kv_segments = q_places.segment_ids_BT[:, :, None], kv_places.segment_ids_BT[:, None, :]
    earlier = kv_places.positions_BT[:, None, :] <= q_places.positions_BT[:, :, None]
    visible_BTS = (q_segments == kv_segments) & (kv_segments != 0) & earlier
    q_BTKGH = q_BTNH.reshape(B, T, K, N // K, H)
    scores = jnp.einsum("BTKGH,BSKH->BKGTS", q_BTKGH, k_BSKH, preferred_element_type=jnp.float32) * H**-0.5
    scores = jnp.where(visible_BTS[:, None, None], scores, _MASKED)
    weights = jax.nn.softmax(scores, axis=-1) * jnp.any(visible_BTS, -1)[:, None, None, :, None]
    return jnp.einsum("BKGTS,BSKH->BTKGH", weights.astype(v_BSKH.dtype), v_BSKH).reshape(B, T, N, H)
