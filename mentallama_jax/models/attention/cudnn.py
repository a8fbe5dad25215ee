"""Fused causal self-attention for GPUs by cuDNN, which knows no segments: for rows of one segment each."""

from typing import Literal

import jax
import jax.numpy as jnp

from mentallama_jax.models.attention.forms import Form, require

UNPACKED = Form(unpacked=True)


def cudnn_serves(q_BTNH: jax.Array) -> bool:
    """Whether `cudnn_attention` takes heads like these: 16 bits a number, a width that is a multiple of 8 up to 128."""
    H = q_BTNH.shape[-1]
    return q_BTNH.dtype in (jnp.bfloat16, jnp.float16) and H % 8 == 0 and H <= 128


def supports(form: Form, q_BTNH: jax.Array) -> bool:
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
