"""Causal self-attention in blocks of queries with its own backward pass, for CPUs.

Each block of queries meets the keys up to its own end and no others, so the masked half above the diagonal
is neither computed nor stored, and the largest intermediate is one block of rows of the score matrix. The
backward pass keeps the outputs and the log of each row's softmax denominator, and forms the weights again
(Dao et al. 2022, "FlashAttention", algorithm 4, by rows of blocks).

Shape suffixes: R = B * K (rows of the batched products), G query heads a key/value head, Q queries of a
block (with their G heads folded in), S keys that the block sees.
"""

import jax
import jax.numpy as jnp

from mentallama_jax.models.remat import ATTENTION, kept_as

BLOCK = 128
_MASKED = -0.7 * float(jnp.finfo(jnp.float32).max)


def blockwise_attention(
    q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array, segment_ids_BT: jax.Array
) -> jax.Array:
    """Causal attention within segments over rows whose segments run left to right.

    Args:
        q_BTNH: queries, rotated; T is a multiple of `BLOCK`.
        k_BTKH: keys, rotated; N is a multiple of K.
        v_BTKH: values.
        segment_ids_BT: int32; 0 is padding, whose outputs are 0.

    Returns:
        [B, T, N, H] in the dtype of `q_BTNH`; scores scaled by 1/sqrt(H), softmax in fp32.
    """
    B, T, N, H = q_BTNH.shape
    K = k_BTKH.shape[2]
    if T % BLOCK:
        raise ValueError(f"rows of {T} tokens are not whole blocks of {BLOCK}")
    q_RTGH = _rows(q_BTNH.reshape(B, T, K, N // K, H) * jnp.asarray(H**-0.5, q_BTNH.dtype))
    out_RTGH = _attend(q_RTGH, _rows(k_BTKH), _rows(v_BTKH), jnp.repeat(segment_ids_BT, K, axis=0))
    return out_RTGH.reshape(B, K, T, N // K, H).swapaxes(1, 2).reshape(B, T, N, H)


def _rows(x_BTK: jax.Array) -> jax.Array:
    """[B, T, K, ...] -> [B * K, T, ...]: heads join the batch, which a batched product wants in front."""
    return x_BTK.swapaxes(1, 2).reshape(-1, x_BTK.shape[1], *x_BTK.shape[3:])


def _visible(segment_ids_RT: jax.Array, start: int) -> jax.Array:
    """[R, BLOCK, 1, S] bool: which of the keys up to the block's end each of its queries sees."""
    end = start + BLOCK
    q_segments, k_segments = segment_ids_RT[:, start:end, None], segment_ids_RT[:, None, :end]
    causal = jnp.arange(end)[None, :] <= jnp.arange(start, end)[:, None]
    return ((q_segments == k_segments) & (k_segments != 0) & causal)[:, :, None]


def _scores(q_RTGH: jax.Array, k_RTH: jax.Array, segment_ids_RT: jax.Array, start: int) -> jax.Array:
    """Masked fp32 scores of one block, [R, BLOCK, G, S]."""
    q_RQGH = q_RTGH[:, start : start + BLOCK]
    scores = jnp.einsum("RQGH,RSH->RQGS", q_RQGH, k_RTH[:, : start + BLOCK], preferred_element_type=jnp.float32)
    return jnp.where(_visible(segment_ids_RT, start), scores, _MASKED)


@jax.custom_vjp
def _attend(q_RTGH: jax.Array, k_RTH: jax.Array, v_RTH: jax.Array, segment_ids_RT: jax.Array) -> jax.Array:
    return _forward(q_RTGH, k_RTH, v_RTH, segment_ids_RT)[0]


def _forward(q_RTGH, k_RTH, v_RTH, segment_ids_RT):  # type: ignore[no-untyped-def]
    outputs, log_sums = [], []
    for start in range(0, q_RTGH.shape[1], BLOCK):
        scores_RQGS = _scores(q_RTGH, k_RTH, segment_ids_RT, start)
        peak = jnp.max(scores_RQGS, axis=-1, keepdims=True)
        weights = jnp.exp(scores_RQGS - peak)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        out = jnp.einsum("RQGS,RSH->RQGH", weights.astype(v_RTH.dtype), v_RTH[:, : start + BLOCK])
        # Padding sees nothing, so its weights are all alike: its outputs are cleared, not averaged.
        real = (segment_ids_RT[:, start : start + BLOCK] != 0)[:, :, None, None]
        outputs.append(jnp.where(real, out / total.astype(out.dtype), 0))
        log_sums.append(jnp.where(real, jnp.log(total) + peak, 0))
    out_RTGH, log_sum_RTG1 = (kept_as(ATTENTION, jnp.concatenate(x, 1)) for x in (outputs, log_sums))
    return out_RTGH, (q_RTGH, k_RTH, v_RTH, segment_ids_RT, out_RTGH, log_sum_RTG1)


def _backward(saved, d_out_RTGH):  # type: ignore[no-untyped-def]
    q_RTGH, k_RTH, v_RTH, segment_ids_RT, out_RTGH, log_sum_RTG1 = saved
    dtype = q_RTGH.dtype
    # d(score) = weight * (d(weight) - sum over keys of weight * d(weight)); that sum is out . d_out.
    delta_RTG1 = jnp.sum((out_RTGH * d_out_RTGH).astype(jnp.float32), axis=-1, keepdims=True)
    d_q, d_k_RTH, d_v_RTH = [], jnp.zeros(k_RTH.shape, jnp.float32), jnp.zeros(v_RTH.shape, jnp.float32)
    for start in range(0, q_RTGH.shape[1], BLOCK):
        block, seen = slice(start, start + BLOCK), slice(0, start + BLOCK)
        weights_RQGS = jnp.exp(_scores(q_RTGH, k_RTH, segment_ids_RT, start) - log_sum_RTG1[:, block])
        # A masked score of a padding query minus its log-sum of 0 is still minus infinity: weight 0.
        d_out = d_out_RTGH[:, block]
        d_weights = jnp.einsum("RQGH,RSH->RQGS", d_out, v_RTH[:, seen], preferred_element_type=jnp.float32)
        d_scores = (weights_RQGS * (d_weights - delta_RTG1[:, block])).astype(dtype)
        d_q.append(jnp.einsum("RQGS,RSH->RQGH", d_scores, k_RTH[:, seen]))
        d_k_RTH = d_k_RTH.at[:, seen].add(
            jnp.einsum("RQGS,RQGH->RSH", d_scores, q_RTGH[:, block], preferred_element_type=jnp.float32)
        )
        d_v_RTH = d_v_RTH.at[:, seen].add(
            jnp.einsum("RQGS,RQGH->RSH", weights_RQGS.astype(dtype), d_out, preferred_element_type=jnp.float32)
        )
    return jnp.concatenate(d_q, 1), d_k_RTH.astype(dtype), d_v_RTH.astype(dtype), None


_attend.defvjp(_forward, _backward)
