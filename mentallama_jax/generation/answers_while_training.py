"""The weights of a run in training, laid out on the same devices so that they can answer, and laid aside again.

Training cuts weights along `fsdp`, and gathers them whole where it uses them. A loop of steps that decodes would gather
and hold all of them on each device, which many devices have no room for. So while a model answers, its weights are cut
along `tensor` by as many devices as it takes, and copies of the model share the rows.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from mentallama_jax.generation.engine import Engine
from mentallama_jax.generation.placement import device_memory, divides, param_shardings
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.low_rank import cast_floats
from mentallama_jax.models.module import Params, count_params
from mentallama_jax.parallel.mesh import use_mesh
from mentallama_jax.parallel.rules import current_mesh

_SHARE_OF_WEIGHTS = 1 / 8
"""Share of a device's memory that the weights that answer may take: parameters and moments of training stay there."""


@contextmanager
def holding(engine: Engine, params: Params, memory: int | None = None) -> Iterator[None]:
    """Let an engine hold the weights of training inside the block, on the devices of the surrounding mesh.

    All processes of several enter it together.

    Args:
        engine: to hold them.
        params: nested dict with stacked layers on the surrounding mesh; left as they are.
        memory: bytes of a device; by default what it reports. Where that is unknown, as on CPUs, weights stay as
            training has cut them.
    """
    mesh = answering = jax.sharding.get_mesh()
    if isinstance(mesh, Mesh) and current_mesh() is not None:
        memory = device_memory() if memory is None else memory
        answering = _answering_mesh(mesh, engine, memory) if memory else mesh
    with nullcontext() if answering == mesh else use_mesh(answering):
        engine.update(params if answering == mesh else _placed(engine, params, answering))
        try:
            yield
        finally:
            engine.release()  # training needs the room


def axes_while_training(config: LlamaConfig, dtype: Any, sizes: Mapping[str, int], memory: int) -> dict[str, int]:
    """The axes of a mesh of training with `fsdp` divided between `data` and, as little as will do, `tensor`.

    Args:
        config: of the model.
        dtype: of the weights that answer.
        sizes: of the axes of the mesh of training.
        memory: bytes of a device.
    """
    fsdp, tensor = sizes["fsdp"], sizes["tensor"]
    weights = count_params(config) * jnp.dtype(dtype).itemsize
    possible = [more for more in range(1, fsdp + 1) if fsdp % more == 0 and divides(config, tensor=more * tensor)]
    held = (more for more in possible if weights / (more * tensor) <= _SHARE_OF_WEIGHTS * memory)
    more = next(held, max(possible, default=1))
    return {**sizes, "data": sizes["data"] * (fsdp // more), "fsdp": 1, "tensor": more * tensor}


def _answering_mesh(mesh: Mesh, engine: Engine, memory: int) -> Mesh:
    """The devices of a mesh of training, in the same order."""
    sizes = axes_while_training(engine.config, engine.dtype, mesh.shape, memory)
    return Mesh(mesh.devices.reshape(tuple(sizes.values())), tuple(sizes), axis_types=mesh.axis_types)


def _placed(engine: Engine, params: Params, mesh: Mesh) -> Params:
    def cast(params: Params) -> Params:
        return cast_floats(params, engine.dtype)

    placed: Params = jax.jit(cast, out_shardings=param_shardings(engine.config, mesh))(params)
    return placed
