"""What every encoder-decoder offers: a pass over packed rows, and the pieces that decoding step by step is made of.

Shape suffixes: B batch, S source tokens, T target tokens, D hidden, N heads, H head width, V vocabulary. Several pairs
of texts may stand in one row: segment s of the target sees itself and segment s of the source.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax

from mentallama_jax.config import Remat, SavedTensor
from mentallama_jax.models.attention import Places, attention
from mentallama_jax.models.layer_stack import Dropout
from mentallama_jax.models.layers import Attend

Cross = Callable[[jax.Array], jax.Array]
"""q_BTNH -> o_BTNH: how the queries of a decoder layer meet the keys and values that it made of the source."""


class CrossAttention(Protocol):
    """The projections of a decoder layer's attention to the source."""

    def keys_and_values(self, x_BSD: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[B, S, N, H] each, of the encoded source."""


def cross_to(asked: CrossAttention, memory_BSD: jax.Array, places: Places, memory_places: Places) -> Cross:
    """How the queries of a layer meet an encoded source: query segment s sees source segment s."""

    def cross(q_BTNH: jax.Array) -> jax.Array:
        k_BSNH, v_BSNH = asked.keys_and_values(memory_BSD)
        return attention(q_BTNH, k_BSNH, v_BSNH, places, key_places=memory_places, causal=False)

    return cross


class SeqDecoderLayer(Protocol):
    """A layer of the decoder. Of a stacked layer, call one slice."""

    cross_attention: Any
    """A `CrossAttention`."""

    def __call__(self, x_BTD: jax.Array, attend: Attend, cross: Cross, dropout: Dropout | None) -> jax.Array:
        """Map [B, T, D] to [B, T, D]."""


class EncoderDecoder(Protocol):
    """A model that reads a source text and writes a target text."""

    def encode(
        self,
        tokens_BS: jax.Array,
        places: Places,
        *,
        dtype: Any,
        remat: Remat | tuple[SavedTensor, ...] = "none",
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Return the encoded source, [B, S, D] in `dtype`.

        Args:
            tokens_BS: int32.
            places: of the tokens.
            dtype: of activations and products.
            remat: what of a layer is kept for the backward pass, see `models.remat`.
            key: of dropout; None drops nothing.
        """

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
        """Return the hidden states that `logits` reads, [B, T, D] in `dtype`.

        Args:
            tokens_BT: int32; each text begins with the token that starts a target, and token t is predicted at t - 1.
            places: of these tokens.
            memory_BSD: the encoded source.
            memory_places: of the tokens of the source.
            dtype: of activations and products.
            remat: what of a layer is kept for the backward pass, see `models.remat`.
            key: of dropout; None drops nothing.
        """

    def logits(self, hidden_BTD: jax.Array) -> jax.Array:
        """Return fp32 scores of the next token, [..., V], of hidden states [..., D]."""

    def head_product(self, hidden_BTD: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """Return what `logits` multiplies: the states [..., D], the head [D, V], and biases [V] to add, or None."""

    @property
    def decoder_layers(self) -> Any:
        """The stacked `SeqDecoderLayer`."""

    def embed_targets(self, tokens_BT: jax.Array, positions_BT: jax.Array, dtype: Any) -> jax.Array:
        """Return what enters the first layer of the decoder, [B, T, D] in `dtype`."""

    def target_bias(self, positions_BT: jax.Array, key_positions_BS: jax.Array) -> jax.Array | None:
        """Return what the decoder's self-attention adds to its scores, [B, N, T, S] fp32, or None."""

    def finish(self, x_BTD: jax.Array) -> jax.Array:
        """Return the hidden states that `logits` reads, of what the last layer gave."""
