"""The shapes of models that are planned or measured: no weights are read, and published ones need no download."""

from pathlib import Path

from mentallama_jax.config import ClassificationSection, RunConfig, SequenceSection
from mentallama_jax.errors import UserError
from mentallama_jax.formats.load import load_model_config
from mentallama_jax.formats.locate import looks_like_path
from mentallama_jax.jobs.open_encoder import encoder_shape
from mentallama_jax.jobs.open_model import open_model
from mentallama_jax.jobs.open_sequence import sequence_shape
from mentallama_jax.models.bart import BartConfig
from mentallama_jax.models.presets import PRESETS, SEQUENCE_PRESETS
from mentallama_jax.models.registry import TrainedConfig
from mentallama_jax.models.t5 import T5Config

_HUB_SHAPES = {
    "meta-llama/Llama-2-7b-hf": "llama2-7b",
    "meta-llama/Llama-2-7b-chat-hf": "llama2-chat-7b",
    "meta-llama/Llama-2-13b-hf": "llama2-13b",
    "meta-llama/Llama-2-13b-chat-hf": "llama2-chat-13b",
    "meta-llama/Llama-2-70b-hf": "llama2-70b",
    "huggyllama/llama-30b": "llama-33b",
    "google-bert/bert-base-uncased": "bert-base",
    "mental/mental-bert-base-uncased": "bert-base",
    "FacebookAI/roberta-base": "roberta-base",
    "mental/mental-roberta-base": "roberta-base",
    "facebook/bart-large-cnn": "bart-large",
    "facebook/bart-large": "bart-large",
    "google-t5/t5-large": "t5-large",
}
"""Shapes that are known without asking the hub, whose files may need a licence."""


def trained_shape(config: RunConfig) -> TrainedConfig:
    """The shape that a config tunes; that of a classifier has the classes of its data sets.

    Raises:
        UserError: no such model, not one that the objective tunes, or rows with more tokens than an encoder has
            positions.
    """
    source = _HUB_SHAPES.get(config.model.source, config.model.source)
    if isinstance(config.objective, ClassificationSection):
        shape = encoder_shape(config, source)
        if config.data.max_length > shape.longest_text:
            raise UserError(
                f"data.max_length {config.data.max_length} is more than the {shape.longest_text} positions of "
                f"{config.model.source}; lower it"
            )
        return shape
    if isinstance(config.objective, SequenceSection):
        return sequence_shape(source, config.model.revision)
    if source in PRESETS:
        return PRESETS[source]
    try:
        return open_model(source, revision=config.model.revision).config
    except UserError as error:
        if looks_like_path(source) and not Path(source).expanduser().exists():
            shapes = ", ".join(PRESETS)
            raise UserError(f"{error}; train it first, or give a shape: model.source of {shapes}") from None
        raise


def scorer_shape(source: str) -> BartConfig | T5Config:
    """The shape of a model that scores pairs of texts.

    Args:
        source: a name of `SEQUENCE_PRESETS`, a folder or a hub id.

    Raises:
        UserError: no such model, or neither a BART nor a T5.
    """
    name = _HUB_SHAPES.get(source, source)
    found = SEQUENCE_PRESETS[name] if name in SEQUENCE_PRESETS else load_model_config(source)
    if not isinstance(found, BartConfig | T5Config):
        raise UserError(f"--score {source}: is a {found.model_type}; pairs are scored by a bart or a t5")
    return found
