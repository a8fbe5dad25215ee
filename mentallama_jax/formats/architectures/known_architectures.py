"""The architectures whose files can be read and written: a config reader and writer, and a table of names, each."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from mentallama_jax.formats.architectures import llama_config
from mentallama_jax.formats.architectures.bart_names import BART_NAMES
from mentallama_jax.formats.architectures.bert_config import fit_to_weights, read_bert_config, write_bert_config
from mentallama_jax.formats.architectures.bert_names import BERT_NAMES, ROBERTA_NAMES
from mentallama_jax.formats.architectures.llama_names import LLAMA_NAMES
from mentallama_jax.formats.architectures.parameter_names import NameTable, Parameter
from mentallama_jax.formats.architectures.sequence_config import (
    fit_bart,
    fit_t5,
    read_bart_config,
    read_t5_config,
    write_bart_config,
    write_t5_config,
)
from mentallama_jax.formats.architectures.t5_names import T5_NAMES
from mentallama_jax.models.bart import BartConfig
from mentallama_jax.models.bert import BertConfig, RobertaConfig
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import ModelConfig
from mentallama_jax.models.t5 import T5Config


class Architecture(NamedTuple):
    """How the files of an architecture are read and written.

    Attributes:
        read_config: (values of a `config.json`, name of that file) -> the model's config; raises `UserError`.
        write_config: (config, dtype of the weights) -> values of a `config.json`, without token ids.
        names: of parameters.
        fit: (config, shapes of tensors by their names in the table) -> the config with what only the weights tell.
    """

    read_config: Callable[[dict[str, Any], str], Any]
    write_config: Callable[[Any, str], dict[str, Any]]
    names: NameTable
    fit: Callable[[Any, Mapping[str, tuple[int, ...]]], Any] = lambda config, shapes: config


ARCHITECTURES: Mapping[str, Architecture] = {
    LlamaConfig.model_type: Architecture(llama_config.read_config, llama_config.write_config, LLAMA_NAMES),
    BertConfig.model_type: Architecture(read_bert_config, write_bert_config, BERT_NAMES, fit_to_weights),
    BartConfig.model_type: Architecture(read_bart_config, write_bart_config, BART_NAMES, fit_bart),
    T5Config.model_type: Architecture(read_t5_config, write_t5_config, T5_NAMES, fit_t5),
    RobertaConfig.model_type: Architecture(read_bert_config, write_bert_config, ROBERTA_NAMES, fit_to_weights),
}
"""The key is the `model_type` of our configs and of `config.json`."""


def architecture_of(config: ModelConfig[Any]) -> Architecture:
    """The architecture of a model."""
    return ARCHITECTURES[config.model_type]


def model_parameters(config: ModelConfig[Any]) -> Iterator[tuple[Parameter, tuple[int, ...], int]]:
    """Yield (entry, shape without layers, how many tensors it is in a file) of each parameter the model has."""
    return architecture_of(config).names.entries(config)


def foreign_shapes(config: ModelConfig[Any], column: str) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor that a file of this model holds; `column` is "hf" or "gguf"."""
    return architecture_of(config).names.foreign_shapes(config, column)
