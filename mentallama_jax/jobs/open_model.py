"""Opens a model, whatever its name stands for: a run directory, a folder, a `.gguf` file, a package, a hub id."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

from mentallama_jax.config import RunConfig
from mentallama_jax.errors import UserError
from mentallama_jax.formats.fingerprint import source_fingerprint
from mentallama_jax.formats.hf_folder import ReadTensor, tensors_of_arrays, tensors_of_file, tensors_of_params
from mentallama_jax.formats.load import load_model, load_model_config, open_tensors
from mentallama_jax.formats.peft import AdapterTensors, read_adapter
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer, load_tokenizer
from mentallama_jax.jobs.adapter_runs import merged_readers, other_weights, tensors_of_run
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params, init_params
from mentallama_jax.models.registry import language_model
from mentallama_jax.storage import as_path
from mentallama_jax.training.run.checkpoints import Which
from mentallama_jax.training.run.layerwise import CheckpointTensors
from mentallama_jax.training.run.manifest import contents_fingerprint
from mentallama_jax.training.run.opened_run import OpenedRun, base_fingerprint, load_run, open_run


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A model whose weights are still to be read.

    Attributes:
        source: as it was named.
        revision: branch, tag or commit of a hub id.
        config: shape and constants.
        run: the config of the run it comes from; None where it is no run's.
        update: after how many updates its weights were saved; None where it is no run's.
        load_params: (dtype, shardings) -> parameters. Shardings are a tree like the parameters, or None for the first
            device.
        load_tokenizer: reads its tokenizer.
        tensors: opens what reads one tensor at a time, as Hugging Face lays it out.
        fingerprint: of the weights, whatever their place is called; raises `UserError` where they are gone.
        adapter: the folder of an adapter that is merged into the weights; None without one.
    """

    source: str
    revision: str | None
    config: LlamaConfig
    run: RunConfig | None
    update: int | None
    load_params: Callable[[Any, Any], Params]
    load_tokenizer: Callable[[], Tokenizer]
    tensors: Callable[[], ReadTensor]
    fingerprint: Callable[[], str]
    adapter: str | None = None

    @property
    def name(self) -> str:
        """Name the source, and the checkpoint of a run, for people."""
        named = self.source if self.update is None else f"{self.source}, checkpoint of update {self.update}"
        return named if self.adapter is None else f"{named}, adapter {self.adapter}"

    @property
    def identity(self) -> dict[str, Any]:
        """What goes into the signature of predictions."""
        adapter = {} if self.adapter is None else {"adapter": self.adapter}
        return {"model": self.source, "revision": self.revision, "update": self.update, **adapter}


def is_run(source: str | Path) -> bool:
    """Whether a name is that of a run directory, here or on a bucket."""
    return not str(source).startswith("package:") and (as_path(source) / "model_config.json").is_file()


def open_model(
    source: str, *, revision: str | None = None, checkpoint: Which | None = None, adapter: str | Path | None = None
) -> OpenedModel:
    """Find a model and read its shape.

    Of a run that trains an adapter, the model is its base with the adapter merged into it.

    Args:
        source: a run directory, a Hugging Face folder, a `.gguf` file, the URL of any of these, `package:NAME`, or a
            hub id.
        revision: of a hub id.
        checkpoint: of a run: "best" by its metric (the default; the last where nothing was evaluated), "last", or a
            step.
        adapter: the folder of a PEFT adapter to merge into the weights; None merges none.

    Raises:
        UserError: nothing there, not a model that can be computed, or an argument that does not go with the source.
    """
    if adapter is not None:
        return _with_adapter(open_model(source, revision=revision, checkpoint=checkpoint), Path(adapter))
    if not is_run(source):
        if checkpoint is not None:
            raise UserError(f"{source}: --checkpoint goes with a run directory, but this is not one")
        config = language_model(load_model_config(source, revision=revision), source)

        def read(dtype: Any, shardings: Any) -> Params:
            return load_model(source, revision=revision, dtype=dtype, sharding=shardings)[1]

        tokenizer = partial(load_tokenizer, source, revision, config.vocab_size)
        fingerprint = partial(source_fingerprint, source, revision)
        tensors = partial(_tensors_of_source, source, revision)
        return OpenedModel(source, revision, config, None, None, read, tokenizer, tensors, fingerprint)
    if revision is not None:
        raise UserError(f"{source}: a revision ({revision}) goes with a hub id, but this is a run directory")
    found = open_run(source, checkpoint or "best")

    if found.config.adapter is not None:
        return _of_adapter_run(source, found)

    def read_run(dtype: Any, shardings: Any) -> Params:
        placed = None if shardings is None else lambda _: shardings
        return load_run(source, found.checkpoint.step, dtype=dtype, shardings=placed).params

    tokenizer = partial(load_tokenizer, found.tokenizer, rows=found.model_config.vocab_size)
    step, fingerprint = found.checkpoint.step, partial(contents_fingerprint, found.checkpoint)

    def read_tensors() -> ReadTensor:
        return tensors_of_arrays(CheckpointTensors(found.checkpoint).read)

    return OpenedModel(
        source, None, found.model_config, found.config, step, read_run, tokenizer, read_tensors, fingerprint
    )


def _of_adapter_run(source: str, run: OpenedRun) -> OpenedModel:
    """The base of a run with the adapter of its checkpoint."""
    base = base_of_run(source, run.config, run.model_config)
    adapter = tensors_of_run(run.checkpoint, run.model_config, run.config)
    opened = OpenedModel(
        source,
        None,
        run.model_config,
        run.config,
        run.checkpoint.step,
        base.load_params,
        partial(load_tokenizer, run.tokenizer, rows=run.model_config.vocab_size),
        base.tensors,
        base.fingerprint,
    )
    return _merged(opened, adapter)


def _with_adapter(opened: OpenedModel, folder: Path) -> OpenedModel:
    adapter = read_adapter(folder, opened.config)
    return replace(_merged(opened, adapter), adapter=str(folder))


def _merged(opened: OpenedModel, adapter: AdapterTensors) -> OpenedModel:
    """The model with an adapter merged into its weights, tensor by tensor."""
    tensors, load_params = merged_readers(adapter, opened.tensors, opened.config, opened.source)

    def fingerprint() -> str:
        return hashlib.sha256(f"{opened.fingerprint()} {adapter.fingerprint()}".encode()).hexdigest()

    return replace(opened, tensors=tensors, load_params=load_params, fingerprint=fingerprint)


def base_of_run(source: str, config: RunConfig, model: LlamaConfig) -> OpenedModel:
    """The model that a run adapts.

    Raises:
        UserError: it is gone, or its weights are others than those that were adapted.
    """
    if config.model.weights == "random":
        return _random_model(config, model)
    try:
        base = open_model(config.model.source, revision=config.model.revision)
        known = base_fingerprint(source)
        changed = base.config != model or (known is not None and known != base.fingerprint())
    except UserError as error:
        raise UserError(f"{source}: the base model of its adapter cannot be read: {error}") from None
    if changed:
        raise other_weights(source, config)
    return base


def _random_model(config: RunConfig, model: LlamaConfig) -> OpenedModel:
    """The random weights that a run began with."""
    shape, seed = config.model.source, config.training.seed

    def params() -> Params:
        return init_params(model, jax.random.key(seed), config.model.parameter_dtype)

    def nothing(*_: Any) -> Any:
        raise AssertionError("random weights are read tensor by tensor and have no tokenizer")

    return OpenedModel(
        shape,
        None,
        model,
        None,
        None,
        nothing,
        nothing,
        lambda: tensors_of_params(params()),
        lambda: f"random {model} {seed}",
    )


def _tensors_of_source(source: str, revision: str | None) -> ReadTensor:
    config, file = open_tensors(source, revision=revision)
    return tensors_of_file(file, config)
