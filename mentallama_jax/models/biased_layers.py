"""Layers of BERT, RoBERTa and BART: attention and feed-forward with biases, a norm after each (post-norm).

Shape suffixes: B batch, T tokens (queries), S tokens (keys), D hidden, F intermediate, N heads, H head width, L layers.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
from flax import nnx

from mentallama_jax.models.layer_stack import Dropout, dropped
from mentallama_jax.models.layers import Attend, LayerNorm, matrix, project, project_heads, vector
from mentallama_jax.models.low_rank import projected
from mentallama_jax.models.remat import kept_as
from mentallama_jax.parallel.rules import constrain

Activation = Literal["gelu", "gelu_new", "relu"]
ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_new": partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}


class Shape(NamedTuple):
    """The numbers that a layer is made of.

    Attributes:
        layers: how many are stacked.
        width: D.
        heads: N, which divides D.
        inner: F.
    """

    layers: int
    width: int
    heads: int
    inner: int


class BiasedAttention(nnx.Module):
    """Projections in front of attention and behind it, with biases; weights in natural head layout."""

    def __init__(self, shape: Shape, rngs: nnx.Rngs, dtype: Any) -> None:
        L, D, N, H = shape.layers, shape.width, shape.heads, shape.width // shape.heads
        inward = ("layers", "width", "heads", None)
        self.query = matrix(rngs, (L, D, N, H), inward, dtype)
        self.key = matrix(rngs, (L, D, N, H), inward, dtype)
        self.value = matrix(rngs, (L, D, N, H), inward, dtype)
        self.output = matrix(rngs, (L, N, H, D), ("layers", "heads", None, "width"), dtype)
        self.query_bias = vector((L, N, H), ("layers", "heads", None), dtype)
        self.key_bias = vector((L, N, H), ("layers", "heads", None), dtype)
        self.value_bias = vector((L, N, H), ("layers", "heads", None), dtype)
        self.output_bias = vector((L, D), ("layers", None), dtype)

    def queries(self, x_BTD: jax.Array) -> jax.Array:
        """[B, T, N, H] of the tokens that ask."""
        return _heads(self, "query", x_BTD)

    def keys_and_values(self, x_BSD: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[B, S, N, H] each, of the tokens that are asked."""
        return _heads(self, "key", x_BSD), _heads(self, "value", x_BSD)

    def mixed(self, o_BTNH: jax.Array) -> jax.Array:
        """What attention gave, projected back: [B, T, N, H] to [B, T, D]."""
        mixed_BTD = projected(self, "output", o_BTNH, project_heads, "heads", None, None)
        return mixed_BTD + self.output_bias[...].astype(o_BTNH.dtype)


def _heads(attention: BiasedAttention, name: str, x_BTD: jax.Array) -> jax.Array:
    bias = getattr(attention, f"{name}_bias")
    x_BTNH = projected(attention, name, x_BTD, project, None, "heads", None)
    return constrain(x_BTNH + bias[...].astype(x_BTNH.dtype), "batch", "length", "heads", None)


class FeedForward(nnx.Module):
    """down(activation(up(x))), with biases."""

    def __init__(self, shape: Shape, activation: Activation, rngs: nnx.Rngs, dtype: Any) -> None:
        L, D, F = shape.layers, shape.width, shape.inner
        self.up = matrix(rngs, (L, D, F), ("layers", "width", "feed_forward"), dtype)
        self.up_bias = vector((L, F), ("layers", "feed_forward"), dtype)
        self.down = matrix(rngs, (L, F, D), ("layers", "feed_forward", "width"), dtype)
        self.down_bias = vector((L, D), ("layers", None), dtype)
        self.activation: Activation = activation

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        """Map [B, T, D] to [B, T, D]."""
        up_BTF = projected(self, "up", x_BTD, project, None, "feed_forward")
        up_BTF = kept_as("up", up_BTF + self.up_bias[...].astype(x_BTD.dtype))
        hidden_BTF = constrain(ACTIVATIONS[self.activation](up_BTF), "batch", "length", "feed_forward")
        down_BTD = projected(self, "down", hidden_BTF, project, "feed_forward", None)
        return down_BTD + self.down_bias[...].astype(x_BTD.dtype)


class EncoderLayer(nnx.Module):
    """Attention and feed-forward, a norm after each is added to what it was given (post-norm)."""

    def __init__(self, shape: Shape, activation: Activation, epsilon: float, rngs: nnx.Rngs, dtype: Any) -> None:
        norm = (shape.layers, shape.width)
        self.attention = BiasedAttention(shape, rngs, dtype)
        self.attention_norm = LayerNorm(norm, epsilon, dtype)
        self.mlp = FeedForward(shape, activation, rngs, dtype)
        self.mlp_norm = LayerNorm(norm, epsilon, dtype)

    def __call__(self, x_BTD: jax.Array, attend: Attend, dropout: Dropout | None) -> jax.Array:
        """Map [B, T, D] to [B, T, D]. Of a stacked layer, call one slice."""
        attention = self.attention
        mixed_BTD = attention.mixed(attend(attention.queries(x_BTD), *attention.keys_and_values(x_BTD)))
        x_BTD = kept_as("middle", self.attention_norm(x_BTD + dropped(mixed_BTD, dropout, 0)))
        return self.mlp_norm(x_BTD + dropped(self.mlp(x_BTD), dropout, 1))
