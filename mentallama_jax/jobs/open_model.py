"""Opens a model, whatever its name stands for: a run directory, a folder, a `.gguf` file, a package, a hub id."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mentallama_jax.config import RunConfig
from mentallama_jax.errors import UserError
from mentallama_jax.formats.fingerprint import source_fingerprint
from mentallama_jax.formats.hf_folder import ReadTensor, tensors_of_arrays, tensors_of_file
from mentallama_jax.formats.load import load_model, load_model_config, open_tensors
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer, load_tokenizer
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params
from mentallama_jax.models.registry import language_model
from mentallama_jax.storage import as_path
from mentallama_jax.training.run.checkpoints import Which
from mentallama_jax.training.run.layerwise import CheckpointTensors
from mentallama_jax.training.run.manifest import contents_fingerprint
from mentallama_jax.training.run.run_directory import load_run, open_run


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

    @property
    def name(self) -> str:
        """Name the source, and the checkpoint of a run, for people."""
        return self.source if self.update is None else f"{self.source}, checkpoint of update {self.update}"

    @property
    def identity(self) -> dict[str, Any]:
        """What goes into the signature of predictions."""
        return {"model": self.source, "revision": self.revision, "update": self.update}


def is_run(source: str | Path) -> bool:
    """Whether a name is that of a run directory, here or on a bucket."""
    return not str(source).startswith("package:") and (as_path(source) / "model_config.json").is_file()


def open_model(source: str, *, revision: str | None = None, checkpoint: Which | None = None) -> OpenedModel:
    """Find a model and read its shape.

    Args:
        source: a run directory, a Hugging Face folder, a `.gguf` file, the URL of any of these, `package:NAME`, or a
            hub id.
        revision: of a hub id.
        checkpoint: of a run: "best" by its metric (the default; the last where nothing was evaluated), "last", or a
            step.

    Raises:
        UserError: nothing there, not a model that can be computed, or an argument that does not go with the source.
    """
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

    def read_run(dtype: Any, shardings: Any) -> Params:
        placed = None if shardings is None else lambda _: shardings
        return load_run(source, found.checkpoint.step, dtype=dtype, shardings=placed).params

    tokenizer = partial(load_tokenizer, found.tokenizer, rows=found.model_config.vocab_size)
    step, fingerprint = found.checkpoint.step, partial(contents_fingerprint, found.checkpoint)

    def tensors_of_run() -> ReadTensor:
        return tensors_of_arrays(CheckpointTensors(found.checkpoint).read)

    return OpenedModel(
        source, None, found.model_config, found.config, step, read_run, tokenizer, tensors_of_run, fingerprint
    )


def _tensors_of_source(source: str, revision: str | None) -> ReadTensor:
    config, file = open_tensors(source, revision=revision)
    return tensors_of_file(file, config)
