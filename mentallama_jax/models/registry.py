"""The model types that there are: a new architecture is one more row here."""

from collections.abc import Mapping
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.models.bart import BartConfig
from mentallama_jax.models.bert import BertConfig, RobertaConfig
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.t5 import T5Config

AnyModelConfig = LlamaConfig | BertConfig | BartConfig | T5Config
"""Any of the model configs."""
SequenceConfig = BartConfig | T5Config
"""The model configs of encoder-decoders."""
TrainedConfig = LlamaConfig | BertConfig | SequenceConfig
"""The model configs that there are objectives of training for."""

_ALL: tuple[type[AnyModelConfig], ...] = (LlamaConfig, BertConfig, RobertaConfig, BartConfig, T5Config)
MODEL_CONFIGS: Mapping[str, type[AnyModelConfig]] = {config.model_type: config for config in _ALL}


def model_config_from_json(values: Any, where: str) -> AnyModelConfig:
    """The config that `to_json` described, of whatever model type; descriptions without a type are of LLaMA.

    Args:
        values: what a JSON file holds.
        where: the name of that file, for the message.

    Raises:
        UserError: an unknown model type, or a key that is missing, unknown or wrong.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where}: not a description of a model (a JSON object)")
    model_type = values.get("model_type", LlamaConfig.model_type)
    if not isinstance(model_type, str) or model_type not in MODEL_CONFIGS:
        raise UserError(f"{where}: model_type {model_type!r:.60} is unknown; there are: {', '.join(MODEL_CONFIGS)}")
    try:
        return MODEL_CONFIGS[model_type].from_json(values)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def encoder(config: AnyModelConfig, where: object) -> BertConfig:
    """The config, where it is that of an encoder.

    Raises:
        UserError: it is another model; `where` names it.
    """
    if isinstance(config, BertConfig):
        return config
    raise UserError(f"{where}: is a {config.model_type} model; a classifier is made from an encoder (bert, roberta)")


def encoder_decoder(config: AnyModelConfig, where: object) -> SequenceConfig:
    """The config, where it is that of an encoder-decoder.

    Raises:
        UserError: it is another model; `where` names it.
    """
    if isinstance(config, SequenceConfig):
        return config
    raise UserError(
        f"{where}: is a {config.model_type} model; objective.kind sequence_to_sequence tunes an encoder-decoder "
        "(bart, t5)"
    )


def language_model(config: AnyModelConfig, where: object) -> LlamaConfig:
    """The config, where it is that of a model that writes text.

    Raises:
        UserError: it is another model; `where` names it.
    """
    if isinstance(config, LlamaConfig):
        return config
    if isinstance(config, BertConfig):
        raise UserError(
            f"{where}: is an encoder ({config.model_type}), which reads texts and writes none; name a LLaMA"
        )
    raise UserError(f"{where}: is an encoder-decoder ({config.model_type}); name a LLaMA")
