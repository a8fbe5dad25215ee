"""Opens encoder-decoders: to tune them, to let them answer, and to export them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from mentallama_jax.config import RunConfig
from mentallama_jax.errors import UserError
from mentallama_jax.formats.assembly import assemble
from mentallama_jax.formats.fingerprint import source_fingerprint
from mentallama_jax.formats.hf_folder import ReadTensor, tensors_of_arrays, tensors_of_file, tensors_of_params
from mentallama_jax.formats.load import load_model_config, open_tensors
from mentallama_jax.formats.locate import locate
from mentallama_jax.formats.peft import AdapterTensors, read_adapter
from mentallama_jax.formats.tokenizers.encoder_tokenizer import EncoderTokenizer
from mentallama_jax.imhi.pair_texts import specials_of
from mentallama_jax.jobs.adapter_runs import merged_readers, other_weights, tensors_of_run
from mentallama_jax.jobs.open_model import is_run
from mentallama_jax.models.adapters import frozen_dtype
from mentallama_jax.models.module import Params, abstract_params, init_params
from mentallama_jax.models.presets import SEQUENCE_PRESETS
from mentallama_jax.models.registry import SequenceConfig, encoder_decoder
from mentallama_jax.training.run.checkpoints import Which, load_params
from mentallama_jax.training.run.layerwise import CheckpointTensors
from mentallama_jax.training.run.manifest import Checkpoint
from mentallama_jax.training.run.opened_run import base_fingerprint, describe_run
from mentallama_jax.training.setup import BaseModel

_BEYOND_THE_TABLE = 1
"""Tokens that a tokenizer may have more than the model: some published BARTs lack a row for their mask."""


@dataclass(frozen=True, slots=True)
class OpenedSequence:
    """An encoder-decoder whose weights are still to be read.

    Attributes:
        source: as it was named.
        revision: branch, tag or commit of a hub id.
        config: the shape.
        run: the config of the run it comes from; None where it is no run's.
        update: after how many updates its weights were saved; None where it is no run's.
        tokenizer: its own.
        tensors: opens what reads one tensor at a time, as Hugging Face lays it out.
        load_params: (dtype, shardings) -> parameters. Shardings are a tree like the parameters, or None for the first
            device.
        adapter: the folder of an adapter that is merged into the weights; None without one.
    """

    source: str
    revision: str | None
    config: SequenceConfig
    run: RunConfig | None
    update: int | None
    tokenizer: EncoderTokenizer
    tensors: Callable[[], ReadTensor]
    load_params: Callable[[Any, Any], Params]
    adapter: str | None = None

    @property
    def name(self) -> str:
        """For people: the source, and the checkpoint of a run."""
        named = self.source if self.update is None else f"{self.source}, checkpoint of update {self.update}"
        return named if self.adapter is None else f"{named}, adapter {self.adapter}"

    @property
    def identity(self) -> dict[str, Any]:
        """What goes into the signature of predictions."""
        adapter = {} if self.adapter is None else {"adapter": self.adapter}
        return {"model": self.source, "revision": self.revision, "update": self.update, **adapter}


def open_sequence(
    source: str, *, revision: str | None = None, checkpoint: Which | None = None, adapter: str | Path | None = None
) -> OpenedSequence | None:
    """Find an encoder-decoder and read its shape; None where the source is a model of another kind.

    Of a run that trains an adapter, the model is its base with the adapter merged into it.

    Args:
        source: a run directory, a Hugging Face folder, its URL, or a hub id.
        revision: of a hub id.
        checkpoint: of a run: "best" by its metric (the default), "last", or a step.
        adapter: the folder of a PEFT adapter to merge into the weights; None merges none.

    Raises:
        UserError: nothing there, a tokenizer that is another model's, or an argument that does not go with the source.
    """
    if adapter is not None:
        opened = open_sequence(source, revision=revision, checkpoint=checkpoint)
        if opened is None:
            return None
        return replace(_merged(opened, read_adapter(adapter, opened.config)), adapter=str(adapter))
    if is_run(source):
        described, tokenizer_folder, run, found = describe_run(source, checkpoint or "best")
        if not isinstance(described, SequenceConfig):
            return None
        if revision is not None:
            raise UserError(f"{source}: a revision ({revision}) goes with a hub id, but this is a run directory")

        if run.adapter is not None:
            return _of_adapter_run(source, run, described, tokenizer_folder, found)

        def read_run(dtype: Any, shardings: Any) -> Params:
            first = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
            abstract = abstract_params(described, jnp.dtype(dtype))
            places = shardings or jax.tree.map(lambda _: first, abstract)
            placed = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, places)
            return load_params(found, placed)

        tokenizer = EncoderTokenizer(tokenizer_folder)

        def read_tensors() -> ReadTensor:
            return tensors_of_arrays(CheckpointTensors(found).read)

        return OpenedSequence(source, None, described, run, found.step, tokenizer, read_tensors, read_run)
    config = load_model_config(source, revision=revision)
    if not isinstance(config, SequenceConfig):
        return None
    if checkpoint is not None:
        raise UserError(f"{source}: --checkpoint goes with a run directory, but this is not one")

    def read(dtype: Any, shardings: Any) -> Params:
        fitted, file = open_tensors(source, revision=revision)
        return assemble(file, fitted, dtype, shardings)

    fitted, _ = open_tensors(source, revision=revision)
    tokenizer = _fitting(EncoderTokenizer(_folder(source, revision)), encoder_decoder(fitted, source), source)

    def tensors_of_source() -> ReadTensor:
        fitted, file = open_tensors(source, revision=revision)
        return tensors_of_file(file, fitted)

    shape = encoder_decoder(fitted, source)
    return OpenedSequence(source, revision, shape, None, None, tokenizer, tensors_of_source, read)


def _of_adapter_run(
    source: str, run: RunConfig, model: SequenceConfig, tokenizer: Path, checkpoint: Checkpoint
) -> OpenedSequence:
    """The base of a run with the adapter of its checkpoint."""
    tensors, load_params = _base_of_run(source, run, model)
    opened = OpenedSequence(
        source, None, model, run, checkpoint.step, EncoderTokenizer(tokenizer), tensors, load_params
    )
    return _merged(opened, tensors_of_run(checkpoint, model, run))


def _base_of_run(
    source: str, run: RunConfig, model: SequenceConfig
) -> tuple[Callable[[], ReadTensor], Callable[[Any, Any], Params]]:
    """What reads the weights that a run adapts, as `OpenedSequence` has it.

    Raises:
        UserError: they are gone, or others than those that were adapted.
    """
    if run.model.weights == "random":

        def random(*_: Any) -> Params:
            return init_params(model, jax.random.key(run.training.seed), run.model.parameter_dtype)

        return lambda: tensors_of_params(random()), random
    try:
        base = open_sequence(run.model.source, revision=run.model.revision)
        known, now = base_fingerprint(source), source_fingerprint(run.model.source, run.model.revision)
    except UserError as error:
        raise UserError(f"{source}: the base model of its adapter cannot be read: {error}") from None
    if base is None or base.config != model or known != now:
        raise other_weights(source, run)
    return base.tensors, base.load_params


def _merged(opened: OpenedSequence, adapter: AdapterTensors) -> OpenedSequence:
    """The model with an adapter merged into its weights, tensor by tensor."""
    tensors, load_params = merged_readers(adapter, opened.tensors, opened.config, opened.source)
    return replace(opened, tensors=tensors, load_params=load_params)


def base_sequence_model(config: RunConfig) -> BaseModel:
    """The encoder-decoder and the tokenizer that a config names, with the weights still to be read.

    Raises:
        UserError: no such model or tokenizer, not an encoder-decoder, a tokenizer of another model, or pretrained
            weights of a preset, which has none.
    """
    model = config.model
    if model.source in SEQUENCE_PRESETS:
        if model.weights == "pretrained":
            raise UserError(
                f"model.source: {model.source} is a shape without weights; name a folder or a hub id, or set "
                "model.weights=random"
            )
        if model.tokenizer is None:
            raise UserError(f"model.tokenizer: {model.source} brings none; name a folder, or `sample`")
    shape = sequence_shape(model.source, model.revision, weights=model.weights == "pretrained")
    tokenizer = _fitting(_tokenizer(config), shape, model.tokenizer or model.source)
    if model.weights == "random":
        return BaseModel(shape, tokenizer, None)

    def read(shardings: Any) -> Params:
        _, file = open_tensors(model.source, revision=model.revision)
        return assemble(file, shape, frozen_dtype(config.adapter, model.parameter_dtype), shardings)

    return BaseModel(shape, tokenizer, read, partial(source_fingerprint, model.source, model.revision))


def sequence_shape(source: str, revision: str | None, *, weights: bool = False) -> SequenceConfig:
    """The shape of an encoder-decoder; where `weights` are there, they say whether it has biases or a head of its own.

    Raises:
        UserError: no such model, or not an encoder-decoder.
    """
    if source in SEQUENCE_PRESETS:
        return SEQUENCE_PRESETS[source]
    found = open_tensors(source, revision=revision)[0] if weights else load_model_config(source, revision=revision)
    return encoder_decoder(found, source)


def _tokenizer(config: RunConfig) -> EncoderTokenizer:
    source = config.model.tokenizer or config.model.source
    if source == "sample":
        return EncoderTokenizer(Path(str(resources.files("mentallama_jax.imhi"))) / "sample" / "encoder_tokenizer")
    return EncoderTokenizer(_folder(source, None if config.model.tokenizer else config.model.revision))


def _folder(source: str, revision: str | None) -> Path:
    folder = locate(source, revision, weights=False)
    if folder.is_file():
        raise UserError(f"{folder}: not the folder of an encoder-decoder's tokenizer")
    return folder


def _fitting(tokenizer: EncoderTokenizer, config: SequenceConfig, where: str) -> EncoderTokenizer:
    """The tokenizer, where it is that of the model."""
    if tokenizer.vocab_size > config.vocab_size + _BEYOND_THE_TABLE:
        raise UserError(
            f"{where}: its tokenizer has ids up to {tokenizer.vocab_size - 1}, the model {config.vocab_size} rows; "
            "name the tokenizer that belongs to the model"
        )
    specials_of(tokenizer, config.end_id, where)
    return tokenizer
