"""Log-probabilities of single tokens, differentiable, without the logits of a whole batch; and sums over segments."""

import jax
import jax.numpy as jnp

from mentallama_jax.parallel.rules import check_divides, current_mesh, spec
from mentallama_jax.training.loss import CHUNK_TOKENS, cross_entropy_sum


@jax.custom_vjp
def token_log_probabilities(hidden_BTD: jax.Array, head_DV: jax.Array, targets_BT: jax.Array) -> jax.Array:
    """The log-probability (nats, fp32, [B, T]) of the token that each position predicts.

    Works through `loss.CHUNK_TOKENS` tokens at a time; the backward pass computes logits again, a chunk at a time too.
    On several devices each works on its own rows and tokens and on its own part of the vocabulary.

    Args:
        hidden_BTD: hidden states.
        head_DV: the output projection.
        targets_BT: int32, the token that each position predicts.

    Raises:
        ValueError: on several devices: rows, tokens or vocabulary do not divide along the mesh.
    """
    mesh = current_mesh()
    head_cast_DV = head_DV.astype(hidden_BTD.dtype)  # before it is gathered: half the bytes
    if mesh is None:
        return _over_chunks(hidden_BTD, head_cast_DV, targets_BT, None)
    check_divides(mesh, ("batch", "length", None), hidden_BTD.shape, "hidden states")
    check_divides(mesh, ("width", "vocabulary"), head_DV.shape, "head")
    tokens = spec("batch", "length")
    return jax.shard_map(
        lambda hidden, head, targets: _over_chunks(hidden, head, targets, "tensor"),
        in_specs=(spec("batch", "length", None), spec(None, "vocabulary"), tokens),
        out_specs=tokens,
        check_vma=False,
    )(hidden_BTD, head_cast_DV, targets_BT)


def _forward(
    hidden_BTD: jax.Array, head_DV: jax.Array, targets_BT: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    return token_log_probabilities(hidden_BTD, head_DV, targets_BT), (hidden_BTD, head_DV, targets_BT)


def _backward(
    kept: tuple[jax.Array, jax.Array, jax.Array], cotangent_BT: jax.Array
) -> tuple[jax.Array, jax.Array, None]:
    """The gradient of a weighted sum of log-probabilities is that of a cross-entropy with the negative weights."""
    hidden_BTD, head_DV, targets_BT = kept
    _, gradients_of = jax.vjp(
        lambda hidden, head: cross_entropy_sum(hidden, head, targets_BT, -cotangent_BT), hidden_BTD, head_DV
    )
    return (*gradients_of(jnp.float32(1)), None)


token_log_probabilities.defvjp(_forward, _backward)


def _over_chunks(hidden_BTD: jax.Array, head_DV: jax.Array, targets_BT: jax.Array, axis: str | None) -> jax.Array:
    D = hidden_BTD.shape[-1]
    hidden_ND, targets_N = hidden_BTD.reshape(-1, D), targets_BT.reshape(-1)
    N = len(targets_N)
    if N <= CHUNK_TOKENS:
        return _chunk(hidden_ND, head_DV, targets_N, axis).reshape(targets_BT.shape)
    chunks = -(-N // CHUNK_TOKENS)
    pad = chunks * CHUNK_TOKENS - N
    hidden_KCD = jnp.pad(hidden_ND, ((0, pad), (0, 0))).reshape(chunks, CHUNK_TOKENS, D)
    targets_KC = jnp.pad(targets_N, (0, pad)).reshape(chunks, CHUNK_TOKENS)
    found_KC = jax.lax.map(lambda chunk: _chunk(chunk[0], head_DV, chunk[1], axis), (hidden_KCD, targets_KC))
    return found_KC.reshape(-1)[:N].reshape(targets_BT.shape)


def _chunk(hidden_CD: jax.Array, head_DV: jax.Array, targets_C: jax.Array, axis: str | None) -> jax.Array:
    """Log-probabilities of one chunk, [C] fp32; where the vocabulary is cut along a mesh axis, over all of it."""
    logits_CV = jnp.einsum("CD,DV->CV", hidden_CD, head_DV, preferred_element_type=jnp.float32)
    if axis is None:
        chosen_C = jnp.take_along_axis(logits_CV, targets_C[:, None], axis=-1)[:, 0]
        return chosen_C - jax.nn.logsumexp(logits_CV, axis=-1)
    vocabulary_V = jnp.arange(logits_CV.shape[-1]) + jax.lax.axis_index(axis) * logits_CV.shape[-1]
    chosen_C = jnp.sum(jnp.where(vocabulary_V[None] == targets_C[:, None], logits_CV, 0), axis=-1)
    peak_C1 = jax.lax.pmax(jnp.max(logits_CV, axis=-1, keepdims=True), axis)
    total_C = jnp.sum(jnp.exp(logits_CV - peak_C1), axis=-1)
    total_C, chosen_C = jax.lax.psum((total_C, chosen_C), axis)
    return chosen_C - jnp.log(total_C) - peak_C1[:, 0]


def members_of(segment_ids_BT: jax.Array, most: int) -> jax.Array:
    """Which segment each token belongs to, fp32 [B, T, S] with S = `most`: 1 at segment s + 1, else 0."""
    return jax.nn.one_hot(segment_ids_BT - 1, most, dtype=jnp.float32)


def segment_sums(values_BT: jax.Array, members_BTS: jax.Array) -> jax.Array:
    """The sum of each segment's values, fp32 [B, S]; a product of matrices, so equal whenever it is repeated."""
    return jnp.einsum("BT,BTS->BS", values_BT, members_BTS, precision=jax.lax.Precision.HIGHEST)


def of_segments(values_BS: jax.Array, members_BTS: jax.Array) -> jax.Array:
    """The value of the segment that each token belongs to, fp32 [B, T]; 0 on padding."""
    return jnp.einsum("BS,BTS->BT", values_BS, members_BTS, precision=jax.lax.Precision.HIGHEST)
