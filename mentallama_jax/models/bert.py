"""The encoder of BERT (Devlin et al. 2019) and RoBERTa (Liu et al. 2019) as Flax NNX modules, over packed rows.

Shape suffixes: B batch, T tokens, D hidden, F intermediate, N heads, H head width, V vocabulary, P positions, Y token
types, C classes, L layers. Several short texts stand in one row, kept apart by segment ids: a token attends to all
tokens of its own segment, and positions count anew in each.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from mentallama_jax.config import Remat, SavedTensor
from mentallama_jax.models.attention import Places, attention
from mentallama_jax.models.biased_layers import ACTIVATIONS, Activation, EncoderLayer, Shape
from mentallama_jax.models.layer_stack import dropout_of, dropped, key_of_adapters, run_stack
from mentallama_jax.models.layers import LayerNorm, embed, matrix, project, vector
from mentallama_jax.models.module import DescribedConfig


@dataclass(frozen=True, slots=True)
class BertConfig(DescribedConfig):
    """What decides the maths of an encoder of the BERT family.

    Attributes:
        max_positions: rows of the table of positions.
        position_offset: row of the first position: 0, or the padding id plus 1 in RoBERTa.
        type_vocab_size: token types; 1 where there is one kind of text.
        pooler: whether there is a dense layer with tanh on the first token.
        num_labels: classes of the classifier on the pooled first token; 0 without one.
        dropout: of embeddings and of what attention and feed-forward add, in training; attention weights are not
            dropped, as fused attention cannot.
        classifier_dropout: of the pooled token, in training.
    """

    model_type: ClassVar[str] = "bert"
    may_be_zero: ClassVar[tuple[str, ...]] = ("position_offset", "num_labels")

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    max_positions: int
    position_offset: int
    type_vocab_size: int
    layer_norm_eps: float
    activation: Activation
    pooler: bool
    num_labels: int
    dropout: float
    classifier_dropout: float

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")
        if self.num_labels and not self.pooler:
            raise ValueError(f"num_labels {self.num_labels}: a classifier needs the pooler")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r:.40} is unknown; there are: {', '.join(ACTIVATIONS)}")

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.hidden_size // self.num_heads

    @property
    def num_kv_heads(self) -> int:
        """Heads of keys and values: as many as of queries."""
        return self.num_heads

    @property
    def longest_text(self) -> int:
        """Tokens of the longest text that there are positions for."""
        return self.max_positions - self.position_offset

    def build(self, rngs: nnx.Rngs, dtype: Any) -> "Bert":
        """Make the module with random parameters."""
        return Bert(self, rngs, dtype)


@dataclass(frozen=True, slots=True)
class RobertaConfig(BertConfig):
    """RoBERTa: the encoder of BERT with positions that begin behind the padding id, and a head of its own shape."""

    model_type: ClassVar[str] = "roberta"


class Bert(nnx.Module):
    """Embeddings, stacked layers, and where the config says so a pooler and a classifier."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs, dtype: Any = jnp.float32) -> None:
        self.config = config
        V, D, P, Y = config.vocab_size, config.hidden_size, config.max_positions, config.type_vocab_size
        self.embedding = matrix(rngs, (V, D), ("vocabulary", "width"), dtype)
        self.positions = matrix(rngs, (P, D), (None, "width"), dtype)
        self.types = matrix(rngs, (Y, D), (None, "width"), dtype)
        self.embedding_norm = LayerNorm((D,), config.layer_norm_eps, dtype)
        shape = Shape(config.num_layers, D, config.num_heads, config.intermediate_size)
        self.layers = EncoderLayer(shape, config.activation, config.layer_norm_eps, rngs, dtype)
        if config.pooler:
            self.pooler = matrix(rngs, (D, D), ("width", None), dtype)
            self.pooler_bias = vector((D,), (None,), dtype)
        if config.num_labels:
            self.classifier = matrix(rngs, (D, config.num_labels), ("width", None), dtype)
            self.classifier_bias = vector((config.num_labels,), (None,), dtype)

    def hidden(
        self,
        tokens_BT: jax.Array,
        positions_BT: jax.Array,
        segment_ids_BT: jax.Array,
        *,
        types_BT: jax.Array | None = None,
        dtype: Any,
        remat: Remat | tuple[SavedTensor, ...] = "none",
        key: jax.Array | None = None,
        keep_layers: bool = False,
    ) -> tuple[jax.Array, jax.Array | None]:
        """Hidden states of packed rows.

        Args:
            tokens_BT: int32 token ids.
            positions_BT: int32 positions, from 0 in each segment, whatever row of the table that is. Positions beyond
                the table are a mistake of the caller that cannot be seen here.
            segment_ids_BT: int32; tokens see their own segment only; 0 is padding.
            types_BT: int32 token types; all 0 by default.
            dtype: of the activations and matrix products.
            remat: what of a layer is kept for the backward pass, see `models.remat`.
            key: of dropout; None drops nothing.
            keep_layers: whether the states of every layer are wanted.

        Returns:
            Those of the last layer, [B, T, D] in `dtype`, and those of each layer, [L, B, T, D], or None.
        """
        config, places = self.config, Places(positions_BT, segment_ids_BT)

        def attend(q_BTNH: jax.Array, k_BTNH: jax.Array, v_BTNH: jax.Array) -> jax.Array:
            return attention(q_BTNH, k_BTNH, v_BTNH, places, causal=False)

        return run_stack(
            self.layers,
            self.embed(tokens_BT, positions_BT, types_BT, dtype),
            lambda layer, x_BTD, own: layer(x_BTD, attend, own),
            dropout=dropout_of(config.dropout, key),
            remat=remat,
            keep_layers=keep_layers,
            adapter_key=key_of_adapters(key, 0),
        )

    def embed(self, tokens_BT: jax.Array, positions_BT: jax.Array, types_BT: jax.Array | None, dtype: Any) -> jax.Array:
        """The normed sum of the embeddings of tokens, positions and types: [B, T, D] `dtype`."""
        rows_BT = positions_BT + self.config.position_offset
        types = self.types[...][0] if types_BT is None else jnp.take(self.types[...], types_BT, axis=0)
        positions_BTD = jnp.take(self.positions[...], rows_BT, axis=0)
        summed_BTD = embed(self.embedding[...], tokens_BT, jnp.float32) + positions_BTD + types
        return self.embedding_norm(summed_BTD.astype(dtype))

    def pooled(self, hidden_BTD: jax.Array) -> jax.Array:
        """tanh(dense(x)) of every token; that of a text's first token stands for the text. [B, T, D]."""
        return jnp.tanh(project(hidden_BTD, self.pooler[...]) + self.pooler_bias[...].astype(hidden_BTD.dtype))

    def class_logits(self, hidden_BTD: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Scores of the classes for every token, [B, T, C] fp32; those of a text's first token are of the text.

        Args:
            hidden_BTD: of the last layer.
            key: of dropout; None drops nothing.
        """
        dropout = dropout_of(self.config.classifier_dropout, key)
        if self.config.model_type == "roberta":  # its head drops before the dense layer too
            hidden_BTD = dropped(hidden_BTD, dropout, 0)
        pooled_BTD = dropped(self.pooled(hidden_BTD), dropout, 1)
        logits_BTC = project(pooled_BTD, self.classifier[...]) + self.classifier_bias[...].astype(pooled_BTD.dtype)
        return logits_BTC.astype(jnp.float32)


def mean_of_tokens(hidden_BTD: jax.Array, segment_ids_BT: jax.Array, texts: int) -> jax.Array:
    """The mean of the hidden states of each text's tokens, special ones included; [B, texts, D] fp32.

    Args:
        hidden_BTD: of the last layer.
        segment_ids_BT: int32; text number s of a row is segment s + 1; one that is not there gets zeros.
        texts: most texts in a row.
    """
    member_BST = (segment_ids_BT[:, None] == 1 + jnp.arange(texts)[:, None]).astype(jnp.float32)
    sums_BSD = jnp.einsum("BST,BTD->BSD", member_BST, hidden_BTD.astype(jnp.float32))
    return sums_BSD / jnp.maximum(jnp.sum(member_BST, axis=-1, keepdims=True), 1)
