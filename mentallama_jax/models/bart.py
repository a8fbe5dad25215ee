"""BART (Lewis et al. 2020): an encoder and a decoder with post-norm layers, as Flax NNX modules, over packed rows.

Shape suffixes: B batch, S source tokens, T target tokens, D hidden, N heads, H head width, V vocabulary, P rows of a
table of positions, L layers.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from mentallama_jax.config import Remat, SavedTensor
from mentallama_jax.models.attention import Places, attention
from mentallama_jax.models.biased_layers import (
    ACTIVATIONS,
    Activation,
    BiasedAttention,
    EncoderLayer,
    FeedForward,
    Shape,
)
from mentallama_jax.models.encoder_decoder import Cross, cross_to
from mentallama_jax.models.layer_stack import Dropout, dropout_of, dropped, key_of_adapters, run_stack
from mentallama_jax.models.layers import Attend, LayerNorm, embed, matrix, vector
from mentallama_jax.models.module import DescribedConfig
from mentallama_jax.models.remat import kept_as

POSITION_OFFSET = 2
"""Rows of the tables of positions before that of the first position; nothing reads them."""
_EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class BartConfig(DescribedConfig):
    """What decides the maths of a BART.

    Attributes:
        encoder_intermediate: F of the encoder's layers.
        decoder_intermediate: F of the decoder's layers.
        max_positions: tokens of the longest text.
        scale_embedding: whether embeddings are multiplied by the root of their width.
        logits_bias: whether each token has a bias of its own in the output.
        dropout: of embeddings and of what attention and feed-forward add, in training; nothing inside of them is
            dropped.
        pad_id: fills up batches; it is the id that published files name.
        start_id: the token that stands in front of every target.
        end_id: the token that ends a target.
    """

    model_type: ClassVar[str] = "bart"
    may_be_zero: ClassVar[tuple[str, ...]] = ("pad_id", "start_id", "end_id")

    vocab_size: int
    hidden_size: int
    encoder_layers: int
    decoder_layers: int
    encoder_heads: int
    decoder_heads: int
    encoder_intermediate: int
    decoder_intermediate: int
    max_positions: int
    activation: Activation
    scale_embedding: bool
    logits_bias: bool
    dropout: float
    pad_id: int
    start_id: int
    end_id: int

    def __post_init__(self) -> None:
        for side in ("encoder_heads", "decoder_heads"):
            if self.hidden_size % getattr(self, side):
                raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of {side} {getattr(self, side)}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r:.40} is unknown; there are: {', '.join(ACTIVATIONS)}")

    @property
    def longest_text(self) -> int:
        """Tokens of the longest text that the positions can tell apart."""
        return self.max_positions

    @property
    def num_kv_heads(self) -> int:
        """Heads that the encoder and the decoder can both be cut along."""
        return math.gcd(self.encoder_heads, self.decoder_heads)

    def build(self, rngs: nnx.Rngs, dtype: Any) -> "Bart":
        """Make the module with random parameters."""
        return Bart(self, rngs, dtype)


class BartDecoderLayer(nnx.Module):
    """Self-attention, attention to the source and feed-forward; a norm after each is added to what it was given."""

    def __init__(self, shape: Shape, activation: Activation, rngs: nnx.Rngs, dtype: Any) -> None:
        norm = (shape.layers, shape.width)
        self.attention = BiasedAttention(shape, rngs, dtype)
        self.attention_norm = LayerNorm(norm, _EPSILON, dtype)
        self.cross_attention = BiasedAttention(shape, rngs, dtype)
        self.cross_attention_norm = LayerNorm(norm, _EPSILON, dtype)
        self.mlp = FeedForward(shape, activation, rngs, dtype)
        self.mlp_norm = LayerNorm(norm, _EPSILON, dtype)

    def __call__(self, x_BTD: jax.Array, attend: Attend, cross: Cross, dropout: Dropout | None) -> jax.Array:
        """Map [B, T, D] to [B, T, D]. Of a stacked layer, call one slice."""
        attention, asked = self.attention, self.cross_attention
        mixed_BTD = attention.mixed(attend(attention.queries(x_BTD), *attention.keys_and_values(x_BTD)))
        x_BTD = self.attention_norm(x_BTD + dropped(mixed_BTD, dropout, 0))
        read_BTD = asked.mixed(cross(asked.queries(x_BTD)))
        x_BTD = kept_as("middle", self.cross_attention_norm(x_BTD + dropped(read_BTD, dropout, 1)))
        return self.mlp_norm(x_BTD + dropped(self.mlp(x_BTD), dropout, 2))


class BartEncoder(nnx.Module):
    """What only the encoder has."""

    def __init__(self, config: BartConfig, rngs: nnx.Rngs, dtype: Any) -> None:
        D = config.hidden_size
        shape = Shape(config.encoder_layers, D, config.encoder_heads, config.encoder_intermediate)
        self.positions = matrix(rngs, (config.max_positions + POSITION_OFFSET, D), (None, "width"), dtype)
        self.embedding_norm = LayerNorm((D,), _EPSILON, dtype)
        self.layers = EncoderLayer(shape, config.activation, _EPSILON, rngs, dtype)


class BartDecoder(nnx.Module):
    """What only the decoder has."""

    def __init__(self, config: BartConfig, rngs: nnx.Rngs, dtype: Any) -> None:
        D = config.hidden_size
        shape = Shape(config.decoder_layers, D, config.decoder_heads, config.decoder_intermediate)
        self.positions = matrix(rngs, (config.max_positions + POSITION_OFFSET, D), (None, "width"), dtype)
        self.embedding_norm = LayerNorm((D,), _EPSILON, dtype)
        self.layers = BartDecoderLayer(shape, config.activation, rngs, dtype)


class Bart(nnx.Module):
    """A BART with its language-model head, the transposed embedding; an `encoder_decoder.EncoderDecoder`."""

    def __init__(self, config: BartConfig, rngs: nnx.Rngs, dtype: Any = jnp.float32) -> None:
        self.config = config
        self.embedding = matrix(rngs, (config.vocab_size, config.hidden_size), ("vocabulary", "width"), dtype)
        self.encoder = BartEncoder(config, rngs, dtype)
        self.decoder = BartDecoder(config, rngs, dtype)
        if config.logits_bias:
            self.logits_bias = vector((config.vocab_size,), ("vocabulary",), dtype)

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

        def attend(q_BSNH: jax.Array, k_BSNH: jax.Array, v_BSNH: jax.Array) -> jax.Array:
            return attention(q_BSNH, k_BSNH, v_BSNH, places, causal=False)

        return run_stack(
            self.encoder.layers,
            self._embed(self.encoder, tokens_BS, places.positions_BT, dtype),
            lambda layer, x_BSD, own: layer(x_BSD, attend, own),
            dropout=dropout,
            remat=remat,
            adapter_key=key_of_adapters(key, 0),
        )[0]

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

        def attend(q_BTNH: jax.Array, k_BTNH: jax.Array, v_BTNH: jax.Array) -> jax.Array:
            return attention(q_BTNH, k_BTNH, v_BTNH, places)

        def call(layer: BartDecoderLayer, x_BTD: jax.Array, own: Dropout | None) -> jax.Array:
            cross = cross_to(layer.cross_attention, memory_BSD, places, memory_places)
            return layer(x_BTD, attend, cross, own)

        return run_stack(
            self.decoder.layers,
            self.embed_targets(tokens_BT, places.positions_BT, dtype),
            call,
            dropout=dropout,
            remat=remat,
            first=first,
            adapter_key=key_of_adapters(key, 1),
        )[0]

    def logits(self, hidden_BTD: jax.Array) -> jax.Array:
        """See `encoder_decoder.EncoderDecoder`."""
        table_VD = self.embedding[...].astype(hidden_BTD.dtype)
        logits_BTV = jnp.einsum("...D,VD->...V", hidden_BTD, table_VD, preferred_element_type=jnp.float32)
        return logits_BTV + self.logits_bias[...].astype(jnp.float32) if self.config.logits_bias else logits_BTV

    def head_product(self, hidden_BTD: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """See `encoder_decoder.EncoderDecoder`."""
        return hidden_BTD, self.embedding[...].T, self.logits_bias[...] if self.config.logits_bias else None

    @property
    def decoder_layers(self) -> BartDecoderLayer:
        """The stacked layers of the decoder."""
        return self.decoder.layers

    def embed_targets(self, tokens_BT: jax.Array, positions_BT: jax.Array, dtype: Any) -> jax.Array:
        """See `encoder_decoder.EncoderDecoder`."""
        return self._embed(self.decoder, tokens_BT, positions_BT, dtype)

    def target_bias(self, positions_BT: jax.Array, key_positions_BS: jax.Array) -> jax.Array | None:
        """Return None: positions are in the embeddings."""
        return None

    def finish(self, x_BTD: jax.Array) -> jax.Array:
        """Return `x_BTD`: the last layer ends with a norm."""
        return x_BTD

    def _embed(
        self, side: BartEncoder | BartDecoder, tokens_BT: jax.Array, positions_BT: jax.Array, dtype: Any
    ) -> jax.Array:
        """The normed sum of the embeddings of tokens and positions, [B, T, D] `dtype`."""
        tokens_BTD = embed(self.embedding[...], tokens_BT, jnp.float32)
        if self.config.scale_embedding:
            tokens_BTD = tokens_BTD * self.config.hidden_size**0.5
        # Positions beyond the table give NaN, which every reader of scores refuses.
        positions_BTD = jnp.take(side.positions[...], positions_BT + POSITION_OFFSET, axis=0)
        return side.embedding_norm((tokens_BTD + positions_BTD).astype(dtype))
