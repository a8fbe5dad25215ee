"""Reads the adapter of a run from its checkpoint, and models with an adapter merged into their weights."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mentallama_jax.config import RunConfig
from mentallama_jax.errors import UserError
from mentallama_jax.formats.architectures.known_architectures import model_parameters
from mentallama_jax.formats.architectures.parameter_names import Parameter
from mentallama_jax.formats.assembly import assemble
from mentallama_jax.formats.hf_folder import ReadTensor
from mentallama_jax.formats.peft import AdapterTensors, LayerPlace, Matrices, TensorsAsFile
from mentallama_jax.models.adapters import AdaptedProjection, adapter_of, is_adapter
from mentallama_jax.models.low_rank import ADAPTER
from mentallama_jax.models.module import Params
from mentallama_jax.models.registry import TrainedConfig
from mentallama_jax.storage import AnyPath
from mentallama_jax.training.run.layerwise import CheckpointTensors
from mentallama_jax.training.run.manifest import Checkpoint, contents_fingerprint


def tensors_of_run(checkpoint: Checkpoint, model: TrainedConfig, config: RunConfig) -> AdapterTensors:
    """The adapter that a checkpoint holds, as files lay it out.

    Args:
        checkpoint: of the run.
        model: the base.
        config: of the run; it has an adapter.

    Raises:
        UserError: the checkpoint cannot be read.
    """
    assert config.adapter is not None
    adapter, read = adapter_of(model, config.adapter), CheckpointTensors(checkpoint).read
    by_path = {one.path: one for one in adapter.projections}
    matrices: dict[LayerPlace, Matrices] = {}
    whole: dict[LayerPlace, np.ndarray[Any, Any]] = {}
    for parameter, shape, count in model_parameters(model):
        if parameter.path in by_path:
            one = by_path[parameter.path]
            for layer in range(count):
                matrices[parameter.path, layer] = _matrices(read, parameter, shape, one, layer, adapter.dora)
        elif is_adapter(parameter.path):
            whole[parameter.path, 0] = parameter.to_foreign(np.asarray(read(parameter.path, 0), np.float32))
    return AdapterTensors(matrices, whole, str(checkpoint.path), lambda: contents_fingerprint(checkpoint))


def merged_readers(
    adapter: AdapterTensors, base: Callable[[], ReadTensor], model: TrainedConfig, source: str
) -> tuple[Callable[[], ReadTensor], Callable[[Any, Any], Params]]:
    """What reads a model with an adapter merged into its weights: tensor by tensor, and all parameters.

    Args:
        adapter: what is merged.
        base: opens what reads the weights without it, as Hugging Face lays them out.
        model: shape and constants of both.
        source: what the model is called in errors.
    """

    def tensors() -> ReadTensor:
        return adapter.merged(base())

    def load_params(dtype: Any, shardings: Any) -> Params:
        return assemble(TensorsAsFile(model, tensors(), f"{source} with its adapter"), model, dtype, shardings)

    return tensors, load_params


def other_weights(source: str | AnyPath, config: RunConfig) -> UserError:
    """What is said of a run whose base has other weights than those that it adapts."""
    return UserError(
        f"{source}: adapts other weights than {config.model.source} holds now; put those back that it was trained with"
    )


def _matrices(
    read: Any, parameter: Parameter, shape: tuple[int, ...], one: AdaptedProjection, layer: int, dora: bool
) -> Matrices:
    place = (*parameter.path[:-1], parameter.path[-1] + ADAPTER)
    outputs, inputs = parameter.foreign_shape(shape)
    a = np.asarray(read((*place, "a"), layer), np.float32).reshape(inputs, one.rank).T
    b = np.asarray(read((*place, "b"), layer), np.float32).reshape(one.rank, outputs).T
    magnitude = np.asarray(read((*place, "magnitude"), layer), np.float32).reshape(outputs) if dora else None
    return Matrices(np.ascontiguousarray(a), np.ascontiguousarray(b), magnitude, one.scale)
