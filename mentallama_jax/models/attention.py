"""One attention function; every implementation honours causality, positions, segments and grouped heads."""

import jax
import jax.numpy as jnp

_MASKED = -0.7 * float(jnp.finfo(jnp.float32).max)
"""A finite minus infinity: a fully masked row must give numbers, not NaN."""


def attention(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    *,
    q_positions_BT: jax.Array,
    kv_positions_BS: jax.Array,
    q_segment_ids_BT: jax.Array,
    kv_segment_ids_BS: jax.Array,
) -> jax.Array:
    """Causal softmax attention within segments, scores scaled by 1/sqrt(H).

    A query sees the keys of its own segment at its own and earlier positions. Segment 0 is padding: nothing
    sees it, and its own outputs are 0. Each query head n uses key/value head n // (N / K).

    Args:
        q_BTNH: queries, rotated.
        k_BSKH: keys, rotated; N is a multiple of K.
        v_BSKH: values.
        q_positions_BT: int32 position of each query within its segment.
        kv_positions_BS: int32 position of each key.
        q_segment_ids_BT: int32; 0 is padding.
        kv_segment_ids_BS: int32; 0 is padding or an empty cache slot.

    Returns:
        [B, T, N, H] in the dtype of `q_BTNH`; the softmax is in fp32.
    """
    visible_BTS = (
        (q_segment_ids_BT[:, :, None] == kv_segment_ids_BS[:, None, :])
        & (kv_segment_ids_BS[:, None, :] != 0)
        & (kv_positions_BS[:, None, :] <= q_positions_BT[:, :, None])
    )
    return reference_attention(q_BTNH, k_BSKH, v_BSKH, visible_BTS)


def reference_attention(q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, visible_BTS: jax.Array) -> jax.Array:
    """Attention by the textbook: forms all [B, N, T, S] scores. `visible_BTS` says which keys a query sees."""
    B, T, N, H = q_BTNH.shape
    K = k_BSKH.shape[2]
    q_BTKGH = q_BTNH.reshape(B, T, K, N // K, H)
    scores = jnp.einsum("BTKGH,BSKH->BKGTS", q_BTKGH, k_BSKH, preferred_element_type=jnp.float32) * H**-0.5
    scores = jnp.where(visible_BTS[:, None, None], scores, _MASKED)
    weights = jax.nn.softmax(scores, axis=-1) * jnp.any(visible_BTS, -1)[:, None, None, :, None]
    return jnp.einsum("BKGTS,BSKH->BTKGH", weights.astype(v_BSKH.dtype), v_BSKH).reshape(B, T, N, H)
