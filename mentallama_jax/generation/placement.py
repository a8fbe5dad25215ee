"""Where a model and its batches live on a mesh while it answers."""

import math
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding

from mentallama_jax.errors import UserError
from mentallama_jax.generation.decoder import UnrolledLlama, of_one_layer, with_heads
from mentallama_jax.models.int8_weights import abstract_int8_params, with_int8_weights
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params, abstract_params, bind, param_dimensions
from mentallama_jax.parallel.rules import RULES, current_mesh, tree_shardings


def param_shardings(config: LlamaConfig, mesh: Mesh) -> Params:
    """The nested dict of a sharding for each parameter, to read a model with.

    Raises:
        UserError: a dimension of the model (such as its key/value heads) does not divide along the mesh, or the mesh
            cuts tokens, which decoding one token at a time cannot.
    """
    if mesh.shape["sequence"] > 1:
        raise UserError("mesh: answers are generated token by token, which cannot be cut: leave sequence at 1")
    try:
        return tree_shardings(mesh, param_dimensions(config), abstract_params(config))
    except ValueError as error:
        raise UserError(f"mesh: {error}; change tensor or fsdp") from None


def batch_parts() -> int:
    """The parts of the surrounding mesh that rows are shared among."""
    mesh = current_mesh()
    return 1 if mesh is None else math.prod(mesh.shape[axis] for axis in RULES["batch"])


def whole_batch(rows: int) -> int:
    """The number of rows, filled up so that it divides along the surrounding mesh."""
    parts = batch_parts()
    return -(-rows // parts) * parts


def abstract_model(config: LlamaConfig, mesh: Mesh, dtype: Any, *, int8_weights: bool = False) -> UnrolledLlama:
    """What `decoder.unroll` gives, as `jax.ShapeDtypeStruct` with shardings.

    Raises:
        UserError: see `param_shardings`.
    """

    shapes = abstract_params(config, dtype)
    if int8_weights:
        config = with_int8_weights(config)
        shapes = abstract_int8_params(config, dtype)

    def place(x: Any, where: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)

    params = jax.tree.map(place, shapes, param_shardings(config, mesh))
    model = bind(config, params)
    heads = with_heads(params)

    def of_layer(x: Any) -> jax.ShapeDtypeStruct:
        joined = id(x) in heads
        shape = (*x.shape[1:-2], x.shape[-2] * x.shape[-1]) if joined else x.shape[1:]
        return jax.ShapeDtypeStruct(shape, x.dtype, sharding=of_one_layer(x.sharding, len(x.shape), joined))

    layer = jax.tree.map(of_layer, model.layers)
    return UnrolledLlama(params["embedding"], (layer,) * config.num_layers, model.final_norm, params.get("head"))
