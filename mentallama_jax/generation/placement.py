"""Where a model and its batches live on a mesh while it answers."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh, NamedSharding

from mentallama_jax.config import MeshSection
from mentallama_jax.errors import UserError
from mentallama_jax.generation.decoder import UnrolledLlama, of_one_layer, with_heads
from mentallama_jax.models.int8_weights import abstract_int8_params, with_int8_weights
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params, abstract_params, bind, count_params, param_dimensions
from mentallama_jax.parallel.mesh import AXES, make_mesh
from mentallama_jax.parallel.rules import RULES, current_mesh, tree_shardings

_SHARE_OF_WEIGHTS = 0.7
"""Share of a device's memory that weights may take while it answers; the rest is for the cache and a batch."""


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


def mesh_of_hosts(config: LlamaConfig, dtype: Any) -> Mesh:
    """The mesh of all devices of all hosts where nobody names one, see `axes_of_hosts`."""
    return make_mesh(axes_of_hosts(config, dtype, jax.device_count(), jax.local_device_count(), device_memory()))


def device_memory() -> int:
    """Bytes that a program may use on a device of this process; 0 where it does not say."""
    return int((jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0))


def axes_of_hosts(config: LlamaConfig, dtype: Any, devices: int, of_a_host: int, memory: int) -> MeshSection:
    """How all devices of several hosts share answers where nobody says it.

    Each host holds a copy of the model, cut along `tensor`, and has rows of its own: so no weight and no sum of a layer
    crosses hosts. A model that is too large for the devices of one host takes as few more as hold it.

    Args:
        config: of the model.
        dtype: of the weights.
        devices: of all hosts.
        of_a_host: devices that each host has.
        memory: bytes of a device; 0 where that is unknown.
    """
    tensors = [size for size in range(1, devices + 1) if devices % size == 0 and divides(config, tensor=size)]
    within = max(size for size in tensors if of_a_host % size == 0)
    weights = count_params(config) * jnp.dtype(dtype).itemsize
    held = (size for size in tensors if size >= within and (not memory or weights / size <= _SHARE_OF_WEIGHTS * memory))
    tensor = next(held, tensors[-1])
    return MeshSection(data=devices // tensor, fsdp=1, tensor=tensor)


def divides(config: LlamaConfig, *, tensor: int) -> bool:
    """Whether the dimensions of a model divide among so many devices along `tensor`."""
    sizes = {axis: tensor if axis == "tensor" else 1 for axis in AXES}
    try:
        param_shardings(config, AbstractMesh(tuple(sizes.values()), tuple(sizes)))  # type: ignore[arg-type]
    except UserError:
        return False
    return True


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
