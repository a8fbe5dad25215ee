"""Cross-entropy on response tokens that never holds the logits of a whole batch."""

from functools import partial

import jax
import jax.numpy as jnp

CHUNK_TOKENS = 1024
"""Tokens whose logits exist at one time: 1024 x 49,152 in fp32 are 200 MB."""


def next_token_targets(batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """What each position predicts, and whether that counts.

    Args:
        batch: `tokens`, `segment_ids` and `loss_mask`, int32 [..., T]; `loss_mask` marks the tokens that are targets.

    Returns:
        targets and mask, [..., T] int32 and fp32: position t predicts token t+1 if that is a target of the
        same segment; the last position predicts nothing.
    """
    targets = jnp.roll(batch["tokens"], -1, axis=-1)
    counts = jnp.roll(batch["loss_mask"], -1, axis=-1) * (
        jnp.roll(batch["segment_ids"], -1, axis=-1) == batch["segment_ids"]
    )
    return targets, (counts * (batch["segment_ids"] != 0)).at[..., -1].set(0).astype(jnp.float32)


@jax.custom_vjp
def cross_entropy_sum(hidden_TD: jax.Array, head_DV: jax.Array, targets_T: jax.Array, mask_T: jax.Array) -> jax.Array:
    """Sum over tokens of mask * -log softmax(hidden @ head)[target], in fp32.

    Works through `CHUNK_TOKENS` tokens at a time. Under differentiation the gradients of a chunk are formed
    while its logits are at hand, so that no logit is kept or computed twice.
    """
    return _over_chunks(hidden_TD, head_DV, targets_T, mask_T, with_gradients=False)[0]


def _forward(hidden_TD, head_DV, targets_T, mask_T):  # type: ignore[no-untyped-def]
    loss, *gradients = _over_chunks(hidden_TD, head_DV, targets_T, mask_T, with_gradients=True)
    return loss, gradients


def _backward(gradients, cotangent):  # type: ignore[no-untyped-def]
    d_hidden_TD, d_head_DV = gradients
    return d_hidden_TD * cotangent.astype(d_hidden_TD.dtype), d_head_DV * cotangent.astype(d_head_DV.dtype), None, None


cross_entropy_sum.defvjp(_forward, _backward)


def _chunk(hidden_CD, head_DV, targets_C, mask_C, with_gradients):  # type: ignore[no-untyped-def]
    """Loss of one chunk and, if asked, its gradients [C, D] (in the dtype of hidden) and [D, V] fp32."""
    logits_CV = jnp.einsum("CD,DV->CV", hidden_CD, head_DV, preferred_element_type=jnp.float32)
    peak_C1 = jnp.max(logits_CV, axis=-1, keepdims=True)
    exp_CV = jnp.exp(logits_CV - peak_C1)
    total_C1 = jnp.sum(exp_CV, axis=-1, keepdims=True)
    chosen_C = jnp.take_along_axis(logits_CV, targets_C[:, None], axis=-1)[:, 0]
    loss = jnp.sum((jnp.log(total_C1[:, 0]) + peak_C1[:, 0] - chosen_C) * mask_C)
    if not with_gradients:
        return (loss,)
    is_target_CV = jnp.arange(logits_CV.shape[-1])[None] == targets_C[:, None]
    d_logits_CV = (exp_CV * (mask_C[:, None] / total_C1) - is_target_CV * mask_C[:, None]).astype(hidden_CD.dtype)
    d_hidden_CD = jnp.einsum("CV,DV->CD", d_logits_CV, head_DV)
    d_head_DV = jnp.einsum("CD,CV->DV", hidden_CD, d_logits_CV, preferred_element_type=jnp.float32)
    return loss, d_hidden_CD, d_head_DV


def _over_chunks(hidden_TD, head_DV, targets_T, mask_T, with_gradients):  # type: ignore[no-untyped-def]
    T, D = hidden_TD.shape
    one_chunk = partial(_chunk, with_gradients=with_gradients)
    head_cast_DV = head_DV.astype(hidden_TD.dtype)
    if T <= CHUNK_TOKENS:
        loss, *gradients = one_chunk(hidden_TD, head_cast_DV, targets_T, mask_T)
    else:
        chunks = -(-T // CHUNK_TOKENS)
        pad = chunks * CHUNK_TOKENS - T
        cut = lambda x: jnp.pad(x, [(0, pad)] + [(0, 0)] * (x.ndim - 1)).reshape(chunks, CHUNK_TOKENS, *x.shape[1:])  # noqa: E731

        def body(carry, chunk):  # type: ignore[no-untyped-def]
            loss, *gradients = one_chunk(chunk[0], head_cast_DV, chunk[1], chunk[2])
            summed = [carry[0] + loss] + ([carry[1] + gradients[1]] if with_gradients else [])
            return summed, gradients[:1]

        start = [jnp.float32(0)] + ([jnp.zeros(head_DV.shape, jnp.float32)] if with_gradients else [])
        (loss, *d_head), d_hidden = jax.lax.scan(body, start, (cut(hidden_TD), cut(targets_T), cut(mask_T)))
        gradients = [d_hidden[0].reshape(-1, D)[:T], d_head[0]] if with_gradients else []
    if with_gradients:
        gradients[1] = gradients[1].astype(head_DV.dtype)
    return (loss, *gradients)
