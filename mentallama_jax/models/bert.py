"""The encoder of BERT (Devlin et al. 2019) and RoBERTa (Liu et al. 2019) as Flax NNX modules, over packed rows.

Shape suffixes: B batch, T tokens, D hidden, F intermediate, N heads, H head width, V vocabulary, P positions, Y token
types, C classes, L layers. Several short texts stand in one row, kept apart by segment ids: a token attends to all
tokens of its own segment, and positions count anew in each.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, Self

import jax
import jax.numpy as jnp
from flax import nnx

from mentallama_jax.config import Remat, SavedTensor
from mentallama_jax.models.attention import Places, attention
from mentallama_jax.models.layers import LayerNorm, embed, gathered, matrix, project, vector
from mentallama_jax.models.module import values_of_fields
from mentallama_jax.models.remat import kept_as, rematerialised
from mentallama_jax.parallel.rules import constrain

Activation = Literal["gelu", "gelu_new", "relu"]
_ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_new": partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}


@dataclass(frozen=True, slots=True)
class BertConfig:
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
        if self.activation not in _ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r:.40} is unknown; there are: {', '.join(_ACTIVATIONS)}")

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

    def to_json(self) -> dict[str, Any]:
        """Return plain values, `model_type` among them, for `from_json`."""
        return {"model_type": self.model_type, **asdict(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return what `to_json` described.

        Raises:
            ValueError: names the key that is missing, unknown or wrong.
        """
        return cls(**values_of_fields(cls, values, may_be_zero=("position_offset", "num_labels")))


@dataclass(frozen=True, slots=True)
class RobertaConfig(BertConfig):
    """RoBERTa: the encoder of BERT with positions that begin behind the padding id, and a head of its own shape."""

    model_type: ClassVar[str] = "roberta"


class Dropout(NamedTuple):
    """What is dropped in a step of training: entries by chance, the others made larger."""

    rate: float
    key: jax.Array

    def __call__(self, x: jax.Array, place: int) -> jax.Array:
        """Drop entries of `x`; each `place` in a layer has its own random numbers."""
        kept = jax.random.bernoulli(jax.random.fold_in(self.key, place), 1 - self.rate, x.shape)
        return jnp.where(kept, x / (1 - self.rate), 0)


class SelfAttention(nnx.Module):
    """Attention of every token to its whole segment, with biases; weights in natural head layout."""

    def __init__(self, config: BertConfig, layers: int, rngs: nnx.Rngs, dtype: Any) -> None:
        L, D, N, H = layers, config.hidden_size, config.num_heads, config.head_dim
        inward = ("layers", "width", "heads", None)
        self.query = matrix(rngs, (L, D, N, H), inward, dtype)
        self.key = matrix(rngs, (L, D, N, H), inward, dtype)
        self.value = matrix(rngs, (L, D, N, H), inward, dtype)
        self.output = matrix(rngs, (L, N, H, D), ("layers", "heads", None, "width"), dtype)
        self.query_bias = vector((L, N, H), ("layers", "heads", None), dtype)
        self.key_bias = vector((L, N, H), ("layers", "heads", None), dtype)
        self.value_bias = vector((L, N, H), ("layers", "heads", None), dtype)
        self.output_bias = vector((L, D), ("layers", None), dtype)

    def __call__(self, x_BTD: jax.Array, places: Places) -> jax.Array:
        """Map [B, T, D] to [B, T, D]."""
        heads = ("batch", "length", "heads", None)

        def of(weight: nnx.Param[jax.Array], bias: nnx.Param[jax.Array]) -> jax.Array:
            x_BTNH = project(x_BTD, gathered(weight[...], None, "heads", None))
            return constrain(x_BTNH + bias[...].astype(x_BTNH.dtype), *heads)

        q_BTNH, k_BTNH = of(self.query, self.query_bias), of(self.key, self.key_bias)
        o_BTNH = attention(q_BTNH, k_BTNH, of(self.value, self.value_bias), places, causal=False)
        N, H, D = self.output.shape
        flat_BTE = o_BTNH.reshape(*x_BTD.shape[:-1], N * H)
        output_ED = gathered(self.output[...], "heads", None, None).reshape(N * H, D)
        return project(flat_BTE, output_ED) + self.output_bias[...].astype(x_BTD.dtype)


class FeedForward(nnx.Module):
    """down(activation(up(x))), with biases."""

    def __init__(self, config: BertConfig, layers: int, rngs: nnx.Rngs, dtype: Any) -> None:
        L, D, F = layers, config.hidden_size, config.intermediate_size
        self.up = matrix(rngs, (L, D, F), ("layers", "width", "feed_forward"), dtype)
        self.up_bias = vector((L, F), ("layers", "feed_forward"), dtype)
        self.down = matrix(rngs, (L, F, D), ("layers", "feed_forward", "width"), dtype)
        self.down_bias = vector((L, D), ("layers", None), dtype)
        self.activation: Activation = config.activation

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        """Map [B, T, D] to [B, T, D]."""
        up_BTF = project(x_BTD, gathered(self.up[...], None, "feed_forward"))
        up_BTF = kept_as("up", up_BTF + self.up_bias[...].astype(x_BTD.dtype))
        hidden_BTF = constrain(_ACTIVATIONS[self.activation](up_BTF), "batch", "length", "feed_forward")
        return project(hidden_BTF, gathered(self.down[...], "feed_forward", None)) + self.down_bias[...].astype(
            x_BTD.dtype
        )


class EncoderLayer(nnx.Module):
    """Attention and feed-forward, a norm after each is added to what it was given (post-norm)."""

    def __init__(self, config: BertConfig, layers: int, rngs: nnx.Rngs, dtype: Any) -> None:
        norm = (layers, config.hidden_size)
        self.attention = SelfAttention(config, layers, rngs, dtype)
        self.attention_norm = LayerNorm(norm, config.layer_norm_eps, dtype)
        self.mlp = FeedForward(config, layers, rngs, dtype)
        self.mlp_norm = LayerNorm(norm, config.layer_norm_eps, dtype)

    def __call__(self, x_BTD: jax.Array, places: Places, dropout: Dropout | None) -> jax.Array:
        """Map [B, T, D] to [B, T, D]. Of a stacked layer, call one slice."""
        attended = self.attention(x_BTD, places)
        x_BTD = kept_as("middle", self.attention_norm(x_BTD + (attended if dropout is None else dropout(attended, 0))))
        added = self.mlp(x_BTD)
        return self.mlp_norm(x_BTD + (added if dropout is None else dropout(added, 1)))


class Bert(nnx.Module):
    """Embeddings, stacked layers, and where the config says so a pooler and a classifier."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs, dtype: Any = jnp.float32) -> None:
        self.config = config
        V, D, P, Y = config.vocab_size, config.hidden_size, config.max_positions, config.type_vocab_size
        self.embedding = matrix(rngs, (V, D), ("vocabulary", "width"), dtype)
        self.positions = matrix(rngs, (P, D), (None, "width"), dtype)
        self.types = matrix(rngs, (Y, D), (None, "width"), dtype)
        self.embedding_norm = LayerNorm((D,), config.layer_norm_eps, dtype)
        self.layers = EncoderLayer(config, config.num_layers, rngs, dtype)
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
        rate = config.dropout if key is not None else 0.0

        def dropout(number: jax.Array | int) -> Dropout | None:
            return None if key is None or not rate else Dropout(rate, jax.random.fold_in(key, number))

        def body(x_BTD: jax.Array, numbered: tuple[EncoderLayer, jax.Array]) -> tuple[jax.Array, jax.Array | None]:
            layer, number = numbered
            x_BTD = constrain(layer(x_BTD, places, dropout(number + 1)), "batch", "length", None)
            return x_BTD, x_BTD if keep_layers else None

        layers = jax.tree.map(lambda weight: weight.astype(dtype), self.layers)
        x_BTD = self.embed(tokens_BT, positions_BT, types_BT, dtype)
        if (drop := dropout(0)) is not None:
            x_BTD = drop(x_BTD, 0)
        x_BTD = constrain(x_BTD, "batch", "length", None)
        return jax.lax.scan(
            rematerialised(body, remat, False), x_BTD, (layers, jnp.arange(config.num_layers, dtype=jnp.int32))
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
        rate = self.config.classifier_dropout if key is not None else 0.0
        if key is not None and rate:
            if self.config.model_type == "roberta":  # its head drops before the dense layer too
                hidden_BTD = Dropout(rate, key)(hidden_BTD, 0)
            pooled_BTD = Dropout(rate, key)(self.pooled(hidden_BTD), 1)
        else:
            pooled_BTD = self.pooled(hidden_BTD)
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
