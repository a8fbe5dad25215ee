"""The architectures whose files can be read and written: a config reader and writer, and a table of names, each."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from mentallama_jax.formats.architectures import llama_config
from mentallama_jax.formats.architectures.llama_names import LLAMA_NAMES
from mentallama_jax.formats.architectures.parameter_names import NameTable, Parameter
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import ModelConfig


class Architecture(NamedTuple):
    """How the files of an architecture are read and written.

    Attributes:
        read_config: (values of a `config.json`, name of that file) -> the model's config; raises `UserError`.
        write_config: (config, dtype of the weights) -> values of a `config.json`, without token ids.
        names: of parameters.
    """

    read_config: Callable[[dict[str, Any], str], Any]
    write_config: Callable[[Any, str], dict[str, Any]]
    names: NameTable


ARCHITECTURES: Mapping[str, Architecture] = {
    LlamaConfig.model_type: Architecture(llama_config.read_config, llama_config.write_config, LLAMA_NAMES),
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
