"""Tunes a model as a config says: finds what it starts from, what fits into memory, and how its labels are measured."""

from typing import Any

import jax

from mentallama_jax.config import ClassificationSection, GrpoSection, RunConfig, SequenceSection
from mentallama_jax.errors import UserError
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer
from mentallama_jax.imhi.tasks import own_tasks
from mentallama_jax.jobs.classify import tune_classifier
from mentallama_jax.jobs.label_f1 import GeneratedLabelF1
from mentallama_jax.jobs.open_model import open_model
from mentallama_jax.jobs.open_tokenizer import open_tokenizer
from mentallama_jax.jobs.policy_sampling import policy_tools
from mentallama_jax.jobs.tune_sequence import tune_sequence_model
from mentallama_jax.models.adapters import frozen_dtype
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.models.registry import TrainedConfig, language_model
from mentallama_jax.models.remat import POLICIES
from mentallama_jax.parallel.processes import any_says, writes_files
from mentallama_jax.planning.plan import with_overrides
from mentallama_jax.planning.search import choose_remat
from mentallama_jax.terminal import Console
from mentallama_jax.training.interruption import StopRequest
from mentallama_jax.training.loop import TrainResult, train
from mentallama_jax.training.setup import BaseModel


def tune(
    config: RunConfig, stop: StopRequest | None = None, console: Console | None = None, *, extend: bool = False
) -> TrainResult:
    """Tune a model, or resume the run in `config.training.run_dir`.

    Args:
        config: the run, see `config.load_config`.
        stop: listens to signals already; by default training begins to listen.
        console: where progress is shown; standard error by default.
        extend: whether a run may be made longer than it was started.

    Raises:
        UserError: see `training.loop.train`.
    """
    with own_tasks(config.data.tasks):
        if isinstance(config.objective, ClassificationSection):
            return tune_classifier(config, stop, console, extend=extend)
        if isinstance(config.objective, SequenceSection):
            return tune_sequence_model(config, stop, console, extend=extend)
        return _tune_language_model(config, stop, console, extend)


def _tune_language_model(
    config: RunConfig, stop: StopRequest | None, console: Console | None, extend: bool
) -> TrainResult:
    base = base_model(config)
    model = language_model(base.config, config.model.source)
    config = with_remat(config, model)
    if isinstance(config.objective, GrpoSection):
        tools = policy_tools(config, model, _tokenizer_of(config, model))
        return train(config, base, console=console, stop=stop, policy=tools, extend=extend)
    label_f1 = None
    if config.evaluation.generate_rows:
        label_f1 = GeneratedLabelF1(config, model, _tokenizer_of(config, model))
    return train(config, base, label_f1, console=console, stop=stop, extend=extend)


def with_remat(config: RunConfig, model: TrainedConfig) -> RunConfig:
    """The config with `model.remat=auto` replaced by what fits into the memory of all devices."""
    if config.model.remat != "auto":
        return config
    policies = list(POLICIES)  # from keeping most: the host with the least memory decides
    chosen = policies[any_says(policies.index(choose_remat(model, config, jax.devices())))]
    if writes_files():
        print(f"model.remat auto: {chosen}")
    return with_overrides(config, model={"remat": chosen})


def base_model(config: RunConfig) -> BaseModel:
    """The model and the tokenizer that a config names, with the weights still to be read.

    Raises:
        UserError: no such model or tokenizer, or pretrained weights of a preset, which has none.
    """
    model = config.model
    if model.source in PRESETS:
        if model.weights == "pretrained":
            raise UserError(
                f"model.source: {model.source} is a shape without weights; name a folder, a hub id or a .gguf file, "
                "or set model.weights=random"
            )
        if model.tokenizer is None:
            raise UserError(f"model.tokenizer: {model.source} brings none; name a folder, or `sample`")
        shape = PRESETS[model.source]
    else:
        opened = open_model(model.source, revision=model.revision)
        shape = opened.config

    def read_weights(shardings: Any) -> Params:
        return opened.load_params(frozen_dtype(config.adapter, model.parameter_dtype), shardings)

    tokenizer = _tokenizer_of(config, shape)
    if model.weights == "random":
        return BaseModel(shape, tokenizer, None)
    return BaseModel(shape, tokenizer, read_weights, opened.fingerprint)


def _tokenizer_of(config: RunConfig, model: LlamaConfig) -> Tokenizer:
    if config.model.tokenizer is not None:
        return open_tokenizer(config.model.tokenizer, rows=model.vocab_size)
    return open_model(config.model.source, revision=config.model.revision).load_tokenizer()
