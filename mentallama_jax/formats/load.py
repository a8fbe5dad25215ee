"""From the name of a model, wherever it lives, to its config and its parameters."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jax.sharding import Sharding

from mentallama_jax.formats.assembly import TensorFile, assemble, fitted
from mentallama_jax.formats.gguf import open_gguf, read_gguf_config
from mentallama_jax.formats.hf import SafetensorsFile, read_hf_config
from mentallama_jax.formats.locate import locate
from mentallama_jax.formats.shards import TORCH, stored_form
from mentallama_jax.formats.torch_folder import TorchFolder
from mentallama_jax.models.module import Params
from mentallama_jax.models.registry import AnyModelConfig


def load_model_config(source: str | Path, *, revision: str | None = None) -> AnyModelConfig:
    """The model's shape and constants, without its weights; what a sharding is made from.

    Raises:
        UserError: no such model, or not one this package can compute.
    """
    path = locate(source, revision, weights=False)
    return read_gguf_config(open_gguf(path)) if path.is_file() else read_hf_config(path)


def load_model(
    source: str | Path,
    *,
    revision: str | None = None,
    dtype: Any = jnp.float32,
    sharding: Sharding | dict[str, Any] | None = None,
) -> tuple[AnyModelConfig, Params]:
    """Read a model onto the devices, tensor by tensor: the host holds its shards plus the tensor in hand.

    Args:
        source: a Hugging Face folder (safetensors or `pytorch_model.bin`), a `.gguf` file, `package:NAME` or a hub id
            (see `locate`).
        revision: branch, tag or commit of a hub id.
        dtype: of the parameters, whatever the file stores (fp32, fp16, bf16, or quantised in GGUF).
        sharding: one for all parameters, a nested dict of one for each, or None for the first device.

    Returns:
        The config and the nested dict of arrays (see `models.llama.abstract_params`).

    Raises:
        UserError: no such model; not one this package can compute; a tensor missing, unknown or misshapen.
    """
    config, file = open_tensors(source, revision=revision)
    return config, assemble(file, config, dtype, sharding)


def open_tensors(source: str | Path, *, revision: str | None = None) -> tuple[AnyModelConfig, TensorFile]:
    """The config of a model, and its file, from which tensors are read one at a time. Arguments are as in `load_model`.

    Raises:
        UserError: no such model, or not one this package can compute.
    """
    path = locate(source, revision, weights=True)
    if path.is_file():
        gguf_file = open_gguf(path)
        return read_gguf_config(gguf_file), gguf_file
    config, file = read_hf_config(path), TorchFolder(path) if stored_form(path) is TORCH else SafetensorsFile(path)
    return fitted(config, file), file
