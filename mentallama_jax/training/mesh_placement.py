"""Where the state of training and its batches live on the mesh."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from mentallama_jax.config import RunConfig, SequenceSection
from mentallama_jax.errors import UserError
from mentallama_jax.models.module import abstract_params, param_dimensions, split_params
from mentallama_jax.models.registry import TrainedConfig
from mentallama_jax.parallel.rules import Names, check_divides, spec, tree_shardings
from mentallama_jax.training.adafactor import moment_names
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES, PACKED_TOKENS, BatchSpec
from mentallama_jax.training.objectives.objective import BatchArrays, Objective
from mentallama_jax.training.step import TrainState, init_state, model_params


def abstract_state(objective: Objective, config: RunConfig, total_steps: int, mesh: Mesh) -> TrainState:
    """The train state as `jax.ShapeDtypeStruct`, each array with its sharding; moments lie as their parameters do.

    Raises:
        UserError: a dimension of the model does not divide along the mesh.
    """
    shapes = jax.eval_shape(partial(init_state, objective, config, total_steps))
    try:
        places = tree_shardings(mesh, param_dimensions(objective.model), model_params(shapes))
    except ValueError as error:
        raise UserError(f"mesh: {error}; change mesh.tensor or mesh.fsdp") from None
    whole = NamedSharding(mesh, PartitionSpec())
    of_path = {_keys(path): place for path, place in jax.tree_util.tree_leaves_with_path(places)}
    params, frozen = split_params(places, objective.is_trained)
    moments = jax.tree.map_with_path(
        lambda path, _: _moment_place(path, of_path, objective, mesh) or whole, shapes["opt_state"]
    )
    shardings = {"params": params, "frozen": frozen, "opt_state": moments, "step": whole}
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)


def _moment_place(
    path: Any, of_path: Mapping[tuple[str, ...], NamedSharding], objective: Objective, mesh: Mesh
) -> NamedSharding | None:
    """Where a moment lies: as its parameter does, and a factored one as the dimensions that it keeps; None: whole."""
    keys = _keys(path)
    field = next((key.name for key in path if isinstance(key, jax.tree_util.GetAttrKey)), "")
    if field in ("rows", "columns", "whole") and keys:
        shape: Any = abstract_params(objective.model)
        names: Any = param_dimensions(objective.model)
        for key in keys:
            shape, names = shape[key], names[key]
        return NamedSharding(mesh, spec(*moment_names(field, keys, names, shape.shape)))
    return of_path.get(keys)


def _keys(path: Any) -> tuple[str, ...]:
    """The names of a parameter in a path to it, or to one of its moments."""
    return tuple(key.key for key in path if isinstance(key, jax.tree_util.DictKey))


def check_batch(model: TrainedConfig, config: RunConfig, mesh: Mesh) -> None:
    """Refuse rows and tokens that do not divide along the mesh, before anything is read.

    Raises:
        UserError: names the key to change.
    """
    shape = (config.training.micro_batch_rows, config.data.max_length)
    try:
        check_divides(mesh, ("batch", "length"), shape, "training.micro_batch_rows x data.max_length")
    except ValueError as error:
        raise UserError(f"mesh: {error}; choose multiples{_such_as(config, mesh)}") from None
    if isinstance(config.objective, SequenceSection) and config.objective.target_length % mesh.shape["sequence"]:
        raise UserError(
            f"mesh: objective.target_length {config.objective.target_length} does not divide along mesh axis sequence "
            f"{mesh.shape['sequence']}; choose a multiple"
        )
    parts = mesh.shape["tensor"] * mesh.shape["sequence"]
    if mesh.shape["sequence"] > 1 and model.num_kv_heads % parts:
        raise UserError(
            f"mesh: the {model.num_kv_heads} key/value heads of {config.model.source} do not divide along mesh axes "
            f"tensor {mesh.shape['tensor']} x sequence {mesh.shape['sequence']}; lower mesh.sequence"
        )


def _such_as(config: RunConfig, mesh: Mesh) -> str:
    """The next number of rows that divides along the mesh; "" where the rows are not the trouble."""
    rows, each = config.training.micro_batch_rows, mesh.shape["data"] * mesh.shape["fsdp"]
    return f", such as training.micro_batch_rows={-(-rows // each) * each}" if rows % each else ""


def held_rows(mesh: Mesh, rows: int) -> tuple[int, ...]:
    """Which of `rows` rows of a micro-batch the devices of this process hold, ascending.

    The mesh decides: a process may hold rows that are not neighbours, and several may hold the same ones, where their
    devices share tensors or tokens.
    """
    places = NamedSharding(mesh, spec("batch")).addressable_devices_indices_map((rows,))
    return tuple(sorted({row for index in places.values() if index for row in range(*index[0].indices(rows))}))


def held_part(arrays: Mapping[str, NDArray[Any]], micro_batch_rows: int, mesh: Mesh) -> dict[str, NDArray[Any]]:
    """The part of whole arrays, all rows of each micro-batch, that `place_batch` wants of this process."""
    held = held_rows(mesh, micro_batch_rows)
    if len(held) == micro_batch_rows:
        return dict(arrays)

    def part(values: NDArray[Any]) -> NDArray[Any]:
        cut = values.reshape(-1, micro_batch_rows, *values.shape[1:])[:, list(held)]
        return cut.reshape(-1, *values.shape[1:])

    return {name: values if name == MICRO_BATCHES else part(values) for name, values in arrays.items()}


def abstract_batch(
    config: RunConfig, mesh: Mesh | AbstractMesh, micro_batches: int, spec_of_batch: BatchSpec = PACKED_TOKENS
) -> dict[str, jax.ShapeDtypeStruct]:
    """The batch of an update as `jax.ShapeDtypeStruct` with shardings: what `place_batch` makes, without any memory.

    Args:
        config: says how many rows a micro-batch has, and how many tokens a row.
        mesh: of devices, which need not be present.
        micro_batches: of the update.
        spec_of_batch: which arrays there are.
    """
    sizes = {"batch": config.training.micro_batch_rows, "length": config.data.max_length}
    arrays = {
        name: jax.ShapeDtypeStruct(
            (micro_batches, *one.shape(sizes)), np.dtype(one.dtype), sharding=_sharding(mesh, one.dimensions)
        )
        for name, one in spec_of_batch.arrays.items()
    }
    count = jax.ShapeDtypeStruct((), np.int32, sharding=NamedSharding(mesh, PartitionSpec()))
    return {**arrays, MICRO_BATCHES: count}


def place_batch(
    arrays: Mapping[str, NDArray[Any]], micro_batch_rows: int, mesh: Mesh, spec_of_batch: BatchSpec = PACKED_TOKENS
) -> BatchArrays:
    """Put the rows that a host holds onto its devices.

    Args:
        arrays: those of `spec_of_batch`, [micro-batches x `held_rows` of a micro-batch, ...] each, and the scalar
            `micro_batches`.
        micro_batch_rows: rows of a micro-batch over all hosts.
        mesh: over the devices of all hosts.
        spec_of_batch: which arrays there are.

    Returns:
        [micro-batches, micro_batch_rows, ...] each, rows and tokens cut along the mesh; and `micro_batches`.

    Raises:
        ValueError: the rows are not whole micro-batches, or the arrays are others than those of `spec_of_batch`.
    """
    spec_of_batch.check(arrays)
    whole = NamedSharding(mesh, PartitionSpec())
    held = held_rows(mesh, micro_batch_rows)

    def place(name: str, value: Any) -> jax.Array:
        if name == MICRO_BATCHES:
            return jax.make_array_from_callback((), whole, lambda _: value)
        if len(value) % len(held):
            raise ValueError(f"a batch of {len(value)} rows is not whole micro-batches of {len(held)}")
        cut = value.reshape(-1, len(held), *value.shape[1:])

        def part(index: Any) -> NDArray[Any]:
            # The rows of a device are neighbours in the whole micro-batch, and so in what is held of it, ascending.
            start, stop, _ = index[1].indices(micro_batch_rows)
            first = held.index(start)
            return cut[index[0], first : first + stop - start, *index[2:]]

        where = _sharding(mesh, spec_of_batch.arrays[name].dimensions)
        return jax.make_array_from_callback((len(cut), micro_batch_rows, *cut.shape[2:]), where, part)

    return {name: place(name, value) for name, value in arrays.items()}


def _sharding(mesh: Mesh | AbstractMesh, dimensions: Names) -> NamedSharding:
    """Where an array of a batch lies: its micro-batches are whole, its other dimensions follow `parallel.rules`."""
    return NamedSharding(mesh, PartitionSpec(None, *spec(*dimensions)))
