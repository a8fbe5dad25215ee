"""The decoder of an encoder-decoder, token by token, for several hypotheses (beams) of each source.

Shape suffixes: B sources, S source tokens, J beams, R = B * J hypotheses, D hidden, N heads, H head width, T cache
slots, V vocabulary.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mentallama_jax.generation.key_value_cache import (
    KeyValueCache,
    LayerCache,
    cached_attention,
    laid_out,
    rows_of,
    write,
)
from mentallama_jax.models.attention import Places
from mentallama_jax.models.encoder_decoder import EncoderDecoder, SeqDecoderLayer
from mentallama_jax.models.module import Params, bind


class ReadSource(NamedTuple):
    """Sources as the decoder asks them: keys and values of each layer, and which tokens are real."""

    memory: KeyValueCache
    real_BS: jax.Array


class SequenceDecoder(NamedTuple):
    """A model whose decoder layers have arrays of their own; a scan would copy them out of the stack for each token."""

    model: EncoderDecoder
    layers: tuple[SeqDecoderLayer, ...]
    dtype: Any

    @classmethod
    def of(cls, config: Any, params: Params, dtype: Any) -> "SequenceDecoder":
        """The decoder of these parameters, in the dtype of the computation."""
        model: EncoderDecoder = bind(config, params)
        stacked = jax.tree.map(lambda weight: weight.astype(dtype), model.decoder_layers)
        layers = tuple(
            jax.tree.map(lambda weight, number=number: weight[number], stacked)
            for number in range(config.decoder_layers)
        )
        return cls(model, layers, dtype)

    def read(self, tokens_BS: jax.Array, lengths_B: jax.Array) -> ReadSource:
        """Encode sources that are padded on the right, once for all their beams.

        Args:
            tokens_BS: int32.
            lengths_B: int32 real tokens of each.
        """
        real_BS = jnp.arange(tokens_BS.shape[1]) < lengths_B[:, None]
        positions_BS = jnp.broadcast_to(jnp.arange(tokens_BS.shape[1], dtype=jnp.int32), tokens_BS.shape)
        memory_BSD = self.model.encode(tokens_BS, Places(positions_BS, real_BS.astype(jnp.int32)), dtype=self.dtype)
        made = (layer.cross_attention.keys_and_values(memory_BSD) for layer in self.layers)
        return ReadSource(tuple(laid_out(k_BSNH, v_BSNH) for k_BSNH, v_BSNH in made), real_BS)

    def empty_cache(self, source: ReadSource, beams: int, slots: int) -> KeyValueCache:
        """Room for the targets' own keys and values."""
        B, N, H, _ = source.memory[0].keys_BKHS.shape
        keys = jnp.zeros((B * beams, N, H, slots), self.dtype)
        values = jnp.zeros((B * beams, N, slots, H), self.dtype)
        return tuple(LayerCache(keys, values) for _ in self.layers)

    def extend(
        self, source: ReadSource, cache: KeyValueCache, tokens_BJ: jax.Array, slot: jax.Array | int
    ) -> tuple[jax.Array, KeyValueCache]:
        """Append one token to each hypothesis.

        Args:
            source: what they are about.
            cache: of the tokens before.
            tokens_BJ: int32.
            slot: place of these tokens in the targets.

        Returns:
            Scores of the next token, [R, V] fp32, and the cache with these tokens in it.
        """
        B, J = tokens_BJ.shape
        slots = cache[0].keys_BKHS.shape[-1]
        positions_R1 = jnp.full((B * J, 1), slot, jnp.int32)
        key_positions_RT = jnp.broadcast_to(jnp.arange(slots, dtype=jnp.int32), (B * J, slots))
        visible_R1T = (key_positions_RT <= slot)[:, None]
        bias_RN1T = self.model.target_bias(positions_R1, key_positions_RT)
        x_R1D = self.model.embed_targets(tokens_BJ.reshape(B * J, 1), positions_R1, self.dtype)
        caches = []
        for layer, before, memory in zip(self.layers, cache, source.memory, strict=True):

            def attend(
                q_R1NH: jax.Array, k_R1NH: jax.Array, v_R1NH: jax.Array, before: LayerCache = before
            ) -> jax.Array:
                caches.append(write(before, k_R1NH, v_R1NH, slot))
                return cached_attention(q_R1NH, caches[-1], visible_R1T, bias_RN1T)

            def cross(q_R1NH: jax.Array, memory: LayerCache = memory) -> jax.Array:
                # The beams of a source stand side by side, so that its keys are there once.
                q_BJNH = q_R1NH.reshape(B, J, *q_R1NH.shape[2:])
                visible_BJS = jnp.broadcast_to(source.real_BS[:, None], (B, J, source.real_BS.shape[1]))
                return cached_attention(q_BJNH, memory, visible_BJS).reshape(q_R1NH.shape)

            x_R1D = layer(x_R1D, attend, cross, None)
        return self.model.logits(self.model.finish(x_R1D))[:, 0], tuple(caches)


def of_beams(cache: KeyValueCache, chosen_BJ: jax.Array) -> KeyValueCache:
    """The cache of other beams: beam j of a source goes on from what was its beam `chosen_BJ[:, j]`."""
    B, J = chosen_BJ.shape
    rows_R = (jnp.arange(B)[:, None] * J + chosen_BJ).reshape(-1)
    return rows_of(cache, rows_R)
