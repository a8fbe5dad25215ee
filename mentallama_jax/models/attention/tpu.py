"""Fused attention for TPUs: the splash kernel of jax's Pallas library, forward and backward.

It leaves out blocks above the diagonal where attention is causal, compares segment ids inside a block, and keeps no
scores in device memory.
"""

from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

from mentallama_jax.models.attention.forms import BIDIRECTIONAL, PLAIN, Form, key_segments, require
from mentallama_jax.models.remat import ATTENTION, KEY, QUERY, VALUE, kept_as

LANES = 128
"""Lengths are padded to whole vector registers of a TPU, and so are the heads of causal attention."""
_BLOCKS = (512, 384, 256, LANES)
"""Tokens of a tile: the first of these that divides the length."""


def supports(form: Form, q_BTNH: jax.Array) -> bool:
    """Causal self-attention, and without causality cross-attention too; no bias, for which the kernel has no place."""
    return form.is_plain or form.is_by_segments


def splash_attention(
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
        q_BTNH: queries, rotated where the model rotates; T and S are padded here to multiples of `LANES`.
        k_BSKH: keys, likewise; N is a multiple of K.
        v_BSKH: values.
        segment_ids_BT: int32; 0 is padding, whose outputs are 0.
        key_segment_ids_BS: of the keys of another sequence, in cross-attention.
        form: of the call.
        interpret: run the kernel step by step on any device, to test it.

    Returns:
        [B, T, N, H] in the dtype of `q_BTNH`; scores scaled by 1/sqrt(H), softmax in fp32.

    Raises:
        ValueError: a form that it does not support, or segments of keys that do not fit the form.
    """
    require(supports(form, q_BTNH), "splash", form, q_BTNH, k_BSKH)
    key_segments_BS = key_segments(form, segment_ids_BT, key_segment_ids_BS)
    T, N, H = q_BTNH.shape[1:]
    attend = _kernel(_whole(T), _whole(k_BSKH.shape[1]), N, form.causal, interpret)
    v_masked = jnp.where((key_segments_BS != 0)[:, :, None, None], v_BSKH, 0)
    scaled = q_BTNH * jnp.asarray(H**-0.5, q_BTNH.dtype)
    # The kernel takes heads of any width. Unpadded, what stands around it costs 0.70 million cycles instead of 1.06, by
    # the compiler for v5e (forward and backward, 8 x 512 tokens, 12 heads of 64).
    missing = _to_whole(H) if form.causal else (0, 0)
    # Kept for the backward pass as the kernel reads them: kept as they come, each would be laid out twice.
    heads_first = [
        kept_as(name, jnp.pad(x, ((0, 0), _to_whole(x.shape[1]), (0, 0), missing)).swapaxes(1, 2))
        for name, x in ((QUERY, scaled), (KEY, k_BSKH), (VALUE, v_masked))
    ]
    # Padding meets padding, so that no row of the softmax is empty; the values there are 0, and so is what comes of it.
    own_BT = jnp.pad(segment_ids_BT, ((0, 0), _to_whole(T)))
    other_BS = jnp.pad(key_segments_BS, ((0, 0), _to_whole(k_BSKH.shape[1]))) if form.cross else own_BT
    with nullcontext() if form.causal else jax.named_scope(BIDIRECTIONAL):
        out_BNTH: Any = jax.vmap(attend)(*heads_first, kernels.SegmentIds(own_BT, other_BS))
    out_BTNH = out_BNTH.swapaxes(1, 2)[:, :T, :, :H]
    if not form.cross:
        return out_BTNH
    # Of a query that sees no key the kernel makes the mean of all values. Cleared here, it gives no gradient either.
    return jnp.where(_sees_any(segment_ids_BT, key_segments_BS)[:, :, None, None], out_BTNH, 0)


def _whole(length: int) -> int:
    return -(-length // LANES) * LANES


def _to_whole(length: int) -> tuple[int, int]:
    """What `jnp.pad` adds to a dimension before and behind."""
    return 0, _whole(length) - length


def _sees_any(segments_BT: jax.Array, key_segments_BS: jax.Array) -> jax.Array:
    """[B, T] bool: which queries see a key."""
    key_segments_B1S = key_segments_BS[:, None]
    return jnp.any((segments_BT[:, :, None] == key_segments_B1S) & (key_segments_B1S != 0), axis=-1)


def _kernel(queries: int, keys: int, heads: int, causal: bool, interpret: bool) -> kernels.SplashAttentionKernel:
    rows, columns = (next(block for block in _BLOCKS if length % block == 0) for length in (queries, keys))
    sizes = kernels.BlockSizes(
        block_q=rows,
        block_kv=columns,
        block_kv_compute=columns,
        block_q_dkv=rows,
        block_kv_dkv=columns,
        block_kv_dkv_compute=columns,
        block_q_dq=rows,
        block_kv_dq=columns,
    )
    one = masks.CausalMask((queries, keys)) if causal else masks.FullMask((queries, keys))
    return kernels.make_splash_mha(
        masks.MultiHeadMask([one] * heads),
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=1,
        residual_checkpoint_name=ATTENTION,
        interpret=interpret,
    )
