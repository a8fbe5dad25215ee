"""T5 (Raffel et al. 2020) and T5 v1.1: pre-norm layers without biases, relative positions, as Flax NNX modules.

Shape suffixes: B batch, S source tokens, T target tokens, D hidden, F intermediate, N heads, H head width,
V vocabulary, L layers.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mentallama_jax.config import Remat, SavedTensor
from mentallama_jax.models.attention import Places, attention
from mentallama_jax.models.biased_layers import ACTIVATIONS, Activation
from mentallama_jax.models.encoder_decoder import Cross, cross_to
from mentallama_jax.models.layer_stack import Dropout, dropout_of, dropped, key_of_adapters, run_stack
from mentallama_jax.models.layers import Attend, RMSNorm, embed, matrix, project, project_heads
from mentallama_jax.models.low_rank import projected
from mentallama_jax.models.module import DescribedConfig
from mentallama_jax.models.remat import kept_as
from mentallama_jax.parallel.rules import constrain

_ANY_LENGTH = 2**20


@dataclass(frozen=True, slots=True)
class T5Config(DescribedConfig):
    """What decides the maths of a T5.

    Attributes:
        head_dim: width of a head; heads times this need not be the model's width.
        buckets: of distances, each with a number for each head.
        max_distance: distances from here on share a bucket.
        gated: whether the activation of one product multiplies another (v1.1).
        tie_embeddings: whether the transposed embedding is the head.
        scale_outputs: whether the head's input is divided by the root of its width, as with a tied head.
        dropout: of embeddings, inside and behind feed-forward, behind attention, and of the last states, in training;
            attention weights are not dropped.
        pad_id: fills up batches; it is the id that published files name.
        start_id: the token that stands in front of every target.
        end_id: the token that ends a target.
    """

    model_type: ClassVar[str] = "t5"
    may_be_zero: ClassVar[tuple[str, ...]] = ("pad_id", "start_id", "end_id")

    vocab_size: int
    hidden_size: int
    head_dim: int
    intermediate_size: int
    encoder_layers: int
    decoder_layers: int
    num_heads: int
    buckets: int
    max_distance: int
    layer_norm_eps: float
    activation: Activation
    gated: bool
    tie_embeddings: bool
    scale_outputs: bool
    dropout: float
    pad_id: int
    start_id: int
    end_id: int

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r:.40} is unknown; there are: {', '.join(ACTIVATIONS)}")
        if self.buckets % 4 or self.max_distance <= self.buckets // 2:
            raise ValueError(
                f"{self.buckets} buckets up to distance {self.max_distance}: expected a multiple of 4, and a distance "
                "above half of it"
            )

    @property
    def longest_text(self) -> int:
        """Tokens of the longest text: any number, as positions are distances."""
        return _ANY_LENGTH

    @property
    def num_kv_heads(self) -> int:
        """Heads that the encoder and the decoder can both be cut along."""
        return self.num_heads

    def build(self, rngs: nnx.Rngs, dtype: Any) -> "T5":
        """Make the module with random parameters."""
        return T5(self, rngs, dtype)


class UnscaledAttention(nnx.Module):
    """Projections in front of attention and behind it, without biases; scores are not divided by the root of H."""

    def __init__(self, config: T5Config, layers: int, rngs: nnx.Rngs, dtype: Any) -> None:
        L, D, N, H = layers, config.hidden_size, config.num_heads, config.head_dim
        inward = ("layers", "width", "heads", None)
        self.query = matrix(rngs, (L, D, N, H), inward, dtype)
        self.key = matrix(rngs, (L, D, N, H), inward, dtype)
        self.value = matrix(rngs, (L, D, N, H), inward, dtype)
        self.output = matrix(rngs, (L, N, H, D), ("layers", "heads", None, "width"), dtype)

    def queries(self, x_BTD: jax.Array) -> jax.Array:
        """[B, T, N, H] of the tokens that ask, times the root of H, by which attention will divide."""
        return _heads(self, "query", x_BTD) * jnp.asarray(self.query.shape[-1] ** 0.5, x_BTD.dtype)

    def keys_and_values(self, x_BSD: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[B, S, N, H] each, of the tokens that are asked."""
        return _heads(self, "key", x_BSD), _heads(self, "value", x_BSD)

    def mixed(self, o_BTNH: jax.Array) -> jax.Array:
        """What attention gave, projected back: [B, T, N, H] to [B, T, D]."""
        return projected(self, "output", o_BTNH, project_heads, "heads", None, None)


def _heads(attention: UnscaledAttention, name: str, x_BTD: jax.Array) -> jax.Array:
    x_BTNH = projected(attention, name, x_BTD, project, None, "heads", None)
    return constrain(x_BTNH, "batch", "length", "heads", None)


class T5FeedForward(nnx.Module):
    """down(activation(inner(x))), or down(activation(gate(x)) * up(x)) where gated."""

    def __init__(self, config: T5Config, layers: int, rngs: nnx.Rngs, dtype: Any) -> None:
        L, D, F = layers, config.hidden_size, config.intermediate_size
        names = ("layers", "width", "feed_forward")
        if config.gated:
            self.gate = matrix(rngs, (L, D, F), names, dtype)
            self.up = matrix(rngs, (L, D, F), names, dtype)
        else:
            self.inner = matrix(rngs, (L, D, F), names, dtype)
        self.down = matrix(rngs, (L, F, D), ("layers", "feed_forward", "width"), dtype)
        self.gated, self.activation = config.gated, config.activation

    def __call__(self, x_BTD: jax.Array, dropout: Dropout | None) -> jax.Array:
        """Map [B, T, D] to [B, T, D]; the dropout's place 8 is inside."""
        activate = ACTIVATIONS[self.activation]
        if self.gated:
            gate_BTF = kept_as("gate", self._projected("gate", x_BTD, None, "feed_forward"))
            hidden_BTF = activate(gate_BTF) * kept_as("up", self._projected("up", x_BTD, None, "feed_forward"))
        else:
            hidden_BTF = activate(kept_as("up", self._projected("inner", x_BTD, None, "feed_forward")))
        hidden_BTF = dropped(constrain(hidden_BTF, "batch", "length", "feed_forward"), dropout, 8)
        return self._projected("down", hidden_BTF, "feed_forward", None)

    def _projected(self, name: str, x: jax.Array, *dimensions: str | None) -> jax.Array:
        return projected(self, name, x, project, *dimensions)


class T5EncoderLayer(nnx.Module):
    """Self-attention and feed-forward, each behind a norm and added to what it was given."""

    def __init__(self, config: T5Config, layers: int, rngs: nnx.Rngs, dtype: Any) -> None:
        norm = (layers, config.hidden_size)
        self.attention_norm = RMSNorm(norm, config.layer_norm_eps, dtype)
        self.attention = UnscaledAttention(config, layers, rngs, dtype)
        self.mlp_norm = RMSNorm(norm, config.layer_norm_eps, dtype)
        self.mlp = T5FeedForward(config, layers, rngs, dtype)

    def __call__(self, x_BTD: jax.Array, attend: Attend, dropout: Dropout | None) -> jax.Array:
        """Map [B, T, D] to [B, T, D]. Of a stacked layer, call one slice."""
        normed_BTD = self.attention_norm(x_BTD)
        mixed_BTD = self.attention.mixed(
            attend(self.attention.queries(normed_BTD), *self.attention.keys_and_values(normed_BTD))
        )
        x_BTD = kept_as("middle", x_BTD + dropped(mixed_BTD, dropout, 0))
        return x_BTD + dropped(self.mlp(self.mlp_norm(x_BTD), dropout), dropout, 1)


class T5DecoderLayer(nnx.Module):
    """Self-attention, attention to the source and feed-forward, each behind a norm and added to what it was given."""

    def __init__(self, config: T5Config, layers: int, rngs: nnx.Rngs, dtype: Any) -> None:
        norm = (layers, config.hidden_size)
        self.attention_norm = RMSNorm(norm, config.layer_norm_eps, dtype)
        self.attention = UnscaledAttention(config, layers, rngs, dtype)
        self.cross_attention_norm = RMSNorm(norm, config.layer_norm_eps, dtype)
        self.cross_attention = UnscaledAttention(config, layers, rngs, dtype)
        self.mlp_norm = RMSNorm(norm, config.layer_norm_eps, dtype)
        self.mlp = T5FeedForward(config, layers, rngs, dtype)

    def __call__(self, x_BTD: jax.Array, attend: Attend, cross: Cross, dropout: Dropout | None) -> jax.Array:
        """Map [B, T, D] to [B, T, D]. Of a stacked layer, call one slice."""
        normed_BTD = self.attention_norm(x_BTD)
        mixed_BTD = self.attention.mixed(
            attend(self.attention.queries(normed_BTD), *self.attention.keys_and_values(normed_BTD))
        )
        x_BTD = x_BTD + dropped(mixed_BTD, dropout, 0)
        asked = self.cross_attention
        read_BTD = asked.mixed(cross(asked.queries(self.cross_attention_norm(x_BTD))))
        x_BTD = kept_as("middle", x_BTD + dropped(read_BTD, dropout, 1))
        return x_BTD + dropped(self.mlp(self.mlp_norm(x_BTD), dropout), dropout, 2)


class T5Encoder(nnx.Module):
    """What only the encoder has."""

    def __init__(self, config: T5Config, rngs: nnx.Rngs, dtype: Any) -> None:
        self.relative_bias = matrix(rngs, (config.buckets, config.num_heads), (None, "heads"), dtype)
        self.layers = T5EncoderLayer(config, config.encoder_layers, rngs, dtype)
        self.final_norm = RMSNorm((config.hidden_size,), config.layer_norm_eps, dtype)


class T5Decoder(nnx.Module):
    """What only the decoder has."""

    def __init__(self, config: T5Config, rngs: nnx.Rngs, dtype: Any) -> None:
        self.relative_bias = matrix(rngs, (config.buckets, config.num_heads), (None, "heads"), dtype)
        self.layers = T5DecoderLayer(config, config.decoder_layers, rngs, dtype)
        self.final_norm = RMSNorm((config.hidden_size,), config.layer_norm_eps, dtype)


class T5(nnx.Module):
    """A T5 with its language-model head; an `encoder_decoder.EncoderDecoder`."""

    def __init__(self, config: T5Config, rngs: nnx.Rngs, dtype: Any = jnp.float32) -> None:
        self.config = config
        V, D = config.vocab_size, config.hidden_size
        self.embedding = matrix(rngs, (V, D), ("vocabulary", "width"), dtype)
        self.encoder = T5Encoder(config, rngs, dtype)
        self.decoder = T5Decoder(config, rngs, dtype)
        if not config.tie_embeddings:
            self.head = matrix(rngs, (D, V), ("width", "vocabulary"), dtype)

    def encode(
        self,
        tokens_BS: jax.Array,
        places: Places,
        *,
        dtype: Any,
        remat: Remat | tuple[SavedTensor, ...] = "none",
        key: jax.Array | None = None,
    ) -> jax.Array:
        """See `encoder_decoder.EncoderDecoder`."""
        dropout = dropout_of(self.config.dropout, key)
        bias_BNSS = self._bias(self.encoder, places.positions_BT, places.positions_BT, both_ways=True)

        def attend(q_BSNH: jax.Array, k_BSNH: jax.Array, v_BSNH: jax.Array) -> jax.Array:
            return attention(q_BSNH, k_BSNH, v_BSNH, places, causal=False, bias=bias_BNSS)

        x_BSD, _ = run_stack(
            self.encoder.layers,
            embed(self.embedding[...], tokens_BS, dtype),
            lambda layer, x_BSD, own: layer(x_BSD, attend, own),
            dropout=dropout,
            remat=remat,
            adapter_key=key_of_adapters(key, 0),
        )
        return dropped(self.encoder.final_norm(x_BSD), None if dropout is None else dropout.of(0), 1)

    def decode(
        self,
        tokens_BT: jax.Array,
        places: Places,
        memory_BSD: jax.Array,
        memory_places: Places,
        *,
        dtype: Any,
        remat: Remat | tuple[SavedTensor, ...] = "none",
        key: jax.Array | None = None,
    ) -> jax.Array:
        """See `encoder_decoder.EncoderDecoder`."""
        dropout = dropout_of(self.config.dropout, key)
        first = self.config.encoder_layers + 1  # the numbers of the encoder's parts come before
        bias_BNTT = self.target_bias(places.positions_BT, places.positions_BT)

        def attend(q_BTNH: jax.Array, k_BTNH: jax.Array, v_BTNH: jax.Array) -> jax.Array:
            return attention(q_BTNH, k_BTNH, v_BTNH, places, bias=bias_BNTT)

        def call(layer: T5DecoderLayer, x_BTD: jax.Array, own: Dropout | None) -> jax.Array:
            cross = cross_to(layer.cross_attention, memory_BSD, places, memory_places)
            return layer(x_BTD, attend, cross, own)

        x_BTD, _ = run_stack(
            self.decoder.layers,
            self.embed_targets(tokens_BT, places.positions_BT, dtype),
            call,
            dropout=dropout,
            remat=remat,
            first=first,
            adapter_key=key_of_adapters(key, 1),
        )
        return dropped(self.finish(x_BTD), None if dropout is None else dropout.of(first), 1)

    def head_product(self, hidden_BTD: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """See `encoder_decoder.EncoderDecoder`."""
        return self._scaled(hidden_BTD), self.embedding[...].T if self.config.tie_embeddings else self.head[...], None

    def _scaled(self, hidden_BTD: jax.Array) -> jax.Array:
        """What the head multiplies."""
        if not self.config.scale_outputs:
            return hidden_BTD
        return hidden_BTD * jnp.asarray(self.config.hidden_size**-0.5, hidden_BTD.dtype)

    def logits(self, hidden_BTD: jax.Array) -> jax.Array:
        """See `encoder_decoder.EncoderDecoder`."""
        hidden_BTD = self._scaled(hidden_BTD)
        if self.config.tie_embeddings:
            table_VD = self.embedding[...].astype(hidden_BTD.dtype)
            return jnp.einsum("...D,VD->...V", hidden_BTD, table_VD, preferred_element_type=jnp.float32)
        head_DV = self.head[...].astype(hidden_BTD.dtype)
        return jnp.einsum("...D,DV->...V", hidden_BTD, head_DV, preferred_element_type=jnp.float32)

    @property
    def decoder_layers(self) -> T5DecoderLayer:
        """The stacked layers of the decoder."""
        return self.decoder.layers

    def embed_targets(self, tokens_BT: jax.Array, positions_BT: jax.Array, dtype: Any) -> jax.Array:
        """See `encoder_decoder.EncoderDecoder`; positions are in the biases."""
        return embed(self.embedding[...], tokens_BT, dtype)

    def target_bias(self, positions_BT: jax.Array, key_positions_BS: jax.Array) -> jax.Array | None:
        """See `encoder_decoder.EncoderDecoder`."""
        return self._bias(self.decoder, positions_BT, key_positions_BS, both_ways=False)

    def finish(self, x_BTD: jax.Array) -> jax.Array:
        """See `encoder_decoder.EncoderDecoder`."""
        return self.decoder.final_norm(x_BTD)

    def _bias(
        self, side: T5Encoder | T5Decoder, positions_BT: jax.Array, key_positions_BS: jax.Array, both_ways: bool
    ) -> jax.Array:
        """[B, N, T, S] fp32; the layers of a side share it."""
        distances_BTS = key_positions_BS[:, None, :] - positions_BT[:, :, None]
        buckets_BTS = distance_buckets(distances_BTS, self.config.buckets, self.config.max_distance, both_ways)
        bias_BTSN = jnp.take(side.relative_bias[...].astype(jnp.float32), buckets_BTS, axis=0)
        return constrain(jnp.moveaxis(bias_BTSN, 3, 1), "batch", "traded_heads", None, None)


def distance_buckets(distances: jax.Array, buckets: int, max_distance: int, both_ways: bool) -> jax.Array:
    """The bucket of each distance, key minus query: exact ones first, then ever wider ones (Raffel et al. 2020).

    Args:
        distances: int32, any shape.
        buckets: how many there are.
        max_distance: from here on, all distances are in the last bucket.
        both_ways: whether keys behind the query have buckets of their own; otherwise they all are at distance 0.

    Returns:
        int32 of the same shape.
    """
    if both_ways:
        buckets //= 2
        first = jnp.where(distances > 0, buckets, 0)
        distances = jnp.abs(distances)
    else:
        first = jnp.zeros_like(distances)
        distances = jnp.maximum(-distances, 0)
    exact = buckets // 2
    # From a table: a device whose logarithm is a little off would put whole distances into other buckets.
    known = np.arange(max_distance + 1)
    share = np.log(np.maximum(known, 1).astype(np.float32) / exact) / math.log(max_distance / exact)
    wide = np.minimum(exact + (share * (buckets - exact)).astype(np.int32), buckets - 1)
    table = jnp.asarray(np.where(known < exact, known, wide), jnp.int32)
    return first + jnp.take(table, jnp.minimum(distances, max_distance))
