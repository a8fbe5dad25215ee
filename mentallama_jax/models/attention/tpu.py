"""Fused causal self-attention for TPUs: the splash kernel of jax's Pallas library, forward and backward.

It leaves out blocks above the diagonal, compares segment ids inside a block, and keeps no scores in device memory.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

from mentallama_jax.models.attention.forms import PLAIN, Form, require
from mentallama_jax.models.remat import ATTENTION, KEY, QUERY, VALUE, kept_as

LANES = 128
"""Lengths and head widths are padded to whole vector registers of a TPU."""
_BLOCKS = (512, 384, 256, LANES)
"""Tokens of a tile: the first of these that divides the length."""


def supports(form: Form, q_BTNH: jax.Array) -> bool:
    """Causal self-attention without a bias: the kernel is built around a causal mask."""
    return form.is_plain


def splash_attention(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    segment_ids_BT: jax.Array,
    *,
    form: Form = PLAIN,
    interpret: bool = False,
) -> jax.Array:
    """Causal attention within segments over rows whose segments run left to right.

    Args:
        q_BTNH: queries, rotated; T and H are padded here to multiples of `LANES`.
        k_BTKH: keys, rotated; N is a multiple of K.
        v_BTKH: values.
        segment_ids_BT: int32; 0 is padding, whose outputs are 0.
        form: of the call.
        interpret: run the kernel step by step on any device, to test it.

    Returns:
        [B, T, N, H] in the dtype of `q_BTNH`; scores scaled by 1/sqrt(H), softmax in fp32.

    Raises:
        ValueError: a form that it does not support.
    """
    require(supports(form, q_BTNH), "splash", form, q_BTNH, k_BTKH)
    T, N, H = q_BTNH.shape[1:]
    length, width = -(-T // LANES) * LANES, -(-H // LANES) * LANES
    attend = _kernel(length, N, interpret)
    v_masked = jnp.where((segment_ids_BT != 0)[:, :, None, None], v_BTKH, 0)
    scaled = q_BTNH * jnp.asarray(H**-0.5, q_BTNH.dtype)
    # Kept for the backward pass as the kernel reads them: kept as they come, each would be laid out twice.
    heads_first = [
        kept_as(name, jnp.pad(x, ((0, 0), (0, length - T), (0, 0), (0, width - H))).swapaxes(1, 2))
        for name, x in ((QUERY, scaled), (KEY, k_BTKH), (VALUE, v_masked))
    ]
    # Padding meets padding, so that no row of the softmax is empty; the values there are 0, and so is what comes of it.
    segments_BT = jnp.pad(segment_ids_BT, ((0, 0), (0, length - T)))
    out_BNTH: Any = jax.vmap(attend)(*heads_first, kernels.SegmentIds(segments_BT, segments_BT))
    return out_BNTH.swapaxes(1, 2)[:, :T, :, :H]


def _kernel(length: int, heads: int, interpret: bool) -> kernels.SplashAttentionKernel:
    block = next(block for block in _BLOCKS if length % block == 0)
    sizes = kernels.BlockSizes(
        block_q=block,
        block_kv=block,
        block_kv_compute=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_kv_dkv_compute=block,
        block_q_dq=block,
        block_kv_dq=block,
    )
    causal = masks.MultiHeadMask([masks.CausalMask((length, length))] * heads)
    return kernels.make_splash_mha(
        causal,
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=1,
        residual_checkpoint_name=ATTENTION,
        interpret=interpret,
    )
