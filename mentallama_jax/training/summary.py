"""The table of a run that is shown before its first update."""

from jax.sharding import Mesh
from rich.table import Table

from mentallama_jax.config import RunConfig, SequenceSection
from mentallama_jax.models.adapters import adapted_config, is_adapter
from mentallama_jax.models.module import abstract_params, count_params, split_params
from mentallama_jax.models.registry import TrainedConfig
from mentallama_jax.training.data.examples import Examples
from mentallama_jax.training.preflight import tree_numbers
from mentallama_jax.training.run.run_directory import RunDirectory
from mentallama_jax.training.setup import BaseModel, RunData


def summary(
    config: RunConfig,
    base: BaseModel,
    examples: Examples,
    data: RunData,
    run: RunDirectory,
    mesh: Mesh,
) -> Table:
    """What is trained, on what, how long and where: a row each."""
    rows = sum(examples.rows.values())
    unit, size, micro_rows = config.training.batch_unit, config.training.batch_size, config.training.micro_batch_rows
    epochs = "part of an epoch"
    if data.epoch_ends:
        more = "" if data.epoch_ends[-1] == data.steps else " and part of the next"
        count = len(data.epoch_ends)
        epochs = f"{count} epoch{'' if count == 1 else 's'} of {data.epoch_ends[0]:,}{more}"
    validation = len(examples.validation) if examples.validation is not None else 0
    table = Table(show_header=False, box=None, title="training", title_justify="left")
    for name, value in (
        ("model", f"{config.model.source}, {config.model.weights} weights"),
        ("parameters", _parameters(config, base.config)),
        ("training rows", f"{rows:,}: " + ", ".join(f"{name} {count:,}" for name, count in examples.rows.items())),
        (
            "validation rows",
            f"{validation:,}" if validation else "none: the last checkpoint is the best",
        ),
        ("updates", f"{data.steps:,}: {epochs}"),
        ("batch", f"{size:,} {unit} an update, at most {data.rows} rows, {micro_rows} at a time"),
        ("layout", f"{config.data.layout}, rows of {_row_words(config)}, {data.pad_share:.1%} padding"),
        ("computes on", f"{_devices(mesh)} in {config.model.compute_dtype}"),
        ("run directory", str(run.path)),
    ):
        table.add_row(name, value)
    return table


def _row_words(config: RunConfig) -> str:
    """What a row holds, for people."""
    if isinstance(config.objective, SequenceSection):
        return f"{config.data.max_length} tokens of prompts and {config.objective.target_length} of answers"
    return f"{config.data.max_length} tokens"


def _parameters(config: RunConfig, model: TrainedConfig) -> str:
    if config.adapter is None:
        return f"{count_params(model):,} in {config.model.parameter_dtype}"
    trained = split_params(abstract_params(adapted_config(model, config.adapter)), is_adapter)[0]
    return (
        f"{tree_numbers(trained):,} trained in {config.model.parameter_dtype}, {count_params(model):,} of the base in "
        f"{config.adapter.base_dtype}"
    )


def _devices(mesh: Mesh) -> str:
    kind = mesh.devices.flat[0].device_kind
    axes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items() if size > 1)
    return f"{mesh.size} x {kind} ({axes})" if axes else kind
