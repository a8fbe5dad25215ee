"""Fused causal self-attention for GPUs: a kernel of our own that honours segments, and cuDNN where there are none.

Ours is FlashAttention 2 (Dao 2023) in Pallas, lowered by way of Triton. It forms scores a tile at a time, keeps of them
one number a row for the backward pass, and visits only tiles that hold a pair of tokens which may see each other: those
below the diagonal, and of packed rows little more than those along it. jax's own kernel of this kind is deprecated,
knows no grouped heads, does not name what the backward pass reads, and visits all tiles below the diagonal.

Shape suffixes besides those of `attention`: I blocks of queries, J blocks of keys, C tokens of a block.
"""

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from mentallama_jax.models.attention.forms import MASKED, PLAIN, Form, require
from mentallama_jax.models.remat import ATTENTION, kept_as

UNPACKED = Form(unpacked=True)
NARROWEST = 16
"""The least that a side of a Triton product may have."""
_LOWEST_PEAK = MASKED / 2
"""Far above a masked score and far below any other: what a masked score weighs next to it is exactly 0."""
_LOG2_E = 1.4426950408889634
"""Scores are turned to base 2, for which GPUs have an instruction."""


def supports(form: Form, q_BTNH: jax.Array) -> bool:
    """Causal self-attention without a bias: the kernels visit no tile above the diagonal."""
    return form.is_plain


def segment_attention(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    segment_ids_BT: jax.Array,
    *,
    form: Form = PLAIN,
    interpret: bool = False,
) -> jax.Array:
    """Causal attention within segments.

    Args:
        q_BTNH: queries, rotated, of any length; they are padded here to whole blocks, and H to a power of two.
        k_BTKH: keys, rotated; N is a multiple of K.
        v_BTKH: values.
        segment_ids_BT: int32; 0 is padding, whose outputs are 0. The tokens of a segment stand in order.
        form: of the call.
        interpret: run the kernels step by step on any device, to test them.

    Returns:
        [B, T, N, H] in the dtype of `q_BTNH`; scores scaled by 1/sqrt(H), softmax in fp32.

    Raises:
        ValueError: a form that it does not support.
    """
    require(supports(form, q_BTNH), "segment", form, q_BTNH, k_BTKH)
    T, _, H = q_BTNH.shape[1:]
    width = max(NARROWEST, pl.next_power_of_2(H))
    # What a kernel shares fits into the 99 kB of small GPUs, and kernels of 16 bits spill next to no registers.
    block = 64 if q_BTNH.dtype.itemsize == 2 and width <= 128 else 32
    length = pl.cdiv(T, block) * block
    padded = [jnp.pad(x, ((0, 0), (0, length - T), (0, 0), (0, width - H))) for x in (q_BTNH, k_BTKH, v_BTKH)]
    segments_BT = jnp.pad(segment_ids_BT, ((0, 0), (0, length - T)))
    return _attend(*padded, segments_BT, block, H**-0.5 * _LOG2_E, interpret)[:, :T, :, :H]


def cudnn_serves(q_BTNH: jax.Array) -> bool:
    """Whether `cudnn_attention` takes heads like these: 16 bits a number, a width that is a multiple of 8 up to 128."""
    H = q_BTNH.shape[-1]
    return q_BTNH.dtype in (jnp.bfloat16, jnp.float16) and H % 8 == 0 and H <= 128


def cudnn_supports(form: Form, q_BTNH: jax.Array) -> bool:
    """Causal self-attention without a bias over rows of one segment, with heads that cuDNN serves."""
    return form.is_plain and form.unpacked and cudnn_serves(q_BTNH)


def cudnn_attention(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    segment_ids_BT: jax.Array,
    *,
    form: Form = UNPACKED,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> jax.Array:
    """Causal attention over rows that hold one segment each, from their first token on, and padding behind it.

    Whether they do is not looked at, as it is a matter of values: a second segment of a row would be seen by the first.

    Args:
        q_BTNH: queries, rotated, such that `cudnn_serves`.
        k_BTKH: keys, rotated; N is a multiple of K.
        v_BTKH: values.
        segment_ids_BT: int32; 0 is padding, whose outputs are 0.
        form: of the call.
        implementation: `xla` is jax's own stand-in for cuDNN, of the same arguments, to test without a GPU.

    Returns:
        [B, T, N, H] in the dtype of `q_BTNH`; scores scaled by 1/sqrt(H), softmax in fp32.

    Raises:
        ValueError: heads that cuDNN does not serve, or a form that it does not support.
        RuntimeError: there is no cuDNN.
    """
    require(form.is_plain and form.unpacked, "cuDNN", form, q_BTNH, k_BTKH)
    if implementation == "cudnn" and not cudnn_serves(q_BTNH):
        raise ValueError(f"cuDNN attention takes no heads of {q_BTNH.dtype} with a width of {q_BTNH.shape[-1]}")
    real_BT11 = (segment_ids_BT != 0)[:, :, None, None]
    # An empty row counts as one token: nobody promises what comes of a softmax over nothing.
    lengths_B = jnp.maximum(jnp.sum(segment_ids_BT != 0, axis=1, dtype=jnp.int32), 1)
    # Cleared on both sides: neither values nor gradients of padding are promised to be 0, or numbers at all.
    q_BTNH, k_BTKH, v_BTKH = (jnp.where(real_BT11, x, 0) for x in (q_BTNH, k_BTKH, v_BTKH))
    out_BTNH = jax.nn.dot_product_attention(
        q_BTNH,
        k_BTKH,
        v_BTKH,
        is_causal=True,
        query_seq_lengths=lengths_B,
        key_value_seq_lengths=lengths_B,
        implementation=implementation,
    )
    return jnp.where(real_BT11, out_BTNH, 0)


def reach(segment_ids_BT: jax.Array, block: int) -> tuple[jax.Array, jax.Array]:
    """Which blocks meet: the first block of keys for each of queries, and for each of keys the end of those of queries.

    Two blocks may hold tokens of one segment where their ranges of segment ids overlap; padding counts as no segment.

    Args:
        segment_ids_BT: int32, T a multiple of `block`.
        block: tokens of a block.

    Returns:
        int32 [B, I] and [B, J]. Queries of block i meet keys of the blocks from first[i] to i; keys of block j meet
        queries of the blocks from j to end[j], end excluded. Both are empty for blocks of padding.
    """
    segments_BIC = segment_ids_BT.reshape(segment_ids_BT.shape[0], -1, block)
    count = segments_BIC.shape[1]
    high_BI = jnp.max(segments_BIC, axis=-1)
    low_BI = jnp.min(jnp.where(segments_BIC == 0, jnp.iinfo(jnp.int32).max, segments_BIC), axis=-1)
    overlap_BIJ = (low_BI[:, :, None] <= high_BI[:, None]) & (low_BI[:, None] <= high_BI[:, :, None])
    meet_BIJ = overlap_BIJ & (jnp.arange(count)[None, :] <= jnp.arange(count)[:, None])
    blocks = jnp.arange(count, dtype=jnp.int32)
    first_BI = jnp.min(jnp.where(meet_BIJ, blocks, count), axis=2)
    end_BJ = jnp.max(jnp.where(meet_BIJ, blocks[:, None] + 1, 0), axis=1)
    return first_BI, end_BJ


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """[m, n] @ [n, p] in fp32; inputs of fp32 are not rounded to the 10 bits of TF32."""
    return jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32)


def _scores(q_CH, k_CH, segments_ref, rows, keys, scale):  # type: ignore[no-untyped-def]
    """Masked base-2 scores of one tile, [queries, keys] fp32. `rows` and `keys` are the slices of its tokens."""
    q_segments, k_segments = segments_ref[rows][:, None], segments_ref[keys][None, :]
    q_places = rows.start + jnp.arange(rows.size, dtype=jnp.int32)[:, None]
    k_places = keys.start + jnp.arange(keys.size, dtype=jnp.int32)[None, :]
    visible = (q_segments == k_segments) & (k_segments != 0) & (k_places <= q_places)
    return jnp.where(visible, _product(q_CH, k_CH.T) * scale, MASKED)


def _forward_kernel(first_ref, segments_ref, q_ref, k_ref, v_ref, out_ref, log_sum_ref, *, scale):  # type: ignore[no-untyped-def]
    """Outputs of one block of queries of one head, and the base-2 log of the denominator of their softmax."""
    block, width = q_ref.shape
    i = pl.program_id(0)
    rows, q_CH = pl.ds(i * block, block), q_ref[...]

    def meet(j, carry):  # type: ignore[no-untyped-def]
        out_CH, peak_C, total_C = carry
        keys = pl.ds(j * block, block)
        scores = _scores(q_CH, k_ref[keys, :], segments_ref, rows, keys, scale)
        higher_C = jnp.maximum(peak_C, jnp.max(scores, axis=1))
        weights = jnp.exp2(scores - higher_C[:, None])
        shrink_C = jnp.exp2(peak_C - higher_C)
        out_CH = shrink_C[:, None] * out_CH + _product(weights.astype(v_ref.dtype), v_ref[keys, :])
        return out_CH, higher_C, shrink_C * total_C + jnp.sum(weights, axis=1)

    start = jnp.zeros((block, width), jnp.float32), jnp.full(block, _LOWEST_PEAK), jnp.zeros(block, jnp.float32)
    out_CH, peak_C, total_C = jax.lax.fori_loop(first_ref[i], i + 1, meet, start)
    sees_C = total_C > 0
    total_C = jnp.where(sees_C, total_C, 1)
    out_ref[...] = (out_CH / total_C[:, None]).astype(out_ref.dtype)
    # A masked score minus 0 still weighs nothing: rows that see nothing give no gradient.
    log_sum_ref[...] = jnp.where(sees_C, peak_C + jnp.log2(total_C), 0)


def _query_kernel(first_ref, segments_ref, q_ref, k_ref, v_ref, d_out_ref, log_sum_ref, delta_ref, d_q_ref, *, scale):  # type: ignore[no-untyped-def]
    """Gradient of one block of queries of one head."""
    block, width = q_ref.shape
    i = pl.program_id(0)
    rows, q_CH, d_out_CH = pl.ds(i * block, block), q_ref[...], d_out_ref[...]
    log_sum_C1, delta_C1 = log_sum_ref[...][:, None], delta_ref[...][:, None]

    def meet(j, d_q_CH):  # type: ignore[no-untyped-def]
        keys = pl.ds(j * block, block)
        k_CH = k_ref[keys, :]
        weights = jnp.exp2(_scores(q_CH, k_CH, segments_ref, rows, keys, scale) - log_sum_C1)
        d_scores = weights * (_product(d_out_CH, v_ref[keys, :].T) - delta_C1)
        return d_q_CH + _product(d_scores.astype(k_CH.dtype), k_CH)

    d_q_CH = jax.lax.fori_loop(first_ref[i], i + 1, meet, jnp.zeros((block, width), jnp.float32))
    d_q_ref[...] = (d_q_CH * (scale / _LOG2_E)).astype(d_q_ref.dtype)


def _key_kernel(  # type: ignore[no-untyped-def]
    end_ref, segments_ref, q_ref, k_ref, v_ref, d_out_ref, log_sum_ref, delta_ref, d_k_ref, d_v_ref, *, scale
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
            scores = _scores(q_CH, k_CH, segments_ref, rows, keys, scale)
            weights = jnp.exp2(scores - log_sum_ref[g, rows][:, None])
            d_scores = weights * (_product(d_out_CH, v_CH.T) - delta_ref[g, rows][:, None])
            d_v_CH += _product(weights.astype(d_out_CH.dtype).T, d_out_CH)
            return d_k_CH + _product(d_scores.astype(q_CH.dtype).T, q_CH), d_v_CH

        return jax.lax.fori_loop(j, end_ref[j], meet, carry)

    zeros = jnp.zeros((block, width), jnp.float32)
    d_k_CH, d_v_CH = jax.lax.fori_loop(0, q_ref.shape[1], meet_heads, (zeros, zeros))
    d_k_ref[...] = (d_k_CH * (scale / _LOG2_E)).astype(d_k_ref.dtype)
    d_v_ref[...] = d_v_CH.astype(d_v_ref.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def _attend(q_BTNH, k_BTKH, v_BTKH, segments_BT, block, scale, interpret):  # type: ignore[no-untyped-def]
    return _forward(q_BTNH, k_BTKH, v_BTKH, segments_BT, block, scale, interpret)[0]


def _specs(length: int, width: int, block: int, group: int) -> dict[str, pl.BlockSpec]:
    """What a kernel instance (block, query head, row) sees of each array; a None is its own index."""
    return {
        "reach": pl.BlockSpec((None, length // block), lambda i, n, b: (b, 0)),
        "tokens": pl.BlockSpec((None, length), lambda i, n, b: (b, 0)),
        "block": pl.BlockSpec((None, block, None, width), lambda i, n, b: (b, i, n, 0)),
        "keys": pl.BlockSpec((None, length, None, width), lambda i, n, b: (b, 0, n // group, 0)),
        "block sums": pl.BlockSpec((None, None, block), lambda i, n, b: (b, n, i)),
        "heads": pl.BlockSpec((None, length, group, width), lambda j, k, b: (b, 0, k, 0)),
        "heads' sums": pl.BlockSpec((None, group, length), lambda j, k, b: (b, k, 0)),
    }


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


def _forward(q_BTNH, k_BTKH, v_BTKH, segments_BT, block, scale, interpret):  # type: ignore[no-untyped-def]
    B, T, N, H = q_BTNH.shape
    see = _specs(T, H, block, N // k_BTKH.shape[2])
    shapes = q_BTNH, jax.ShapeDtypeStruct((B, N, T), jnp.float32)
    launch = _launch(
        partial(_forward_kernel, scale=scale),
        "segment_attention_forward",
        (T // block, N, B),
        [see["block"], see["block sums"]],
        [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in shapes],
        interpret,
    )
    out_BTNH, log_sum_BNT = launch(
        (see["reach"], reach(segments_BT, block)[0]),
        (see["tokens"], segments_BT),
        (see["block"], q_BTNH),
        (see["keys"], k_BTKH),
        (see["keys"], v_BTKH),
    )
    out_BTNH, log_sum_BNT = (kept_as(ATTENTION, x) for x in (out_BTNH, log_sum_BNT))
    return out_BTNH, (q_BTNH, k_BTKH, v_BTKH, segments_BT, out_BTNH, log_sum_BNT)


def _backward(block, scale, interpret, saved, d_out_BTNH):  # type: ignore[no-untyped-def]
    q_BTNH, k_BTKH, v_BTKH, segments_BT, out_BTNH, log_sum_BNT = saved
    B, T, N, H = q_BTNH.shape
    K = k_BTKH.shape[2]
    see = _specs(T, H, block, N // K)
    # d(score) = weight * (d(weight) - sum over keys of weight * d(weight)); that sum is out . d_out.
    delta_BNT = jnp.einsum("BTNH,BTNH->BNT", out_BTNH, d_out_BTNH, preferred_element_type=jnp.float32)
    first_BI, end_BJ = reach(segments_BT, block)
    like = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype)  # noqa: E731
    kernel, name = partial(_query_kernel, scale=scale), "segment_attention_queries"
    d_q_BTNH = _launch(kernel, name, (T // block, N, B), see["block"], like(q_BTNH), interpret)(
        (see["reach"], first_BI),
        (see["tokens"], segments_BT),
        (see["block"], q_BTNH),
        (see["keys"], k_BTKH),
        (see["keys"], v_BTKH),
        (see["block"], d_out_BTNH),
        (see["block sums"], log_sum_BNT),
        (see["block sums"], delta_BNT),
    )
    kernel, name, shapes = partial(_key_kernel, scale=scale), "segment_attention_keys", [like(k_BTKH), like(v_BTKH)]
    d_k_BTKH, d_v_BTKH = _launch(kernel, name, (T // block, K, B), [see["block"]] * 2, shapes, interpret)(
        (see["reach"], end_BJ),
        (see["tokens"], segments_BT),
        (see["heads"], q_BTNH),
        (see["block"], k_BTKH),
        (see["block"], v_BTKH),
        (see["heads"], d_out_BTNH),
        (see["heads' sums"], log_sum_BNT),
        (see["heads' sums"], delta_BNT),
    )
    return d_q_BTNH, d_k_BTKH, d_v_BTKH, None


_attend.defvjp(_forward, _backward)
