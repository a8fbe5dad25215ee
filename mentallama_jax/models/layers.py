"""Layers that several architectures share, as Flax NNX modules and functions used with plain JAX transformations.

Shape suffixes: B batch, T tokens, D hidden, F intermediate, N query heads, K key/value heads, H head width,
V vocabulary, L layers. A module with a leading L holds the parameters of a whole stack; call one slice of it, as
`lax.scan` hands it over.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mentallama_jax.models.low_rank import contract, projected
from mentallama_jax.models.remat import kept_as
from mentallama_jax.models.rotary import apply_rotary
from mentallama_jax.parallel.rules import Names, constrain, current_mesh

Attend = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""(q_BTNH, k_BTKH, v_BTKH) -> o_BTNH: how a layer's queries meet keys (packed rows, or a cache)."""


def matrix(rngs: nnx.Rngs, shape: tuple[int, ...], dimensions: Names, dtype: Any) -> nnx.Param[jax.Array]:
    """A random matrix whose dimensions carry the names that `parallel.rules` shards by."""
    return nnx.Param(0.02 * jax.random.normal(rngs.params(), shape, dtype), dimensions=dimensions)


class RMSNorm(nnx.Module):
    """Root-mean-square norm (Zhang and Sennrich 2019), computed in fp32."""

    def __init__(self, shape: tuple[int, ...], epsilon: float, dtype: Any) -> None:
        self.scale = nnx.Param(jnp.ones(shape, dtype), dimensions=(None,) * len(shape))
        self.epsilon = epsilon

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        """Return `x_BTD` over its root mean square times the scale, in the dtype of `x_BTD`."""
        return rms_norm(x_BTD, self.scale[...], self.epsilon)


def rms_norm(x_BTD: jax.Array, scale_D: jax.Array, epsilon: float) -> jax.Array:
    """`x_BTD` over its root mean square times the scale, computed in fp32, in the dtype of `x_BTD`."""
    x_fp32 = x_BTD.astype(jnp.float32)
    inverse = jax.lax.rsqrt(jnp.mean(jnp.square(x_fp32), axis=-1, keepdims=True) + epsilon)
    return (x_fp32 * inverse).astype(x_BTD.dtype) * scale_D.astype(x_BTD.dtype)


class LayerNorm(nnx.Module):
    """Layer norm (Ba et al. 2016) with scale and bias, computed in fp32."""

    def __init__(self, shape: tuple[int, ...], epsilon: float, dtype: Any) -> None:
        self.scale = nnx.Param(jnp.ones(shape, dtype), dimensions=(None,) * len(shape))
        self.bias = nnx.Param(jnp.zeros(shape, dtype), dimensions=(None,) * len(shape))
        self.epsilon = epsilon

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        """Return `x_BTD` less its mean over its deviation, times the scale plus the bias, in the dtype of `x_BTD`."""
        x_fp32 = x_BTD.astype(jnp.float32)
        centred = x_fp32 - jnp.mean(x_fp32, axis=-1, keepdims=True)
        inverse = jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + self.epsilon)
        scaled = centred * inverse * self.scale[...].astype(jnp.float32) + self.bias[...].astype(jnp.float32)
        return scaled.astype(x_BTD.dtype)


def vector(shape: tuple[int, ...], dimensions: Names, dtype: Any) -> nnx.Param[jax.Array]:
    """A bias of zeros whose dimensions carry the names that `parallel.rules` shards by."""
    return nnx.Param(jnp.zeros(shape, dtype), dimensions=dimensions)


def embed(table_VD: jax.Array, tokens_BT: jax.Array, dtype: Any) -> jax.Array:
    """Look tokens up: [B, T] int32 -> [B, T, D] `dtype`."""
    if current_mesh() is not None:  # gathered in `dtype` once, so that each device looks its own rows up
        table_VD = constrain(table_VD.astype(dtype), "vocabulary", None)
    return jnp.take(table_VD, tokens_BT, axis=0).astype(dtype)


def project(x_BTD: jax.Array, weight: jax.Array) -> jax.Array:
    """Contract the last axis of `x_BTD` with the first of `weight`; the weight's other axes follow."""
    return contract(x_BTD, weight, 1)


def project_heads(o_BTNH: jax.Array, weight_NHD: jax.Array) -> jax.Array:
    """What attention gave, projected back as one vector of all heads: [B, T, N, H] to [B, T, D]."""
    return project(o_BTNH.reshape(*o_BTNH.shape[:-2], -1), weight_NHD.reshape(-1, weight_NHD.shape[-1]))


def apart(x_BTE: jax.Array) -> jax.Array:
    """`x_BTE`; of single tokens, as in decoding, behind a barrier between the products on its two sides.

    The compiler for TPUs would else make one piece of work of the products of a SwiGLU, which reads their weights at
    three quarters of the speed, and would lay out weights and queries for products of many rows.
    """
    return jax.lax.optimization_barrier(x_BTE) if x_BTE.shape[1] == 1 else x_BTE


class Attention(nnx.Module):
    """Grouped-query attention with rotary positions; weights in natural head layout."""

    def __init__(
        self, layers: int, width: int, heads: int, kv_heads: int, head_dim: int, rngs: nnx.Rngs, dtype: Any
    ) -> None:
        L, D, N, K, H = layers, width, heads, kv_heads, head_dim
        self.query = matrix(rngs, (L, D, N, H), ("layers", "width", "heads", None), dtype)
        self.key = matrix(rngs, (L, D, K, H), ("layers", "width", "heads", None), dtype)
        self.value = matrix(rngs, (L, D, K, H), ("layers", "width", "heads", None), dtype)
        self.output = matrix(rngs, (L, N, H, D), ("layers", "heads", None, "width"), dtype)

    def __call__(self, x_BTD: jax.Array, rotary: tuple[jax.Array, jax.Array], attend: Attend) -> jax.Array:
        """Project, rotate, let `attend` mix the tokens, project back: [B, T, D] to [B, T, D].

        `rotary` is the cosines and the sines of the positions, [B, T, 1, H] fp32 each (`rotary.rotary_tables`).
        """
        heads = ("batch", "length", "heads", None)
        q_BTNH = constrain(self._projected("query", x_BTD), *heads)
        k_BTKH = constrain(self._projected("key", x_BTD), *heads)
        v_BTKH = constrain(self._projected("value", x_BTD), *heads)
        o_BTNH = attend(apply_rotary(q_BTNH, *rotary), apply_rotary(k_BTKH, *rotary), v_BTKH)
        # Both dimensions of heads at once on a mesh, so that TPUs need no other layout of them.
        return projected(self, "output", o_BTNH, lambda x, weight: contract(x, weight, 2), "heads", None, None)

    def _projected(self, name: str, x_BTD: jax.Array) -> jax.Array:
        if getattr(self, name)[...].ndim == 2:  # heads side by side, as a decoder keeps them
            y_BTE = projected(self, name, x_BTD, lambda x, weight: apart(project(x, weight)), None, "heads")
            return y_BTE.reshape(*y_BTE.shape[:-1], -1, self.output.shape[-2])
        return projected(self, name, x_BTD, project, None, "heads", None)


@jax.custom_vjp
def swiglu(gate_BTF: jax.Array, up_BTF: jax.Array) -> jax.Array:
    """silu(gate) * up, whose two gradients are written out one after the other before they are used.

    The compiler for TPUs would else compute them again within each of the products that read them, at the price of a
    fifth of their time, or hold five arrays of this size at once instead of four.
    """
    return jax.nn.silu(gate_BTF) * up_BTF


def _swiglu_forward(gate_BTF: jax.Array, up_BTF: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return swiglu(gate_BTF, up_BTF), (gate_BTF, up_BTF)


def _swiglu_backward(saved: tuple[jax.Array, jax.Array], gradient_BTF: jax.Array) -> tuple[jax.Array, jax.Array]:
    gate_BTF, up_BTF = saved
    _, through_gate = jax.vjp(lambda gate: jax.nn.silu(gate) * up_BTF, gate_BTF)
    of_gate_BTF, gate_BTF, gradient_BTF = jax.lax.optimization_barrier(
        (*through_gate(gradient_BTF), gate_BTF, gradient_BTF)
    )
    return of_gate_BTF, jax.lax.optimization_barrier(gradient_BTF * jax.nn.silu(gate_BTF))


swiglu.defvjp(_swiglu_forward, _swiglu_backward)


@jax.custom_vjp
def with_gradients_together(x: jax.Array, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both as they are; neither gradient is used before the other is there too.

    Without it the gradient of the final scale is left for the end of the step, and what it is computed from, an array
    as large as `x`, stays in memory during the backward pass of all layers.
    """
    return x, scale


with_gradients_together.defvjp(
    lambda x, scale: ((x, scale), None), lambda _, gradients: jax.lax.optimization_barrier(tuple(gradients))
)


class GatedMlp(nnx.Module):
    """SwiGLU (Shazeer 2020): down(silu(gate(x)) * up(x))."""

    def __init__(self, layers: int, width: int, inner: int, rngs: nnx.Rngs, dtype: Any) -> None:
        L, D, F = layers, width, inner
        self.gate = matrix(rngs, (L, D, F), ("layers", "width", "feed_forward"), dtype)
        self.up = matrix(rngs, (L, D, F), ("layers", "width", "feed_forward"), dtype)
        self.down = matrix(rngs, (L, F, D), ("layers", "feed_forward", "width"), dtype)

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        """Map [B, T, D] to [B, T, D]."""
        gate_BTF = kept_as("gate", self._projected("gate", x_BTD, None, "feed_forward"))
        up_BTF = kept_as("up", self._projected("up", x_BTD, None, "feed_forward"))
        hidden_BTF = constrain(swiglu(gate_BTF, up_BTF), "batch", "length", "feed_forward")
        return self._projected("down", apart(hidden_BTF), "feed_forward", None)

    def _projected(self, name: str, x: jax.Array, *dimensions: str | None) -> jax.Array:
        return projected(self, name, x, project, *dimensions)
