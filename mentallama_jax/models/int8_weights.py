"""A decoder whose projections are kept in int8, to answer with: half the memory, and half of what a token reads.

Embedding, norms and head stay as they are. The layers are those of a base under an adapter, without the adapter.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from mentallama_jax.config import AdapterSection
from mentallama_jax.models.adapters import AdaptedLlama, adapter_of
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.low_rank import SCALE
from mentallama_jax.models.module import Params, abstract_params, param_dimensions
from mentallama_jax.models.quantised import quantise
from mentallama_jax.parallel.rules import current_mesh, spec


def with_int8_weights(model: LlamaConfig) -> AdaptedLlama:
    """The config whose module multiplies int8 projections and their scales."""
    adapter = replace(adapter_of(model, AdapterSection(base_dtype="int8")), projections=())
    return AdaptedLlama(**{field.name: getattr(model, field.name) for field in fields(model)}, adapter=adapter)


def int8_params(model: AdaptedLlama, params: Params, *, donate: bool = False) -> Params:
    """The parameters of a config of `with_int8_weights`, projections in int8 with a scale for each output.

    Args:
        model: the config.
        params: those of the plain model, in any float dtype; on a mesh, inside `use_mesh`.
        donate: delete each projection once it is in int8, so that a device needs room for one of them more.
    """
    flat = traverse_util.flatten_dict(params)
    names = traverse_util.flatten_dict(param_dimensions(model))
    for path, inputs in model.adapter.quantised:
        scale_path = (*path[:-1], path[-1] + SCALE)
        whole = flat[path]
        flat[path], flat[scale_path] = _quantise(inputs, names[path], names[scale_path])(whole)
        if donate:
            jax.block_until_ready(flat[scale_path])
            whole.delete()
    return traverse_util.unflatten_dict(flat)


@lru_cache(maxsize=64)
def _quantise(inputs: int, *names: tuple[str | None, ...]) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    placed = None if current_mesh() is None else tuple(spec(*one) for one in names)
    return jax.jit(partial(quantise, inputs=inputs), out_shardings=placed)


def abstract_int8_params(model: AdaptedLlama, dtype: Any) -> Params:
    """The shapes of `int8_params`, without any memory; what is no projection, scales too, is of this dtype."""
    flat = traverse_util.flatten_dict(abstract_params(model, dtype))
    for path, _ in model.adapter.quantised:
        flat[path] = jax.ShapeDtypeStruct(flat[path].shape, jnp.int8)
    return traverse_util.unflatten_dict(flat)
