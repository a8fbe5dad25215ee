"""Where a model and its batches live on a mesh while it answers."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mentallama_jax.config import MeshSection
from mentallama_jax.errors import UserError
from mentallama_jax.generation.decoder import UnrolledLlama
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params, abstract_params, bind, count_params, param_dimensions
from mentallama_jax.parallel.mesh import make_mesh
from mentallama_jax.parallel.rules import RULES, current_mesh, tree_shardings

_SHARE_OF_WEIGHTS = 0.7
"""Of a device's memory, the share that weights may take while it answers; the rest is for the cache and a batch."""


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
    """The mesh of all devices of all hosts where nobody names one.

    Each host holds a copy of the model, cut along `tensor`, and has rows of its own: so no weight and no sum of a layer
    crosses hosts. A model that is too large for the devices of one host takes as few hosts as hold it.
    """
    local, count = jax.local_device_count(), jax.device_count()
    tensors = [size for size in range(1, count + 1) if count % size == 0 and _divides(config, count, size)]
    within = max(size for size in tensors if local % size == 0)
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0)
    weights = count_params(config) * jnp.dtype(dtype).itemsize
    held = (size for size in tensors if size >= within and (not limit or weights / size <= _SHARE_OF_WEIGHTS * limit))
    return _mesh_of(count, next(held, tensors[-1]))


def _mesh_of(devices: int, tensor: int) -> Mesh:
    return make_mesh(MeshSection(data=devices // tensor, fsdp=1, tensor=tensor))


def _divides(config: LlamaConfig, devices: int, tensor: int) -> bool:
    try:
        param_shardings(config, _mesh_of(devices, tensor))
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


def abstract_model(config: LlamaConfig, mesh: Mesh, dtype: Any) -> UnrolledLlama:
    """What `cache.unroll` gives, as `jax.ShapeDtypeStruct` with shardings.

    Raises:
        UserError: see `param_shardings`.
    """

    def place(x: Any, where: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, dtype, sharding=where)

    params = jax.tree.map(place, abstract_params(config), param_shardings(config, mesh))
    model = bind(config, params)
    layer = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            x.shape[1:], dtype, sharding=NamedSharding(mesh, PartitionSpec(*x.sharding.spec[1:]))
        ),
        model.layers,
    )
    return UnrolledLlama(params["embedding"], (layer,) * config.num_layers, model.final_norm, params.get("head"))
