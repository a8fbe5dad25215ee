"""The LLaMA-2 decoder as Flax NNX modules used with plain JAX transformations.

Shape suffixes: B batch, T tokens, D hidden, F intermediate, N query heads, K key/value heads, H head width,
V vocabulary, L layers. Parameters live outside the module as one nested dict of arrays (see `abstract_params`);
the layers' parameters are stacked along a leading L and run under `lax.scan`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, traverse_util

from mentallama_jax.config import Remat, SavedTensor
from mentallama_jax.models.attention import Places, attention
from mentallama_jax.models.remat import kept_as, rematerialised
from mentallama_jax.models.rotary import RopeScaling, apply_rotary, rotary_tables
from mentallama_jax.parallel.rules import Names, constrain, current_mesh

Params = dict[str, Any]
Attend = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""(q_BTNH, k_BTKH, v_BTKH) -> o_BTNH: how a layer's queries meet keys (packed rows, or a cache)."""


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """What decides the maths of a LLaMA-family model. Nothing here has a default: read it, never assume it."""

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


def _matrix(rngs: nnx.Rngs, shape: tuple[int, ...], dimensions: Names, dtype: Any) -> nnx.Param[jax.Array]:
    """A random matrix whose dimensions carry the names that `parallel.rules` shards by."""
    return nnx.Param(0.02 * jax.random.normal(rngs.params(), shape, dtype), dimensions=dimensions)


class RMSNorm(nnx.Module):
    """Root-mean-square norm (Zhang and Sennrich 2019), computed in fp32."""

    def __init__(self, shape: tuple[int, ...], epsilon: float, dtype: Any) -> None:
        self.scale = nnx.Param(jnp.ones(shape, dtype), dimensions=(None,) * len(shape))
        self.epsilon = epsilon

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        """Return `x_BTD` over its root mean square times the scale, in the dtype of `x_BTD`."""
        return _rms_norm(x_BTD, self.scale[...], self.epsilon)


def _rms_norm(x_BTD: jax.Array, scale_D: jax.Array, epsilon: float) -> jax.Array:
    x_fp32 = x_BTD.astype(jnp.float32)
    inverse = jax.lax.rsqrt(jnp.mean(jnp.square(x_fp32), axis=-1, keepdims=True) + epsilon)
    return (x_fp32 * inverse).astype(x_BTD.dtype) * scale_D.astype(x_BTD.dtype)


def _project(x_BTD: jax.Array, weight: jax.Array) -> jax.Array:
    """Contract the last axis of `x_BTD` with the first of `weight`; the weight's other axes follow.

    Two dimensions on both sides: on CPU a batched product with three runs at half the speed. On several devices rows
    and tokens may be cut along different axes of the mesh, so they stay two dimensions.
    """
    if current_mesh() is not None:
        return jnp.tensordot(x_BTD, weight.astype(x_BTD.dtype), 1)
    outer, inner = x_BTD.shape[:-1], x_BTD.shape[-1]
    flat = x_BTD.reshape(-1, inner) @ weight.astype(x_BTD.dtype).reshape(inner, -1)
    return flat.reshape(*outer, *weight.shape[1:])


def _gathered(weight: jax.Array, *dimensions: str | None) -> jax.Array:
    """The weight with its whole width, the dimension named None here, on every device, before it is multiplied.

    Left to itself the compiler for v5p multiplies piece by piece while the pieces go round, and adds up sixteen partial
    results in memory: 1.6 times the cycles of gathering first.
    """
    return constrain(weight, *dimensions)


class Attention(nnx.Module):
    """Grouped-query attention with rotary positions; weights in natural head layout."""

    def __init__(self, config: LlamaConfig, layers: int, rngs: nnx.Rngs, dtype: Any) -> None:
        L, D, H = layers, config.hidden_size, config.head_dim
        N, K = config.num_heads, config.num_kv_heads
        self.query = _matrix(rngs, (L, D, N, H), ("layers", "width", "heads", None), dtype)
        self.key = _matrix(rngs, (L, D, K, H), ("layers", "width", "heads", None), dtype)
        self.value = _matrix(rngs, (L, D, K, H), ("layers", "width", "heads", None), dtype)
        self.output = _matrix(rngs, (L, N, H, D), ("layers", "heads", None, "width"), dtype)

    def __call__(self, x_BTD: jax.Array, rotary: tuple[jax.Array, jax.Array], attend: Attend) -> jax.Array:
        """Project, rotate, let `attend` mix the tokens, project back."""
        heads = ("batch", "length", "heads", None)
        q_BTNH = constrain(_project(x_BTD, _gathered(self.query[...], None, "heads", None)), *heads)
        k_BTKH = constrain(_project(x_BTD, _gathered(self.key[...], None, "heads", None)), *heads)
        v_BTKH = constrain(_project(x_BTD, _gathered(self.value[...], None, "heads", None)), *heads)
        o_BTNH = attend(apply_rotary(q_BTNH, *rotary), apply_rotary(k_BTKH, *rotary), v_BTKH)
        if current_mesh() is not None:  # both dimensions at once, so that TPUs need no other layout of the heads
            output_NHD = _gathered(self.output[...].astype(o_BTNH.dtype), "heads", None, None)
            return jnp.tensordot(o_BTNH, output_NHD, 2)
        N, H, D = self.output.shape
        return _project(o_BTNH.reshape(*x_BTD.shape[:-1], N * H), self.output[...].reshape(N * H, D))


@jax.custom_vjp
def _swiglu(gate_BTF: jax.Array, up_BTF: jax.Array) -> jax.Array:
    """silu(gate) * up, whose two gradients are written out one after the other before they are used.

    The compiler for TPUs would else compute them again within each of the products that read them, at the price of a
    fifth of their time, or hold five arrays of this size at once instead of four.
    """
    return jax.nn.silu(gate_BTF) * up_BTF


def _swiglu_forward(gate_BTF: jax.Array, up_BTF: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _swiglu(gate_BTF, up_BTF), (gate_BTF, up_BTF)


def _swiglu_backward(saved: tuple[jax.Array, jax.Array], gradient_BTF: jax.Array) -> tuple[jax.Array, jax.Array]:
    gate_BTF, up_BTF = saved
    _, through_gate = jax.vjp(lambda gate: jax.nn.silu(gate) * up_BTF, gate_BTF)
    of_gate_BTF, gate_BTF, gradient_BTF = jax.lax.optimization_barrier(
        (*through_gate(gradient_BTF), gate_BTF, gradient_BTF)
    )
    return of_gate_BTF, jax.lax.optimization_barrier(gradient_BTF * jax.nn.silu(gate_BTF))


_swiglu.defvjp(_swiglu_forward, _swiglu_backward)


@jax.custom_vjp
def _with_gradients_together(x: jax.Array, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both as they are; neither gradient is used before the other is there too.

    Without it the gradient of the final scale is left for the end of the step, and what it is computed from, an array
    as large as `x`, stays in memory during the backward pass of all layers.
    """
    return x, scale


_with_gradients_together.defvjp(
    lambda x, scale: ((x, scale), None), lambda _, gradients: jax.lax.optimization_barrier(tuple(gradients))
)


class Mlp(nnx.Module):
    """SwiGLU (Shazeer 2020): down(silu(gate(x)) * up(x))."""

    def __init__(self, config: LlamaConfig, layers: int, rngs: nnx.Rngs, dtype: Any) -> None:
        L, D, F = layers, config.hidden_size, config.intermediate_size
        self.gate = _matrix(rngs, (L, D, F), ("layers", "width", "feed_forward"), dtype)
        self.up = _matrix(rngs, (L, D, F), ("layers", "width", "feed_forward"), dtype)
        self.down = _matrix(rngs, (L, F, D), ("layers", "feed_forward", "width"), dtype)

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        """Map [B, T, D] to [B, T, D]."""
        gate_BTF = kept_as("gate", _project(x_BTD, _gathered(self.gate[...], None, "feed_forward")))
        up_BTF = kept_as("up", _project(x_BTD, _gathered(self.up[...], None, "feed_forward")))
        hidden_BTF = constrain(_swiglu(gate_BTF, up_BTF), "batch", "length", "feed_forward")
        return _project(hidden_BTF, _gathered(self.down[...], "feed_forward", None))


class DecoderLayer(nnx.Module):
    """Pre-norm attention and SwiGLU, each with a residual connection."""

    def __init__(self, config: LlamaConfig, layers: int, rngs: nnx.Rngs, dtype: Any) -> None:
        norm = (layers, config.hidden_size)
        self.attention_norm = RMSNorm(norm, config.rms_norm_eps, dtype)
        self.attention = Attention(config, layers, rngs, dtype)
        self.mlp_norm = RMSNorm(norm, config.rms_norm_eps, dtype)
        self.mlp = Mlp(config, layers, rngs, dtype)

    def __call__(self, x_BTD: jax.Array, rotary: tuple[jax.Array, jax.Array], attend: Attend) -> jax.Array:
        """Map [B, T, D] to [B, T, D]. Of a stacked layer, call one slice (as `lax.scan` hands it over)."""
        x_BTD = kept_as("middle", x_BTD + self.attention(self.attention_norm(x_BTD), rotary, attend))
        return x_BTD + self.mlp(self.mlp_norm(x_BTD))


class Llama(nnx.Module):
    """The decoder: embedding, stacked layers, final norm, head (or the embedding's transpose when tied)."""

    def __init__(self, config: LlamaConfig, rngs: nnx.Rngs, dtype: Any = jnp.float32) -> None:
        self.config = config
        V, D = config.vocab_size, config.hidden_size
        self.embedding = _matrix(rngs, (V, D), ("vocabulary", "width"), dtype)
        self.layers = DecoderLayer(config, config.num_layers, rngs, dtype)
        self.final_norm = RMSNorm((D,), config.rms_norm_eps, dtype)
        if not config.tie_embeddings:
            self.head = _matrix(rngs, (D, V), ("width", "vocabulary"), dtype)

    def embed(self, tokens_BT: jax.Array, dtype: Any) -> jax.Array:
        """Look tokens up: [B, T] int32 -> [B, T, D] `dtype`."""
        table_VD = self.embedding[...]
        if current_mesh() is not None:  # gathered in `dtype` once, so that each device looks its own rows up
            table_VD = constrain(table_VD.astype(dtype), "vocabulary", None)
        return jnp.take(table_VD, tokens_BT, axis=0).astype(dtype)

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
        layers = jax.tree.map(lambda weight: weight.astype(dtype), self.layers)
        x_BTD = constrain(self.embed(tokens_BT, dtype), "batch", "length", None)
        x_BTD, _ = jax.lax.scan(rematerialised(body, remat, offload), x_BTD, layers)
        norm = self.final_norm
        return _rms_norm(*_with_gradients_together(x_BTD, norm.scale[...]), norm.epsilon)

    def head_DV(self) -> jax.Array:
        """The output projection [D, V]: its own, or the embedding's transpose when tied."""
        return self.embedding[...].T if self.config.tie_embeddings else self.head[...]


def init_params(config: LlamaConfig, key: jax.Array, dtype: Any = jnp.float32) -> Params:
    """Random parameters (normal, standard deviation 0.02; norm scales 1) as a nested dict."""
    return nnx.to_pure_dict(nnx.state(Llama(config, nnx.Rngs(params=key), dtype)))


@lru_cache(maxsize=16)
def _skeleton(config: LlamaConfig, dtype: Any) -> tuple[nnx.GraphDef[Llama], nnx.State[Any, Any]]:
    return nnx.split(nnx.eval_shape(lambda: Llama(config, nnx.Rngs(params=jax.random.key(0)), dtype)))


def abstract_params(config: LlamaConfig, dtype: Any = jnp.float32) -> Params:
    """The nested dict of `jax.ShapeDtypeStruct` that `init_params` would return, without any memory."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), nnx.to_pure_dict(_skeleton(config, jnp.dtype(dtype))[1])
    )


def param_dimensions(config: LlamaConfig) -> Params:
    """The nested dict of the names of each parameter's dimensions, as `parallel.rules` knows them."""
    flat = nnx.to_flat_state(_skeleton(config, jnp.dtype(jnp.float32))[1])
    return traverse_util.unflatten_dict({path: param.get_metadata("dimensions") for path, param in flat})


def bind(config: LlamaConfig, params: Params) -> Llama:
    """The module around these parameters (arrays or tracers of any float dtype)."""
    graphdef, state = _skeleton(config, jnp.dtype(jnp.float32))
    state = jax.tree.map(lambda x: x, state)
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graphdef, state)


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
    return _project(x_BTD, model.head_DV()).astype(jnp.float32)


def count_params(config: LlamaConfig) -> int:
    """How many numbers the model holds (a tied head counts once)."""
    return sum(leaf.size for leaf in jax.tree.leaves(abstract_params(config)))
