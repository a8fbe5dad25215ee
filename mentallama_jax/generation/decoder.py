"""The decoder with a cache of keys and values: a prompt once, then a few tokens at a time.

Shape suffixes: B rows, P prompt slots, T new tokens, S cache slots, D hidden, N query heads, K key/value heads,
G = N / K, R = T * G, H head width, V vocabulary. Prompts are padded on the left, so that all rows write their next
token to the same slot; a row's positions count from its first real token, so padding changes nothing.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from mentallama_jax.generation.key_value_cache import (
    KeyValueCache,
    LayerCache,
    as_held,
    cached_attention,
    laid_out,
    write,
)
from mentallama_jax.models.attention import Places, attention
from mentallama_jax.models.int8_weights import int8_params, with_int8_weights
from mentallama_jax.models.layers import RMSNorm
from mentallama_jax.models.llama import DecoderLayer, LlamaConfig
from mentallama_jax.models.low_rank import ADAPTER, SCALE, cast_floats
from mentallama_jax.models.module import Params, bind
from mentallama_jax.models.rotary import rotary_tables
from mentallama_jax.parallel.rules import constrain, current_mesh


class UnrolledLlama(NamedTuple):
    """The decoder's parameters with arrays of their own for each layer.

    Training scans over stacked layers; a scan that decodes would copy each layer's weights out of the stack for
    every single token, which costs more than the token.
    """

    embedding_VD: jax.Array
    layers: tuple[DecoderLayer, ...]
    final_norm: RMSNorm
    head_DV: jax.Array | None
    """None where the embedding is the head too."""


def unroll(
    config: LlamaConfig, params: Params, dtype: Any, *, donate: bool = False, int8_weights: bool = False
) -> UnrolledLlama:
    """Parameters for decoding, in the dtype of the computation.

    Args:
        config: of the model.
        params: nested dict with stacked layers, see `models.llama.abstract_params`.
        dtype: of weights and activations.
        donate: delete each stacked array once its layers are copied out, so that a device needs room for the
            model and one such array instead of two models. `params` cannot be used afterwards.
        int8_weights: keep the projections in int8, see `models.int8_weights`.
    """
    if int8_weights:
        config = with_int8_weights(config)
        params = int8_params(config, params, donate=donate)
    model = bind(config, params)
    stacked, structure = jax.tree.flatten(model.layers)
    heads = with_heads(params)
    split = []
    for array in stacked:
        joined = id(array) in heads
        placed = None
        if current_mesh() is not None and isinstance(array.sharding, NamedSharding):
            placed = of_one_layer(array.sharding, array.ndim, joined)
        split.append(_split(dtype, placed, joined)(array))
        if donate or (int8_weights and array.dtype == jnp.int8):  # made above
            jax.block_until_ready(split[-1])
            array.delete()
    layers = tuple(jax.tree.unflatten(structure, leaves) for leaves in zip(*split, strict=True))
    return UnrolledLlama(
        model.embedding[...].astype(dtype),
        layers,
        model.final_norm,
        None if config.tie_embeddings else model.head[...].astype(dtype),
    )


@lru_cache(maxsize=64)
def _split(dtype: Any, sharding: NamedSharding | None, joined: bool) -> Callable[[jax.Array], tuple[jax.Array, ...]]:
    """The jitted cut of a stack into layers, each born where `sharding` says; heads are side by side where `joined`."""

    def split(stacked: jax.Array) -> tuple[jax.Array, ...]:
        if joined:
            stacked = stacked.reshape(*stacked.shape[:-2], -1)
        return tuple(cast_floats([stacked[layer] for layer in range(stacked.shape[0])], dtype))

    return jax.jit(split, out_shardings=sharding)


def with_heads(params: Params) -> set[int]:
    """The identities of stacked weights [L, D, N, H] whose layers are kept as [D, N * H], and of what goes with them.

    With two dimensions they lie in the memory of a TPU as a product of few rows wants them. With three the compiler
    lays them out again at each visit, and their results too.
    """
    attention = params["layers"]["attention"]
    names = [name + ending for name in ("query", "key", "value") for ending in ("", SCALE)]
    beside = [attention.get(name + ADAPTER, {}) for name in ("query", "key", "value")]
    of_adapters = {id(each[part]) for each in beside for part in ("b", "magnitude") if part in each}
    return of_adapters | {id(attention[name]) for name in names if name in attention}


def of_one_layer(stacked: NamedSharding, dimensions: int, joined: bool) -> NamedSharding:
    """The sharding of a stack without its first dimension, which no rule cuts; the last one is gone where joined."""
    names = [*stacked.spec, *(None,) * dimensions][1:dimensions]
    return NamedSharding(stacked.mesh, PartitionSpec(*names[:-1] if joined else names))


def embed_tokens(model: UnrolledLlama, tokens_BT: jax.Array) -> jax.Array:
    """[B, T, D]; on a mesh the table's width is gathered, so that each device looks its own rows up."""
    table_VD = constrain(model.embedding_VD, "vocabulary", None)
    return constrain(jnp.take(table_VD, tokens_BT, axis=0), "batch", None, None)


def prefill(
    model: UnrolledLlama,
    config: LlamaConfig,
    tokens_BP: jax.Array,
    lengths_B: jax.Array,
    slots: int,
    cache_dtype: Any = None,
) -> tuple[jax.Array, KeyValueCache]:
    """Run prompts through the decoder and keep their keys and values.

    Args:
        model: the parameters.
        config: of the model.
        tokens_BP: int32 prompts, padded on the left.
        lengths_B: int32 real tokens of each row; 0 for a row that only fills up the batch.
        slots: size of the cache, at least P.
        cache_dtype: int8, or None for that of the activations.

    Returns:
        [B, D]: the last token's hidden state after the final norm. The cache, prompts in its first P slots.
    """
    P = tokens_BP.shape[1]
    offsets_BP = jnp.arange(P) - (P - lengths_B[:, None])
    places = Places(jnp.maximum(offsets_BP, 0), (offsets_BP >= 0).astype(jnp.int32))
    rotary = rotary_tables(places.positions_BT, config.head_dim, config.rope_theta, config.rope_scaling)
    x_BPD = embed_tokens(model, tokens_BP)
    caches = []
    for layer in model.layers:

        def attend(q_BPNH: jax.Array, k_BPKH: jax.Array, v_BPKH: jax.Array) -> jax.Array:
            caches.append(laid_out(k_BPKH, v_BPKH, slots - P, cache_dtype))
            return attention(q_BPNH, as_held(k_BPKH, cache_dtype), as_held(v_BPKH, cache_dtype), places)

        x_BPD = constrain(layer(x_BPD, rotary, attend), "batch", None, None)
    return model.final_norm(x_BPD[:, -1]), tuple(caches)


def extend(
    model: UnrolledLlama,
    config: LlamaConfig,
    cache: KeyValueCache,
    tokens_BT: jax.Array,
    positions_BT: jax.Array,
    slot: jax.Array | int,
    visible_BTS: jax.Array,
) -> tuple[jax.Array, KeyValueCache]:
    """Run further tokens through the decoder.

    Args:
        model: the parameters.
        config: of the model.
        cache: of what came before.
        tokens_BT: int32 tokens.
        positions_BT: int32 positions.
        slot: where the first of the tokens goes in the cache; the others follow.
        visible_BTS: which slots each token sees, its own among them.

    Returns:
        [B, T, D]: hidden states after the final norm. The cache with the tokens in it.
    """
    rotary = rotary_tables(positions_BT, config.head_dim, config.rope_theta, config.rope_scaling)
    x_BTD = embed_tokens(model, tokens_BT)
    caches = []
    for layer, layer_cache in zip(model.layers, cache, strict=True):

        def attend(
            q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array, before: LayerCache = layer_cache
        ) -> jax.Array:
            caches.append(write(before, k_BTKH, v_BTKH, slot))
            return cached_attention(q_BTNH, caches[-1], visible_BTS)

        x_BTD = constrain(layer(x_BTD, rotary, attend), "batch", None, None)
    return model.final_norm(x_BTD), tuple(caches)


def logits(model: UnrolledLlama, hidden_BD: jax.Array) -> jax.Array:
    """[B, V] fp32 scores of the next token."""
    if model.head_DV is None:
        # Behind a barrier: as a part of what reads the scores, XLA would make this product slowly on CPUs.
        return jax.lax.optimization_barrier(
            jnp.einsum("BD,VD->BV", hidden_BD, model.embedding_VD, preferred_element_type=jnp.float32)
        )
    return jnp.einsum("BD,DV->BV", hidden_BD, model.head_DV, preferred_element_type=jnp.float32)
