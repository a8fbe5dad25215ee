"""The LLaMA-2 decoder as Flax NNX modules used with plain JAX transformations.

Shape suffixes: B batch, T tokens, D hidden, F intermediate, N query heads, K key/value heads, H head width,
V vocabulary, L layers. Parameters live outside the module as one nested dict of arrays (see `models.module`);
the layers' parameters are stacked along a leading L and run under `lax.scan`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from flax import nnx

from mentallama_jax.config import Remat, SavedTensor
from mentallama_jax.models.attention import Places, attention
from mentallama_jax.models.layers import (
    Attend,
    Attention,
    GatedMlp,
    RMSNorm,
    embed,
    matrix,
    project,
    rms_norm,
    with_gradients_together,
)
from mentallama_jax.models.low_rank import cast_floats, with_dropout
from mentallama_jax.models.module import DescribedConfig, Params, bind, values_of_fields
from mentallama_jax.models.remat import kept_as, rematerialised
from mentallama_jax.models.rotary import RopeScaling, rotary_tables
from mentallama_jax.parallel.rules import constrain


@dataclass(frozen=True, slots=True)
class LlamaConfig(DescribedConfig):
    """What decides the maths of a LLaMA-family model. Nothing here has a default: read it, never assume it."""

    model_type: ClassVar[str] = "llama"

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    tie_embeddings: bool
    max_positions: int

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd: rotary embeddings turn pairs")

    @property
    def longest_text(self) -> int:
        """Tokens of the longest text that there are positions for."""
        return self.max_positions

    def build(self, rngs: nnx.Rngs, dtype: Any) -> "Llama":
        """Make the module with random parameters."""
        return Llama(self, rngs, dtype)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return what `to_json` described; a description without `model_type` is of LLaMA too.

        Raises:
            ValueError: names the key that is missing, unknown or wrong.
        """
        given = values_of_fields(cls, values)
        scaling = given["rope_scaling"]
        try:
            return cls(**given | {"rope_scaling": None if scaling is None else RopeScaling(**scaling)})
        except TypeError as error:
            raise ValueError(f"rope_scaling: {error}") from None


class DecoderLayer(nnx.Module):
    """Pre-norm attention and SwiGLU, each with a residual connection."""

    def __init__(self, config: LlamaConfig, layers: int, rngs: nnx.Rngs, dtype: Any) -> None:
        norm = (layers, config.hidden_size)
        self.attention_norm = RMSNorm(norm, config.rms_norm_eps, dtype)
        self.attention = Attention(
            layers, config.hidden_size, config.num_heads, config.num_kv_heads, config.head_dim, rngs, dtype
        )
        self.mlp_norm = RMSNorm(norm, config.rms_norm_eps, dtype)
        self.mlp = GatedMlp(layers, config.hidden_size, config.intermediate_size, rngs, dtype)

    def __call__(self, x_BTD: jax.Array, rotary: tuple[jax.Array, jax.Array], attend: Attend) -> jax.Array:
        """Map [B, T, D] to [B, T, D]. Of a stacked layer, call one slice (as `lax.scan` hands it over)."""
        x_BTD = kept_as("middle", x_BTD + self.attention(self.attention_norm(x_BTD), rotary, attend))
        return x_BTD + self.mlp(self.mlp_norm(x_BTD))


class Llama(nnx.Module):
    """The decoder: embedding, stacked layers, final norm, head (or the embedding's transpose when tied)."""

    def __init__(self, config: LlamaConfig, rngs: nnx.Rngs, dtype: Any = jnp.float32) -> None:
        self.config = config
        V, D = config.vocab_size, config.hidden_size
        self.embedding = matrix(rngs, (V, D), ("vocabulary", "width"), dtype)
        self.layers = DecoderLayer(config, config.num_layers, rngs, dtype)
        self.final_norm = RMSNorm((D,), config.rms_norm_eps, dtype)
        if not config.tie_embeddings:
            self.head = matrix(rngs, (D, V), ("width", "vocabulary"), dtype)

    def embed(self, tokens_BT: jax.Array, dtype: Any) -> jax.Array:
        """Look tokens up: [B, T] int32 -> [B, T, D] `dtype`."""
        return embed(self.embedding[...], tokens_BT, dtype)

    def rotary(self, positions_BT: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Cosines and sines for these positions, [B, T, 1, H] fp32 each."""
        return rotary_tables(positions_BT, self.config.head_dim, self.config.rope_theta, self.config.rope_scaling)

    def hidden(
        self,
        tokens_BT: jax.Array,
        positions_BT: jax.Array,
        segment_ids_BT: jax.Array,
        *,
        dtype: Any,
        remat: Remat | tuple[SavedTensor, ...],
        offload: bool,
        unpacked: bool = False,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Hidden states after the final norm for packed rows.

        Args:
            tokens_BT: int32 token ids.
            positions_BT: int32 positions, restarting at 0 in each segment.
            segment_ids_BT: int32; tokens see earlier tokens of their own segment only; 0 is padding.
            dtype: of the activations and matrix products.
            remat: what of a layer is kept for the backward pass, see `models.remat`.
            offload: whether that is kept in the memory of the host.
            unpacked: the caller's word that no row holds two segments, see `attention`.
            key: of the dropout of an adapter; None drops nothing.

        Returns:
            [B, T, D] in `dtype`.

        Raises:
            ValueError: rows longer than `max_positions`.
        """
        if tokens_BT.shape[1] > self.config.max_positions:
            raise ValueError(f"rows of {tokens_BT.shape[1]} tokens exceed max_positions {self.config.max_positions}")
        rotary = self.rotary(positions_BT)

        def attend(q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array) -> jax.Array:
            return attention(q_BTNH, k_BTKH, v_BTKH, Places(positions_BT, segment_ids_BT), unpacked=unpacked)

        def body(x_BTD: jax.Array, layer: DecoderLayer) -> tuple[jax.Array, None]:
            return constrain(layer(x_BTD, rotary, attend), "batch", "length", None), None

        # Stacked in `dtype` before the loop, so that their gradients are stacked in it too.
        with_dropout(self.layers, key)
        layers = cast_floats(self.layers, dtype)
        x_BTD = constrain(self.embed(tokens_BT, dtype), "batch", "length", None)
        x_BTD, _ = jax.lax.scan(rematerialised(body, remat, offload), x_BTD, layers)
        norm = self.final_norm
        return rms_norm(*with_gradients_together(x_BTD, norm.scale[...]), norm.epsilon)

    def head_DV(self) -> jax.Array:
        """The output projection [D, V]: its own, or the embedding's transpose when tied."""
        return self.embedding[...].T if self.config.tie_embeddings else self.head[...]


def forward(
    params: Params,
    config: LlamaConfig,
    tokens_BT: jax.Array,
    positions_BT: jax.Array,
    segment_ids_BT: jax.Array,
    *,
    dtype: Any = jnp.float32,
) -> jax.Array:
    """Logits [B, T, V] fp32 of packed rows. Training uses `Llama.hidden` and never forms them whole."""
    model = bind(config, params)
    x_BTD = model.hidden(tokens_BT, positions_BT, segment_ids_BT, dtype=dtype, remat="none", offload=False)
    return project(x_BTD, model.head_DV()).astype(jnp.float32)
