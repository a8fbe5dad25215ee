"""Attention in blocks of queries with its own backward pass, for CPUs; all forms.

In causal self-attention each block of queries meets the keys up to its own end and no others, so the masked half above
the diagonal is neither computed nor stored; in the other forms it meets all keys. The largest intermediate is one block
of rows of the score matrix. The backward pass keeps the outputs and the log of each row's softmax denominator, and
forms the weights again (Dao et al. 2022, "FlashAttention", algorithm 4, by rows of blocks).

Shape suffixes: R = B * K (rows of the batched products), G query heads a key/value head, Q queries of a
block (with their G heads folded in), S keys that the block sees.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mentallama_jax.models.attention.forms import MASKED, Form, Places, require
from mentallama_jax.models.attention.reference import by_group
from mentallama_jax.models.remat import ATTENTION, kept_as

BLOCK = 128


def supports(form: Form, q_BTNH: jax.Array) -> bool:
    """Every form, over rows of whole blocks."""
    return q_BTNH.shape[1] % BLOCK == 0


def blockwise_attention(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    places: Places,
    *,
    key_places: Places | None = None,
    causal: bool = True,
    bias: jax.Array | None = None,
) -> jax.Array:
    """Compute `attention` block by block; the arguments and the result are the same.

    The segments of causal self-attention run left to right, and T is a multiple of `BLOCK` in all forms.

    Raises:
        ValueError: T is not, or the keys have another length and no places.
    """
    B, T, N, H = q_BTNH.shape
    K = k_BSKH.shape[2]
    if T % BLOCK:
        raise ValueError(f"rows of {T} tokens are not whole blocks of {BLOCK}")
    form = Form(causal, key_places is not None, bias is not None)
    require(True, "blockwise", form, q_BTNH, k_BSKH)
    q_RTGH = _rows(q_BTNH.reshape(B, T, K, N // K, H) * jnp.asarray(H**-0.5, q_BTNH.dtype))
    k_RSH, v_RSH = _rows(k_BSKH), _rows(v_BSKH)
    where = _places_of_rows(places, key_places, causal, K)
    grouped = None if bias is None else by_group(bias, K)
    out_RTGH = _attend(q_RTGH, k_RSH, v_RSH, where, grouped, causal and key_places is None)
    return out_RTGH.reshape(B, K, T, N // K, H).swapaxes(1, 2).reshape(B, T, N, H)


class _Rows(NamedTuple):
    """Segments and positions of the rows of the batched products.

    In causal self-attention only the segments of the queries are there, as the order of the tokens says the rest;
    without causality there are no positions.
    """

    q_segments_RT: jax.Array
    k_segments_RS: jax.Array | None
    q_positions_RT: jax.Array | None
    k_positions_RS: jax.Array | None


def _places_of_rows(places: Places, key_places: Places | None, causal: bool, kv_heads: int) -> _Rows:
    def repeated(x_BT: jax.Array) -> jax.Array:
        return jnp.repeat(x_BT, kv_heads, axis=0)

    segments_RT = repeated(places.segment_ids_BT)
    if key_places is None:
        return _Rows(segments_RT, None if causal else segments_RT, None, None)
    k_segments_RS = repeated(key_places.segment_ids_BT)
    if not causal:
        return _Rows(segments_RT, k_segments_RS, None, None)
    return _Rows(segments_RT, k_segments_RS, repeated(places.positions_BT), repeated(key_places.positions_BT))


def _rows(x_BTK: jax.Array) -> jax.Array:
    """[B, T, K, ...] -> [B * K, T, ...]: heads join the batch, which a batched product wants in front."""
    return x_BTK.swapaxes(1, 2).reshape(-1, x_BTK.shape[1], *x_BTK.shape[3:])


def _visible(where: _Rows, start: int) -> jax.Array:
    """[R, BLOCK, 1, S] bool: which of the keys that the block meets each of its queries sees."""
    end = start + BLOCK
    q_segments = where.q_segments_RT[:, start:end, None]
    if where.k_segments_RS is None:
        k_segments = where.q_segments_RT[:, None, :end]
        causal = jnp.arange(end)[None, :] <= jnp.arange(start, end)[:, None]
        return ((q_segments == k_segments) & (k_segments != 0) & causal)[:, :, None]
    k_segments = where.k_segments_RS[:, None]
    seen = (q_segments == k_segments) & (k_segments != 0)
    if where.q_positions_RT is not None and where.k_positions_RS is not None:
        seen = seen & (where.k_positions_RS[:, None] <= where.q_positions_RT[:, start:end, None])
    return seen[:, :, None]


def _sees_anything(where: _Rows, start: int) -> jax.Array:
    """[R, BLOCK, 1, 1] bool: which queries of a block see any key; in causal self-attention all but padding do."""
    if where.k_segments_RS is None:
        return (where.q_segments_RT[:, start : start + BLOCK] != 0)[:, :, None, None]
    return jnp.any(_visible(where, start), axis=-1, keepdims=True)


def _met(start: int, keys: int, triangular: bool) -> slice:
    """Which keys a block of queries meets."""
    return slice(0, start + BLOCK if triangular else keys)


def _scores(
    q_RTGH: jax.Array, k_RSH: jax.Array, where: _Rows, bias_BKGTS: jax.Array | None, start: int, met: slice
) -> jax.Array:
    """Masked fp32 scores of one block, [R, BLOCK, G, S]."""
    q_RQGH = q_RTGH[:, start : start + BLOCK]
    scores_RQGS = jnp.einsum("RQGH,RSH->RQGS", q_RQGH, k_RSH[:, met], preferred_element_type=jnp.float32)
    if bias_BKGTS is not None:
        rows = slice(start, start + BLOCK) if bias_BKGTS.shape[3] > 1 else slice(None)
        columns = met if bias_BKGTS.shape[4] > 1 else slice(None)
        bias_BKQGS = bias_BKGTS[:, :, :, rows, columns].swapaxes(2, 3)
        scores_RQGS = (_by_head(scores_RQGS, bias_BKGTS, where) + bias_BKQGS).reshape(scores_RQGS.shape)
    return jnp.where(_visible(where, start), scores_RQGS, MASKED)


def _by_head(x_RQGS: jax.Array, bias_BKGTS: jax.Array, where: _Rows) -> jax.Array:
    """[R, Q, G, S] -> [B, K, Q, G, S], as far as the bias tells its rows or heads apart."""
    rows, groups = bias_BKGTS.shape[:2]
    R = where.q_segments_RT.shape[0]
    outer = (rows, R // rows) if groups == 1 else (R // groups, groups)
    return x_RQGS.reshape(*outer, *x_RQGS.shape[1:])


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def _attend(
    q_RTGH: jax.Array,
    k_RSH: jax.Array,
    v_RSH: jax.Array,
    where: _Rows,
    bias_BKGTS: jax.Array | None,
    triangular: bool,
) -> jax.Array:
    return _forward(q_RTGH, k_RSH, v_RSH, where, bias_BKGTS, triangular)[0]


def _forward(
    q_RTGH: jax.Array,
    k_RSH: jax.Array,
    v_RSH: jax.Array,
    where: _Rows,
    bias_BKGTS: jax.Array | None,
    triangular: bool,
) -> tuple[jax.Array, tuple[Any, ...]]:
    outputs, log_sums = [], []
    for start in range(0, q_RTGH.shape[1], BLOCK):
        met = _met(start, k_RSH.shape[1], triangular)
        scores_RQGS = _scores(q_RTGH, k_RSH, where, bias_BKGTS, start, met)
        peak = jnp.max(scores_RQGS, axis=-1, keepdims=True)
        weights = jnp.exp(scores_RQGS - peak)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        out = jnp.einsum("RQGS,RSH->RQGH", weights.astype(v_RSH.dtype), v_RSH[:, met])
        # Padding sees nothing, so its weights are all alike: its outputs are cleared, not averaged.
        real = _sees_anything(where, start)
        outputs.append(jnp.where(real, out / total.astype(out.dtype), 0))
        log_sums.append(jnp.where(real, jnp.log(total) + peak, 0))
    out_RTGH, log_sum_RTG1 = (kept_as(ATTENTION, jnp.concatenate(x, 1)) for x in (outputs, log_sums))
    return out_RTGH, (q_RTGH, k_RSH, v_RSH, where, bias_BKGTS, out_RTGH, log_sum_RTG1)


def _backward(triangular: bool, saved: tuple[Any, ...], d_out_RTGH: jax.Array) -> tuple[Any, ...]:
    q_RTGH, k_RSH, v_RSH, where, bias_BKGTS, out_RTGH, log_sum_RTG1 = saved
    dtype = q_RTGH.dtype
    # d(score) = weight * (d(weight) - sum over keys of weight * d(weight)); that sum is out . d_out.
    delta_RTG1 = jnp.sum((out_RTGH * d_out_RTGH).astype(jnp.float32), axis=-1, keepdims=True)
    d_q, d_k_RSH, d_v_RSH = [], jnp.zeros(k_RSH.shape, jnp.float32), jnp.zeros(v_RSH.shape, jnp.float32)
    d_bias = None if bias_BKGTS is None else jnp.zeros_like(bias_BKGTS)
    for start in range(0, q_RTGH.shape[1], BLOCK):
        block, met = slice(start, start + BLOCK), _met(start, k_RSH.shape[1], triangular)
        weights_RQGS = jnp.exp(_scores(q_RTGH, k_RSH, where, bias_BKGTS, start, met) - log_sum_RTG1[:, block])
        # A masked score of a padding query minus its log-sum of 0 is still minus infinity: weight 0.
        d_out = d_out_RTGH[:, block]
        d_weights = jnp.einsum("RQGH,RSH->RQGS", d_out, v_RSH[:, met], preferred_element_type=jnp.float32)
        d_scores_RQGS = weights_RQGS * (d_weights - delta_RTG1[:, block])
        if d_bias is not None:
            d_bias = _add_to_bias(d_bias, _by_head(d_scores_RQGS, bias_BKGTS, where), block, met)
        d_scores = d_scores_RQGS.astype(dtype)
        d_q.append(jnp.einsum("RQGS,RSH->RQGH", d_scores, k_RSH[:, met]))
        d_k_RSH = d_k_RSH.at[:, met].add(
            jnp.einsum("RQGS,RQGH->RSH", d_scores, q_RTGH[:, block], preferred_element_type=jnp.float32)
        )
        d_v_RSH = d_v_RSH.at[:, met].add(
            jnp.einsum("RQGS,RQGH->RSH", weights_RQGS.astype(dtype), d_out, preferred_element_type=jnp.float32)
        )
    return jnp.concatenate(d_q, 1), d_k_RSH.astype(dtype), d_v_RSH.astype(dtype), None, d_bias


def _add_to_bias(d_bias_BKGTS: jax.Array, d_scores_BKQGS: jax.Array, block: slice, met: slice) -> jax.Array:
    """Add the gradient of a block's scores, summed over every dimension along which the bias was broadcast."""
    d_scores_BKGQS = d_scores_BKQGS.swapaxes(2, 3)
    broadcast = tuple(axis for axis, size in enumerate(d_bias_BKGTS.shape) if size == 1)
    rows = block if d_bias_BKGTS.shape[3] > 1 else slice(None)
    columns = met if d_bias_BKGTS.shape[4] > 1 else slice(None)
    return d_bias_BKGTS.at[:, :, :, rows, columns].add(jnp.sum(d_scores_BKGQS, axis=broadcast, keepdims=True))


_attend.defvjp(_forward, _backward)
