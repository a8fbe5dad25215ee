"""Reading a run that others have written: its description, and the weights of a checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mentallama_jax.config import RunConfig, parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params, abstract_params
from mentallama_jax.models.registry import AnyModelConfig, language_model, model_config_from_json
from mentallama_jax.storage import AnyPath, as_path
from mentallama_jax.training.run.checkpoints import Which, find_checkpoint, load_params
from mentallama_jax.training.run.manifest import Checkpoint
from mentallama_jax.training.run.run_directory import RunDirectory, read_json


class LoadedRun(NamedTuple):
    """What generation and export need of a run."""

    model_config: LlamaConfig
    params: Params
    tokenizer: Path
    config: RunConfig
    checkpoint: Checkpoint


class OpenedRun(NamedTuple):
    """A run whose weights are still to be read."""

    model_config: LlamaConfig
    tokenizer: Path
    config: RunConfig
    checkpoint: Checkpoint


class DescribedRun(NamedTuple):
    """A run of whatever model, its weights still to be read."""

    model_config: AnyModelConfig
    tokenizer: Path
    config: RunConfig
    checkpoint: Checkpoint


def open_run(run_dir: str | AnyPath, which: Which = "best") -> OpenedRun:
    """Read all of a run but its weights; `which` chooses the checkpoint as in `load_run`.

    Raises:
        UserError: not a run directory, no such checkpoint, or a damaged one.
    """
    described, tokenizer, config, checkpoint = describe_run(run_dir, which)
    return OpenedRun(language_model(described, as_path(run_dir)), tokenizer, config, checkpoint)


def describe_run(run_dir: str | AnyPath, which: Which = "best") -> DescribedRun:
    """Read all of a run but its weights, whatever model it trains.

    Raises:
        UserError: as `open_run`.
    """
    run = RunDirectory(run_dir)
    run.fetch()
    if not run.config.is_file():
        raise UserError(f"{run.path}: not a run directory (it has no config.json)")
    config = parse_config(read_json(run.config), str(run.config))
    described = model_config_from_json(read_json(run.model_config), str(run.model_config))
    checkpoint = find_checkpoint(run.checkpoints, which, config.evaluation.metric)
    return DescribedRun(described, run.tokenizer, config, checkpoint)


def load_run(
    run_dir: str | AnyPath,
    which: Which = "best",
    *,
    dtype: Any = None,
    shardings: Callable[[LlamaConfig], Any] | None = None,
) -> LoadedRun:
    """Read the model of a run.

    Args:
        run_dir: a run directory, finished or not.
        which: the checkpoint: "best" by the run's metric (the last where nothing was evaluated), "last", or a step.
        dtype: of the parameters; by default as trained.
        shardings: from the shape of the model to a tree like the parameters; by default all are on the first device.

    Returns:
        The shape of the model, its parameters, the folder of its tokenizer, the config of the run, and the checkpoint.

    Raises:
        UserError: not a run directory, no such checkpoint, a damaged one, or one with NaN or infinity in it.
    """
    model_config, tokenizer, config, checkpoint = open_run(run_dir, which)
    refuse_adapter(config, run_dir)
    abstract = abstract_params(model_config, jnp.dtype(dtype or config.model.parameter_dtype))
    first = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    places = shardings(model_config) if shardings else jax.tree.map(lambda _: first, abstract)
    placed = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, places)
    return LoadedRun(model_config, load_params(checkpoint, placed), tokenizer, config, checkpoint)


def refuse_adapter(config: RunConfig, run_dir: str | AnyPath) -> None:
    """Refuse a run whose checkpoints hold an adapter alone, where a whole model is read from them.

    Raises:
        UserError: it is one.
    """
    if config.adapter is not None:
        raise UserError(f"{as_path(run_dir)}: holds an adapter; merge it first with `mentallama export`")


def base_fingerprint(run_dir: str | AnyPath) -> str | None:
    """What tells the weights that a run started from; None where they were random.

    Raises:
        UserError: the run's description cannot be read.
    """
    run = RunDirectory(run_dir)
    run.fetch()
    found = read_json(run.data).get("model_fingerprint")
    return found if isinstance(found, str) else None
