"""Fused attention for GPUs: a kernel of our own that honours segments.

It is FlashAttention 2 (Dao 2023) in Pallas, lowered by way of Triton. It forms scores a tile at a time, keeps of them
one number a row for the backward pass, and visits only tiles that hold a pair of tokens which may see each other: of
packed rows little more than those along the diagonal, and none above it where attention is causal. jax's own kernel of
this kind is deprecated, knows no grouped heads, does not name what the backward pass reads, and visits all tiles.

Shape suffixes besides those of `attention`: I blocks of queries, J blocks of keys, C tokens of a block, X numbers of a
row.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from mentallama_jax.models.attention.forms import MASKED, PLAIN, Form, key_segments, require
from mentallama_jax.models.remat import ATTENTION, kept_as

NARROWEST = 16
"""The least that a side of a Triton product may have."""
_LOWEST_PEAK = MASKED / 2
"""Far above a masked score and far below any other: what a masked score weighs next to it is exactly 0."""
_LOG2_E = 1.4426950408889634
"""Scores are turned to base 2, for which GPUs have an instruction."""


def supports(form: Form, q_BTNH: jax.Array) -> bool:
    """Causal self-attention, and without causality cross-attention too; no bias, which the kernels do not read."""
    return form.is_plain or form.is_by_segments


def segment_attention(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    segment_ids_BT: jax.Array,
    *,
    key_segment_ids_BS: jax.Array | None = None,
    form: Form = PLAIN,
    interpret: bool = False,
) -> jax.Array:
    """Attention within segments; where it is causal, the tokens of a segment stand in order.

    Args:
        q_BTNH: queries, rotated where the model rotates; T and S are padded here to whole blocks, H to a power of two.
        k_BSKH: keys, likewise; N is a multiple of K.
        v_BSKH: values.
        segment_ids_BT: int32; 0 is padding, whose outputs are 0.
        key_segment_ids_BS: of the keys of another sequence, in cross-attention.
        form: of the call.
        interpret: run the kernels step by step on any device, to test them.

    Returns:
        [B, T, N, H] in the dtype of `q_BTNH`; scores scaled by 1/sqrt(H), softmax in fp32.

    Raises:
        ValueError: a form that it does not support, or segments of keys that do not fit the form.
    """
    require(supports(form, q_BTNH), "segment", form, q_BTNH, k_BSKH)
    T, _, H = q_BTNH.shape[1:]
    width = max(NARROWEST, pl.next_power_of_2(H))
    # What a kernel shares fits into the 99 kB of small GPUs, and kernels of 16 bits spill next to no registers.
    block = 64 if q_BTNH.dtype.itemsize == 2 and width <= 128 else 32

    def missing(length: int) -> tuple[int, int]:
        return 0, pl.cdiv(length, block) * block - length

    padded = [jnp.pad(x, ((0, 0), missing(x.shape[1]), (0, 0), (0, width - H))) for x in (q_BTNH, k_BSKH, v_BSKH)]
    other_BS = key_segments(form, segment_ids_BT, key_segment_ids_BS)
    segments_BX = jnp.pad(segment_ids_BT, ((0, 0), missing(T)))
    if form.cross:
        other_BS = jnp.pad(other_BS, ((0, 0), missing(other_BS.shape[1])))
        segments_BX = jnp.concatenate([segments_BX, other_BS], axis=1)
    call = _Call(block, H**-0.5 * _LOG2_E, form.causal, padded[0].shape[1] if form.cross else 0, interpret)
    return _attend(*padded, segments_BX, call)[:, :T, :, :H]


class _Call(NamedTuple):
    """What is known of a call when its kernels are made.

    Attributes:
        block: tokens of a block.
        scale: of the scores, which are to base 2.
        causal: whether keys after a query are hidden.
        keys_at: where the segments of the keys begin behind those of the queries; 0 where both are the same.
        interpret: run the kernels step by step.
    """

    block: int
    scale: float
    causal: bool
    keys_at: int
    interpret: bool


def reach(segment_ids_BT: jax.Array, block: int) -> tuple[jax.Array, jax.Array]:
    """Which blocks meet in causal self-attention: the first of keys for queries, the end of those of queries for keys.

    Args:
        segment_ids_BT: int32, T a multiple of `block`.
        block: tokens of a block.

    Returns:
        int32 [B, I] and [B, J]. Queries of block i meet keys of the blocks from first[i] to i; keys of block j meet
        queries of the blocks from j to end[j], end excluded. Both are empty for blocks of padding.
    """
    overlap_BIJ = _overlap(segment_ids_BT, segment_ids_BT, block)
    count = overlap_BIJ.shape[1]
    meet_BIJ = overlap_BIJ & (jnp.arange(count)[None, :] <= jnp.arange(count)[:, None])
    blocks = jnp.arange(count, dtype=jnp.int32)
    first_BI = jnp.min(jnp.where(meet_BIJ, blocks, count), axis=2)
    end_BJ = jnp.max(jnp.where(meet_BIJ, blocks[:, None] + 1, 0), axis=1)
    return first_BI, end_BJ


def reach_both_ways(
    segment_ids_BT: jax.Array, key_segment_ids_BS: jax.Array, block: int
) -> tuple[jax.Array, jax.Array]:
    """Which blocks meet without causality: for each block the first of the other side, and the end.

    Args:
        segment_ids_BT: int32 of the queries, T a multiple of `block`.
        key_segment_ids_BS: int32 of the keys, S a multiple of `block`.
        block: tokens of a block.

    Returns:
        int32 [B, 2 I] and [B, 2 J], the firsts before the ends, which are excluded. Blocks that meet none, those of
        padding among them, begin behind their end.
    """
    overlap_BIJ = _overlap(segment_ids_BT, key_segment_ids_BS, block)

    def ranges(meet_BXY: jax.Array) -> jax.Array:
        count = meet_BXY.shape[2]
        blocks = jnp.arange(count, dtype=jnp.int32)
        first_BX = jnp.min(jnp.where(meet_BXY, blocks, count), axis=2)
        return jnp.concatenate([first_BX, jnp.max(jnp.where(meet_BXY, blocks + 1, 0), axis=2)], axis=1)

    return ranges(overlap_BIJ), ranges(overlap_BIJ.swapaxes(1, 2))


def _overlap(segments_BT: jax.Array, key_segments_BS: jax.Array, block: int) -> jax.Array:
    """[B, I, J] bool: whether the ranges of segment ids of two blocks overlap; padding counts as no segment.

    Where they do not, the blocks hold no two tokens of one segment.
    """

    def ranges(segments_BX: jax.Array) -> tuple[jax.Array, jax.Array]:
        segments_BXC = segments_BX.reshape(segments_BX.shape[0], -1, block)
        high_BX = jnp.max(segments_BXC, axis=-1)
        return jnp.min(jnp.where(segments_BXC == 0, jnp.iinfo(jnp.int32).max, segments_BXC), axis=-1), high_BX

    low_BI, high_BI = ranges(segments_BT)
    low_BJ, high_BJ = (low_BI, high_BI) if key_segments_BS is segments_BT else ranges(key_segments_BS)
    return (low_BI[:, :, None] <= high_BJ[:, None]) & (low_BJ[:, None] <= high_BI[:, :, None])


def _reach(segments_BX: jax.Array, call: _Call) -> tuple[jax.Array, jax.Array]:
    if call.causal:
        return reach(segments_BX, call.block)
    if not call.keys_at:
        return reach_both_ways(segments_BX, segments_BX, call.block)
    return reach_both_ways(segments_BX[:, : call.keys_at], segments_BX[:, call.keys_at :], call.block)


def _keys_met(reach_ref, i, call):  # type: ignore[no-untyped-def]
    """First and end of the blocks of keys that block i of queries meets."""
    return reach_ref[i], i + 1 if call.causal else reach_ref[reach_ref.shape[0] // 2 + i]


def _queries_met(reach_ref, j, call):  # type: ignore[no-untyped-def]
    """First and end of the blocks of queries that block j of keys meets."""
    return (j, reach_ref[j]) if call.causal else (reach_ref[j], reach_ref[reach_ref.shape[0] // 2 + j])


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """[m, n] @ [n, p] in fp32; inputs of fp32 are not rounded to the 10 bits of TF32."""
    return jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32)


def _scores(q_CH, k_CH, segments_ref, rows, keys, call):  # type: ignore[no-untyped-def]
    """Masked base-2 scores of one tile, [queries, keys] fp32. `rows` and `keys` are the slices of its tokens."""
    of_keys = pl.ds(call.keys_at + keys.start, keys.size) if call.keys_at else keys
    q_segments, k_segments = segments_ref[rows][:, None], segments_ref[of_keys][None, :]
    if call.causal:
        q_places = rows.start + jnp.arange(rows.size, dtype=jnp.int32)[:, None]
        k_places = keys.start + jnp.arange(keys.size, dtype=jnp.int32)[None, :]
        visible = (q_segments == k_segments) & (k_segments != 0) & (k_places <= q_places)
    else:
        visible = (q_segments == k_segments) & (k_segments != 0)
    return jnp.where(visible, _product(q_CH, k_CH.T) * call.scale, MASKED)


def _forward_kernel(reach_ref, segments_ref, q_ref, k_ref, v_ref, out_ref, log_sum_ref, *, call):  # type: ignore[no-untyped-def]
    """Outputs of one block of queries of one head, and the base-2 log of the denominator of their softmax."""
    block, width = q_ref.shape
    i = pl.program_id(0)
    rows, q_CH = pl.ds(i * block, block), q_ref[...]

    def meet(j, carry):  # type: ignore[no-untyped-def]
        out_CH, peak_C, total_C = carry
        keys = pl.ds(j * block, block)
        scores = _scores(q_CH, k_ref[keys, :], segments_ref, rows, keys, call)
        higher_C = jnp.maximum(peak_C, jnp.max(scores, axis=1))
        weights = jnp.exp2(scores - higher_C[:, None])
        shrink_C = jnp.exp2(peak_C - higher_C)
        out_CH = shrink_C[:, None] * out_CH + _product(weights.astype(v_ref.dtype), v_ref[keys, :])
        return out_CH, higher_C, shrink_C * total_C + jnp.sum(weights, axis=1)

    start = jnp.zeros((block, width), jnp.float32), jnp.full(block, _LOWEST_PEAK), jnp.zeros(block, jnp.float32)
    first, end = _keys_met(reach_ref, i, call)
    out_CH, peak_C, total_C = jax.lax.fori_loop(first, end, meet, start)
    sees_C = total_C > 0
    total_C = jnp.where(sees_C, total_C, 1)
    out_ref[...] = (out_CH / total_C[:, None]).astype(out_ref.dtype)
    # A masked score minus 0 still weighs nothing: rows that see nothing give no gradient.
    log_sum_ref[...] = jnp.where(sees_C, peak_C + jnp.log2(total_C), 0)


def _query_kernel(reach_ref, segments_ref, q_ref, k_ref, v_ref, d_out_ref, log_sum_ref, delta_ref, d_q_ref, *, call):  # type: ignore[no-untyped-def]
    """Gradient of one block of queries of one head."""
    block, width = q_ref.shape
    i = pl.program_id(0)
    rows, q_CH, d_out_CH = pl.ds(i * block, block), q_ref[...], d_out_ref[...]
    log_sum_C1, delta_C1 = log_sum_ref[...][:, None], delta_ref[...][:, None]

    def meet(j, d_q_CH):  # type: ignore[no-untyped-def]
        keys = pl.ds(j * block, block)
        k_CH = k_ref[keys, :]
        weights = jnp.exp2(_scores(q_CH, k_CH, segments_ref, rows, keys, call) - log_sum_C1)
        d_scores = weights * (_product(d_out_CH, v_ref[keys, :].T) - delta_C1)
        return d_q_CH + _product(d_scores.astype(k_CH.dtype), k_CH)

    first, end = _keys_met(reach_ref, i, call)
    d_q_CH = jax.lax.fori_loop(first, end, meet, jnp.zeros((block, width), jnp.float32))
    d_q_ref[...] = (d_q_CH * (call.scale / _LOG2_E)).astype(d_q_ref.dtype)


def _key_kernel(  # type: ignore[no-untyped-def]
    reach_ref, segments_ref, q_ref, k_ref, v_ref, d_out_ref, log_sum_ref, delta_ref, d_k_ref, d_v_ref, *, call
):
    """Gradients of one block of keys and values of one head, over all query heads that share it."""
    block, width = k_ref.shape
    j = pl.program_id(0)
    keys, k_CH, v_CH = pl.ds(j * block, block), k_ref[...], v_ref[...]

    def meet_heads(g, carry):  # type: ignore[no-untyped-def]
        def meet(i, carry):  # type: ignore[no-untyped-def]
            d_k_CH, d_v_CH = carry
            rows = pl.ds(i * block, block)
            q_CH, d_out_CH = q_ref[rows, g, :], d_out_ref[rows, g, :]
            scores = _scores(q_CH, k_CH, segments_ref, rows, keys, call)
            weights = jnp.exp2(scores - log_sum_ref[g, rows][:, None])
            d_scores = weights * (_product(d_out_CH, v_CH.T) - delta_ref[g, rows][:, None])
            d_v_CH += _product(weights.astype(d_out_CH.dtype).T, d_out_CH)
            return d_k_CH + _product(d_scores.astype(q_CH.dtype).T, q_CH), d_v_CH

        first, end = _queries_met(reach_ref, j, call)
        return jax.lax.fori_loop(first, end, meet, carry)

    zeros = jnp.zeros((block, width), jnp.float32)
    d_k_CH, d_v_CH = jax.lax.fori_loop(0, q_ref.shape[1], meet_heads, (zeros, zeros))
    d_k_ref[...] = (d_k_CH * (call.scale / _LOG2_E)).astype(d_k_ref.dtype)
    d_v_ref[...] = d_v_CH.astype(d_v_ref.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(q_BTNH, k_BSKH, v_BSKH, segments_BX, call):  # type: ignore[no-untyped-def]
    return _forward(q_BTNH, k_BSKH, v_BSKH, segments_BX, call)[0]


def _specs(queries: int, keys: int, width: int, block: int, group: int) -> dict[str, pl.BlockSpec]:
    """What a kernel instance (block, query head, row) sees of each array; a None is its own index."""
    return {
        "block": pl.BlockSpec((None, block, None, width), lambda i, n, b: (b, i, n, 0)),
        "keys": pl.BlockSpec((None, keys, None, width), lambda i, n, b: (b, 0, n // group, 0)),
        "block sums": pl.BlockSpec((None, None, block), lambda i, n, b: (b, n, i)),
        "heads": pl.BlockSpec((None, queries, group, width), lambda j, k, b: (b, 0, k, 0)),
        "heads' sums": pl.BlockSpec((None, group, queries), lambda j, k, b: (b, k, 0)),
    }


def _row(x_BX: jax.Array) -> tuple[pl.BlockSpec, jax.Array]:
    """An operand of whole rows of numbers."""
    return pl.BlockSpec((None, x_BX.shape[1]), lambda i, n, b: (b, 0)), x_BX


def _warps(q_BTNH: jax.Array) -> int:
    """The warps of a kernel: as few as hold its tiles in registers."""
    return 8 if q_BTNH.shape[-1] * q_BTNH.dtype.itemsize > 128 else 4


def _launch(kernel: Any, name: str, grid: tuple[int, ...], out_specs: Any, out_shape: Any, interpret: bool) -> Any:
    """`pallas_call` with what all kernels share; the operands' specs come with the operands, (spec, array) each."""

    def launch(*operands: tuple[pl.BlockSpec, jax.Array]) -> Any:
        specs, arrays = zip(*operands, strict=True)
        return pl.pallas_call(
            kernel,
            grid=grid,
            in_specs=list(specs),
            out_specs=out_specs,
            out_shape=out_shape,
            compiler_params=triton.CompilerParams(num_warps=_warps(arrays[2]), num_stages=2),
            interpret=interpret,
            name=name,
        )(*arrays)

    return launch


def _forward(q_BTNH, k_BSKH, v_BSKH, segments_BX, call):  # type: ignore[no-untyped-def]
    B, T, N, H = q_BTNH.shape
    see = _specs(T, k_BSKH.shape[1], H, call.block, N // k_BSKH.shape[2])
    shapes = q_BTNH, jax.ShapeDtypeStruct((B, N, T), jnp.float32)
    launch = _launch(
        partial(_forward_kernel, call=call),
        "segment_attention_forward",
        (T // call.block, N, B),
        [see["block"], see["block sums"]],
        [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in shapes],
        call.interpret,
    )
    out_BTNH, log_sum_BNT = launch(
        _row(_reach(segments_BX, call)[0]),
        _row(segments_BX),
        (see["block"], q_BTNH),
        (see["keys"], k_BSKH),
        (see["keys"], v_BSKH),
    )
    out_BTNH, log_sum_BNT = (kept_as(ATTENTION, x) for x in (out_BTNH, log_sum_BNT))
    return out_BTNH, (q_BTNH, k_BSKH, v_BSKH, segments_BX, out_BTNH, log_sum_BNT)


def _backward(call, saved, d_out_BTNH):  # type: ignore[no-untyped-def]
    q_BTNH, k_BSKH, v_BSKH, segments_BX, out_BTNH, log_sum_BNT = saved
    B, T, N, H = q_BTNH.shape
    S, K = k_BSKH.shape[1:3]
    see = _specs(T, S, H, call.block, N // K)
    # d(score) = weight * (d(weight) - sum over keys of weight * d(weight)); that sum is out . d_out.
    delta_BNT = jnp.einsum("BTNH,BTNH->BNT", out_BTNH, d_out_BTNH, preferred_element_type=jnp.float32)
    of_queries, of_keys = _reach(segments_BX, call)
    like = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype)  # noqa: E731
    kernel, name = partial(_query_kernel, call=call), "segment_attention_queries"
    d_q_BTNH = _launch(kernel, name, (T // call.block, N, B), see["block"], like(q_BTNH), call.interpret)(
        _row(of_queries),
        _row(segments_BX),
        (see["block"], q_BTNH),
        (see["keys"], k_BSKH),
        (see["keys"], v_BSKH),
        (see["block"], d_out_BTNH),
        (see["block sums"], log_sum_BNT),
        (see["block sums"], delta_BNT),
    )
    kernel, name, shapes = partial(_key_kernel, call=call), "segment_attention_keys", [like(k_BSKH), like(v_BSKH)]
    d_k_BSKH, d_v_BSKH = _launch(kernel, name, (S // call.block, K, B), [see["block"]] * 2, shapes, call.interpret)(
        _row(of_keys),
        _row(segments_BX),
        (see["heads"], q_BTNH),
        (see["block"], k_BSKH),
        (see["block"], v_BSKH),
        (see["heads"], d_out_BTNH),
        (see["heads' sums"], log_sum_BNT),
        (see["heads' sums"], delta_BNT),
    )
    return d_q_BTNH, d_k_BSKH, d_v_BSKH, None


_attend.defvjp(_forward, _backward)
