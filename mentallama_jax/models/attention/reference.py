"""Attention by the textbook: all forms, in whatever order the tokens stand; it forms all [B, N, T, S] scores."""

import jax
import jax.numpy as jnp

from mentallama_jax.models.attention.forms import MASKED, Places


def reference_attention(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    places: Places,
    *,
    key_places: Places | None = None,
    causal: bool = True,
    bias: jax.Array | None = None,
) -> jax.Array:
    """Compute `attention` with the whole score matrix; the arguments and the result are the same."""
    B, T, N, H = q_BTNH.shape
    K = k_BSKH.shape[2]
    q_positions_BT, q_segments_BT = places
    k_positions_BS, k_segments_BS = places if key_places is None else key_places
    visible_BTS = (q_segments_BT[:, :, None] == k_segments_BS[:, None, :]) & (k_segments_BS[:, None, :] != 0)
    if causal:
        visible_BTS = visible_BTS & (k_positions_BS[:, None, :] <= q_positions_BT[:, :, None])
    q_BTKGH = q_BTNH.reshape(B, T, K, N // K, H)
    scores_BKGTS = jnp.einsum("BTKGH,BSKH->BKGTS", q_BTKGH, k_BSKH, preferred_element_type=jnp.float32) * H**-0.5
    if bias is not None:
        scores_BKGTS = scores_BKGTS + by_group(bias, K)
    scores_BKGTS = jnp.where(visible_BTS[:, None, None], scores_BKGTS, MASKED)
    weights_BKGTS = jax.nn.softmax(scores_BKGTS, axis=-1) * jnp.any(visible_BTS, -1)[:, None, None, :, None]
    return jnp.einsum("BKGTS,BSKH->BTKGH", weights_BKGTS.astype(v_BSKH.dtype), v_BSKH).reshape(B, T, N, H)


def by_group(bias_BNTS: jax.Array, kv_heads: int) -> jax.Array:
    """The bias with its heads cut into K groups of G: [B or 1, K or 1, G or 1, T or 1, S or 1] in fp32."""
    rows, heads, queries, keys = bias_BNTS.shape
    groups = kv_heads if heads > 1 else 1
    return bias_BNTS.astype(jnp.float32).reshape(rows, groups, heads // groups, queries, keys)
