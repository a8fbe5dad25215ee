"""Cross-entropy on response tokens that never holds the logits of a whole batch."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from mentallama_jax.parallel.rules import check_divides, current_mesh, spec

CHUNK_TOKENS = 1024
"""Tokens of a device whose logits exist at one time: 1024 x 49,152 in fp32 are 200 MB."""


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
def cross_entropy_sum(
    hidden: jax.Array, head_DV: jax.Array, targets: jax.Array, mask: jax.Array, bias_V: jax.Array | None = None
) -> jax.Array:
    """Sum over tokens of mask * -log softmax(hidden @ head + bias)[target], in fp32.

    Works through `CHUNK_TOKENS` tokens at a time. Under differentiation the gradients of a chunk are formed
    while its logits are at hand, so that no logit is kept or computed twice. On several devices each works on its
    own rows and tokens and on its own part of the vocabulary.

    Args:
        hidden: [..., D], and [B, T, D] on several devices.
        head_DV: the output projection.
        targets: int32 [...], the token that each position predicts.
        mask: fp32 [...], the weight of each.
        bias_V: of each token, without a gradient; None adds nothing.

    Raises:
        ValueError: on several devices: rows, tokens or vocabulary do not divide along the mesh.
    """
    return _over_devices(hidden, head_DV, targets, mask, bias_V, gradients=0)[0]


def _forward(
    hidden: Any, head_DV: Any, targets: Any, mask: Any, bias_V: Any = None
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """The loss and its gradients; a frozen head has none, which would be a third of the products here."""
    wanted, bias_V = 2 if head_DV.perturbed else 1, None if bias_V is None else bias_V.value
    loss, *gradients = _over_devices(hidden.value, head_DV.value, targets.value, mask.value, bias_V, wanted)
    return loss, tuple(gradients)


def _backward(gradients: tuple[jax.Array, ...], cotangent: jax.Array) -> tuple[jax.Array | None, ...]:
    scaled = tuple(one * jnp.asarray(cotangent, one.dtype) for one in gradients)
    return (*scaled, *(None,) * (5 - len(scaled)))


cross_entropy_sum.defvjp(_forward, _backward, symbolic_zeros=True)


def _over_devices(
    hidden: jax.Array,
    head_DV: jax.Array,
    targets: jax.Array,
    mask: jax.Array,
    bias_V: jax.Array | None,
    gradients: int,
) -> tuple[jax.Array, ...]:
    """The loss and its gradients, whole or on each device its part: none, by `hidden` (1), by the head too (2)."""
    mesh = current_mesh()
    head_cast_DV = head_DV.astype(hidden.dtype)  # before it is gathered: half the bytes
    if mesh is None:
        loss, *found = _over_chunks(hidden, head_cast_DV, targets, mask, bias_V, None, gradients)
    else:
        check_divides(mesh, ("batch", "length", None), hidden.shape, "hidden states")
        check_divides(mesh, ("width", "vocabulary"), head_DV.shape, "head")
        rows, tokens = spec("batch", "length", None), spec("batch", "length")
        out_specs = (spec(), rows, spec("width", "vocabulary"))[: 1 + gradients]
        loss, *found = jax.shard_map(
            partial(_on_each_device, gradients=gradients),
            in_specs=(rows, spec(None, "vocabulary"), tokens, tokens, None if bias_V is None else spec("vocabulary")),
            out_specs=out_specs,
            check_vma=False,
        )(hidden, head_cast_DV, targets, mask, bias_V)
        # Together, or the compiler leaves adding up the head's gradient for the end of the step, and each device holds
        # all of its part of it, D x V in fp32, during the backward pass of the layers.
        found = list(jax.lax.optimization_barrier(tuple(found)))
    if gradients == 2:
        found[1] = found[1].astype(head_DV.dtype)
    return (loss, *found)


def _on_each_device(
    hidden_BTD: jax.Array,
    head_DV: jax.Array,
    targets_BT: jax.Array,
    mask_BT: jax.Array,
    bias_V: jax.Array | None,
    gradients: int,
) -> tuple[jax.Array, ...]:
    """A device's part under `shard_map`: its tokens against its part of the vocabulary, the whole width at hand."""
    loss, *found = _over_chunks(hidden_BTD, head_DV, targets_BT, mask_BT, bias_V, "tensor", gradients)
    loss = jax.lax.psum(loss, ("data", "fsdp", "sequence"))
    if not gradients:
        return (loss,)
    d_hidden_BTD = jax.lax.psum(found[0], "tensor")
    if gradients == 1:
        return loss, d_hidden_BTD
    d_head_DV = jax.lax.psum_scatter(found[1], "fsdp", scatter_dimension=0, tiled=True)
    return loss, d_hidden_BTD, jax.lax.psum(d_head_DV, ("data", "sequence"))


def _chunk(
    hidden_CD: jax.Array,
    head_DV: jax.Array,
    targets_C: jax.Array,
    mask_C: jax.Array,
    bias_V: jax.Array | None,
    axis: str | None,
    gradients: int,
) -> tuple[jax.Array, ...]:
    """Loss of one chunk and, if asked, its gradients [C, D] (in the dtype of hidden) and [D, V] fp32.

    Where the vocabulary is cut along a mesh axis, the loss is that of all of it, and the gradients are this part's.
    """
    logits_CV = jnp.einsum("CD,DV->CV", hidden_CD, head_DV, preferred_element_type=jnp.float32)
    if bias_V is not None:
        logits_CV = logits_CV + bias_V.astype(jnp.float32)
    vocabulary_V = jnp.arange(logits_CV.shape[-1])
    if axis is not None:
        vocabulary_V += jax.lax.axis_index(axis) * logits_CV.shape[-1]
    is_target_CV = vocabulary_V[None] == targets_C[:, None]
    peak_C1 = jnp.max(logits_CV, axis=-1, keepdims=True)
    peak_C1 = peak_C1 if axis is None else jax.lax.pmax(peak_C1, axis)
    exp_CV = jnp.exp(logits_CV - peak_C1)
    total_C1 = jnp.sum(exp_CV, axis=-1, keepdims=True)
    if axis is None:
        chosen_C = jnp.take_along_axis(logits_CV, targets_C[:, None], axis=-1)[:, 0]
    else:
        chosen_C = jnp.sum(jnp.where(is_target_CV, logits_CV, 0), axis=-1)
        total_C1, chosen_C = jax.lax.psum((total_C1, chosen_C), axis)
    loss = jnp.sum((jnp.log(total_C1[:, 0]) + peak_C1[:, 0] - chosen_C) * mask_C)
    if not gradients:
        return (loss,)
    d_logits_CV = (exp_CV * (mask_C[:, None] / total_C1) - is_target_CV * mask_C[:, None]).astype(hidden_CD.dtype)
    d_hidden_CD = jnp.einsum("CV,DV->CD", d_logits_CV, head_DV)
    if gradients == 1:
        return loss, d_hidden_CD
    d_head_DV = jnp.einsum("CD,CV->DV", hidden_CD, d_logits_CV, preferred_element_type=jnp.float32)
    return loss, d_hidden_CD, d_head_DV


def _over_chunks(
    hidden: jax.Array,
    head_DV: jax.Array,
    targets: jax.Array,
    mask: jax.Array,
    bias_V: jax.Array | None,
    axis: str | None,
    gradients: int,
) -> tuple[jax.Array, ...]:
    """Do what `_chunk` does for any number of tokens: hidden [..., D], targets and mask [...]."""
    D = hidden.shape[-1]
    hidden_TD, targets_T, mask_T = hidden.reshape(-1, D), targets.reshape(-1), mask.reshape(-1)
    T = len(hidden_TD)
    one_chunk = partial(_chunk, bias_V=bias_V, axis=axis, gradients=gradients)
    if T <= CHUNK_TOKENS:
        loss, *found = one_chunk(hidden_TD, head_DV, targets_T, mask_T)
    else:
        chunks = -(-T // CHUNK_TOKENS)
        pad = chunks * CHUNK_TOKENS - T

        def cut(x: jax.Array) -> jax.Array:
            return jnp.pad(x, [(0, pad)] + [(0, 0)] * (x.ndim - 1)).reshape(chunks, CHUNK_TOKENS, *x.shape[1:])

        def body(carry: list[jax.Array], chunk: tuple[jax.Array, ...]) -> tuple[list[jax.Array], list[jax.Array]]:
            loss, *found = one_chunk(chunk[0], head_DV, chunk[1], chunk[2])
            return [carry[0] + loss, *map(jnp.add, carry[1:], found[1:])], found[:1]

        start = [jnp.float32(0)] + ([jnp.zeros(head_DV.shape, jnp.float32)] if gradients == 2 else [])
        (loss, *d_head), d_hidden = jax.lax.scan(body, start, (cut(hidden_TD), cut(targets_T), cut(mask_T)))
        found = [*(one.reshape(-1, D)[:T] for one in d_hidden), *d_head]
    if gradients:
        found[0] = found[0].reshape(hidden.shape)
    return (loss, *found)
