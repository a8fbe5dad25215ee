"""The model types that there are: a new architecture is one more row here."""

from collections.abc import Mapping
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.models.llama import LlamaConfig

AnyModelConfig = LlamaConfig
"""Any of the model configs; with a second architecture this is a union."""

MODEL_CONFIGS: Mapping[str, type[AnyModelConfig]] = {config.model_type: config for config in (LlamaConfig,)}


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
