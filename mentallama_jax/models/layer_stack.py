"""Runs a stack of layers, with dropout and a choice of what is kept for the backward pass.

Shape suffixes: B batch, T tokens, D hidden, L layers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mentallama_jax.config import Remat, SavedTensor
from mentallama_jax.models.low_rank import cast_floats, with_dropout
from mentallama_jax.models.remat import rematerialised
from mentallama_jax.parallel.rules import constrain


class Dropout(NamedTuple):
    """What is dropped in a step of training: entries by chance, the others made larger."""

    rate: float
    key: jax.Array

    def __call__(self, x: jax.Array, place: int) -> jax.Array:
        """Drop entries of `x`; each `place` in a layer has its own random numbers."""
        kept = jax.random.bernoulli(jax.random.fold_in(self.key, place), 1 - self.rate, x.shape)
        return jnp.where(kept, x / (1 - self.rate), 0)

    def of(self, number: jax.Array | int) -> "Dropout":
        """The dropout of one part of the model, such as a layer, by its number."""
        return Dropout(self.rate, jax.random.fold_in(self.key, number))


def dropout_of(rate: float, key: jax.Array | None) -> Dropout | None:
    """Dropout at this rate; None where there is no key, or nothing to drop."""
    return None if key is None or not rate else Dropout(rate, key)


def dropped(x: jax.Array, dropout: Dropout | None, place: int) -> jax.Array:
    """`x` with entries dropped; `x` itself where `dropout` is None."""
    return x if dropout is None else dropout(x, place)


def key_of_adapters(key: jax.Array | None, stack: int) -> jax.Array | None:
    """The key of the dropout of the adapters of a stack of layers, from that of the model; None where there is none."""
    return None if key is None else jax.random.fold_in(key, 2**31 + stack)


def run_stack(
    layers: Any,
    x_BTD: jax.Array,
    call: Callable[[Any, jax.Array, Dropout | None], jax.Array],
    *,
    dropout: Dropout | None,
    remat: Remat | tuple[SavedTensor, ...],
    first: int = 0,
    keep_layers: bool = False,
    adapter_key: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array | None]:
    """Drop entries of what enters a stack of layers, and run it.

    Args:
        layers: a module whose parameters have a leading L; they are cast to the dtype of `x_BTD`.
        x_BTD: what enters the first layer, before dropout.
        call: (layer, x_BTD, its own dropout) -> x_BTD.
        dropout: of the model; None drops nothing.
        remat: what of a layer is kept for the backward pass, see `models.remat`.
        first: number of the dropout in front of the stack; those of its layers follow.
        keep_layers: whether the states of every layer are wanted.
        adapter_key: of the dropout of an adapter; None drops nothing.

    Returns:
        The states of the last layer, [B, T, D], and those of each, [L, B, T, D], or None.
    """

    def body(x_BTD: jax.Array, numbered: tuple[Any, jax.Array]) -> tuple[jax.Array, jax.Array | None]:
        layer, number = numbered
        own = None if dropout is None else dropout.of(first + number + 1)
        x_BTD = constrain(call(layer, x_BTD, own), "batch", "length", None)
        return x_BTD, x_BTD if keep_layers else None

    x_BTD = dropped(x_BTD, None if dropout is None else dropout.of(first), 0)
    with_dropout(layers, adapter_key)
    cast = cast_floats(layers, x_BTD.dtype)
    numbers = jnp.arange(jax.tree.leaves(cast)[0].shape[0], dtype=jnp.int32)
    return jax.lax.scan(rematerialised(body, remat, False), constrain(x_BTD, "batch", "length", None), (cast, numbers))
