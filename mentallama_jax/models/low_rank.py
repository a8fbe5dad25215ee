"""Small trained matrices beside frozen ones: LoRA (Hu et al. 2021), DoRA (Liu et al. 2024), on weights of few bits.

Shape suffixes: B batch, T tokens, R rank, L layers. A projection contracts its leading axes, one (D) or two (N, H); its
other axes are the outputs. The small matrices are A [inputs..., R] and B [R, outputs...], named and cut along the mesh
as the projection is.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mentallama_jax.models.quantised import dense, in_groups
from mentallama_jax.parallel.rules import Names, constrain, current_mesh

ADAPTER = "_adapter"
"""The adapter of the projection `query` is the attribute `query_adapter` of the same module."""
SCALE = "_scale"
"""The scales of its int8 or int4 weights are `query_scale`."""
Multiply = Callable[[jax.Array, jax.Array], jax.Array]
"""(x, weight) -> their product, of one layer; a weight of whole numbers becomes floats in it."""


def contract(x: jax.Array, weight: jax.Array, axes: int) -> jax.Array:
    """Contract the last `axes` axes of `x` with the first of `weight`; the weight's other axes follow.

    Two dimensions on both sides: on CPU a batched product with three runs at half the speed. On several devices rows
    and tokens may be cut along different axes of the mesh, so they stay two dimensions.
    """
    if current_mesh() is not None:
        return jnp.tensordot(x, weight.astype(x.dtype), axes)
    outer, inner = x.shape[: x.ndim - axes], weight.shape[:axes]
    size = 1
    for length in inner:
        size *= length
    flat = x.reshape(-1, size) @ weight.astype(x.dtype).reshape(size, -1)
    return flat.reshape(*outer, *weight.shape[axes:])


class LowRank(nnx.Module):
    """What is added to a projection: scale x B(A(x)), and with DoRA the length of each output's column."""

    def __init__(
        self,
        weight: nnx.Param[jax.Array],
        *,
        inputs: int,
        rank: int,
        scale: float,
        dropout: float,
        dora: bool,
        rngs: nnx.Rngs,
        dtype: Any,
    ) -> None:
        """Make the matrices for a stacked projection [L, inputs..., outputs...]; `inputs` counts contracted axes."""
        names: Names = weight.get_metadata("dimensions")
        layers, *shape = weight.shape
        first, self._outputs = names[1 : 1 + inputs], names[1 + inputs :]
        self._first, self._inputs = first, inputs
        self.scale, self.dropout = scale, dropout
        fan_in = 1
        for length in shape[:inputs]:
            fan_in *= length
        bound = fan_in**-0.5  # that of torch's kaiming_uniform with a = sqrt 5
        a = jax.random.uniform(rngs.params(), (layers, *shape[:inputs], rank), jnp.float32, -bound, bound)
        self.a = nnx.Param(a.astype(dtype), dimensions=(names[0], *first, None))
        self.b = nnx.Param(
            jnp.zeros((layers, rank, *shape[inputs:]), dtype), dimensions=(names[0], None, *self._outputs)
        )
        if dora:
            self.magnitude = nnx.Param(
                jnp.ones((layers, *shape[inputs:]), dtype),
                dimensions=(names[0], *(None if name == "width" else name for name in self._outputs)),
            )

    def __call__(self, x: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
        """Add to `y`, which is `x` times `weight`, of one layer. [B, T, inputs...] and [B, T, outputs...]."""
        outputs = _whole(self._outputs)[: self.b[...].ndim - 1]  # a decoder keeps heads side by side
        a, b = constrain(self.a[...], *_whole(self._first), None), constrain(self.b[...], None, *outputs)
        key = getattr(self, "key", None)
        taken = x if key is None else _dropped(x, self.dropout, key[...])
        low_BTR = constrain(contract(taken, a, self._inputs), "batch", "length", None)
        added = contract(low_BTR, b, 1) * jnp.asarray(self.scale, x.dtype)
        if not hasattr(self, "magnitude"):
            return y + added
        lengths = column_lengths(weight, a, b, self.scale, self._inputs)
        # The gap is what is learnt: near 1, bfloat16 has steps of 0.4 and 0.8 %.
        gap = (self.magnitude[...].astype(jnp.float32) / jax.lax.stop_gradient(lengths) - 1).astype(x.dtype)
        base = y if key is None else contract(taken, weight, self._inputs)
        return y + added + gap * (base + added)


def column_lengths(weight: jax.Array, a: jax.Array, b: jax.Array, scale: float, inputs: int) -> jax.Array:
    """The length of each output's column of weight + scale x A B of one layer, [outputs...] fp32."""
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    whole = weight.astype(jnp.float32) + scale * jnp.tensordot(a, b, 1)
    return jnp.sqrt(jnp.sum(jnp.square(whole), axis=tuple(range(inputs))))


def projected(module: Any, name: str, x: jax.Array, multiply: Multiply, *dimensions: str | None) -> jax.Array:
    """`x` times the projection `name` of a module, and what its adapter adds, where it has one.

    Weights of few bits are floats within the product alone. They become floats again for the backward pass: kept for
    it, they would take the memory that few bits save.

    Args:
        module: one layer.
        name: of the projection.
        x: [B, T, inputs...].
        multiply: see `Multiply`.
        dimensions: of the weight; the whole width, which is named None here, is gathered before it is multiplied. Left
            to itself the compiler for v5p multiplies piece by piece while the pieces go round, and adds up sixteen
            partial results in memory: 1.6 times the cycles of gathering first.
    """
    weight, scales = constrain(getattr(module, name)[...], *dimensions), getattr(module, name + SCALE, None)
    if scales is None:
        y = multiply(x, weight)
    else:
        own = scales[...].astype(x.dtype)
        y = jax.checkpoint(partial(_quantised_product, multiply), prevent_cse=False)(x, weight, own)
    adapter = getattr(module, name + ADAPTER, None)
    if adapter is None:
        return y
    return adapter(x, y, weight if scales is None else _floats(weight, own))


def _quantised_product(multiply: Multiply, x: jax.Array, units: jax.Array, scales: jax.Array) -> jax.Array:
    """The product with int8 weights, whose scales follow, or with int4 ones, whose scales are in the weights."""
    return multiply(x, dense(units, scales)) if in_groups(units, scales) else multiply(x, units) * scales


def _floats(units: jax.Array, scales: jax.Array) -> jax.Array:
    return dense(units, scales) if in_groups(units, scales) else units.astype(scales.dtype) * scales


def with_dropout(layers: Any, key: jax.Array | None) -> None:
    """Give the adapters of stacked layers random numbers, each layer of each its own; None drops nothing."""
    for number, adapter in enumerate(adapters_of(layers)):
        if key is not None and adapter.dropout:
            adapter.key = nnx.Variable(  # type: ignore[attr-defined]  # only while there is one
                jax.random.split(jax.random.fold_in(key, number), adapter.a.shape[0])
            )


def adapters_of(module: Any) -> Iterator[LowRank]:
    """Yield the adapters of a module, always in the same order."""
    for _, part in nnx.iter_modules(module):
        if isinstance(part, LowRank):
            yield part


def cast_floats(tree: Any, dtype: Any) -> Any:
    """A tree of arrays with those of floats in `dtype`: whole numbers and keys of random numbers stay as they are."""
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def _whole(names: Names) -> Names:
    """Names of dimensions of a matrix whose width is gathered before it is multiplied."""
    return tuple(None if name == "width" else name for name in names)


def _dropped(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0).astype(x.dtype)
