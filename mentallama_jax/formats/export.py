"""Writes a model as a Hugging Face folder that transformers loads."""

import os
import shutil
from math import prod
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from mentallama_jax.errors import UserError
from mentallama_jax.files import atomic_folder, atomic_open, write_json
from mentallama_jax.formats.hf import INDEX, SINGLE
from mentallama_jax.formats.hf_config import write_config
from mentallama_jax.formats.model_card import ModelCard, render_card
from mentallama_jax.formats.names import Parameter, leaf, model_parameters
from mentallama_jax.formats.tokenizer import Tokenizer
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params, count_params

ExportDtype = Literal["float32", "bfloat16", "float16"]
_SPARE_BYTES = 64 * 2**20  # tokenizer, card and the file system's own bookkeeping


def save_hf(
    folder: str | Path,
    config: LlamaConfig,
    params: Params,
    tokenizer: Tokenizer,
    *,
    card: ModelCard,
    dtype: ExportDtype = "float32",
    max_shard_bytes: int = 2 * 2**30,
) -> None:
    """Write weights (safetensors), config, generation config, tokenizer and model card; all of it or nothing.

    Args:
        folder: made here; may exist only if it is empty.
        config: the model.
        params: nested dict of arrays, on any devices of this process.
        tokenizer: goes with the model.
        card: for README.md.
        dtype: of the stored weights.
        max_shard_bytes: weights are split into files of at most this size (a larger tensor has its own).

    Raises:
        UserError: the folder is in use, the disk is too small or full, or a weight does not fit `dtype`.
    """
    folder = Path(folder)
    itemsize = jnp.dtype(dtype).itemsize
    files = _plan_files(config, max_shard_bytes // itemsize)
    _check_room(folder.parent, count_params(config) * itemsize + _SPARE_BYTES)
    with atomic_folder(folder) as new:
        weight_map: dict[str, str] = {}
        for name, tensors in files.items():
            try:
                _write_tensors(new / name, params, tensors, dtype)
            except SafetensorError as error:
                raise UserError(f"{folder / name}: could not be written ({error}); make room and try again") from None
            weight_map |= {parameter.name("hf", layer): name for parameter, layer in tensors}
        if len(files) > 1:
            total = {"total_size": count_params(config) * itemsize, "total_parameters": count_params(config)}
            write_json(new / INDEX, {"metadata": total, "weight_map": weight_map})
        ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
        write_json(new / "config.json", {**write_config(config, dtype), **ids})
        write_json(new / "generation_config.json", ids)
        tokenizer.save(new)
        with atomic_open(new / "README.md") as stream:
            stream.write(render_card(card, count_params(config), dtype))


def _plan_files(config: LlamaConfig, max_numbers: int) -> dict[str, list[tuple[Parameter, int]]]:
    """File name -> the tensors (parameter, layer) it holds, layer by layer so that few files are needed at a time."""
    tensors = [
        (layer, parameter, prod(shape))
        for parameter, shape, count in model_parameters(config)
        for layer in range(count)
    ]
    tensors.sort(key=lambda entry: (entry[1].stacked, entry[0]))
    groups: list[list[tuple[Parameter, int]]] = []
    room = 0
    for layer, parameter, size in tensors:
        if size > room or not groups:
            groups.append([])
            room = max_numbers
        groups[-1].append((parameter, layer))
        room -= size
    if len(groups) == 1:
        return {SINGLE: groups[0]}
    return {f"model-{i:05d}-of-{len(groups):05d}.safetensors": group for i, group in enumerate(groups, start=1)}


def _write_tensors(path: Path, params: Params, tensors: list[tuple[Parameter, int]], dtype: ExportDtype) -> None:
    values: dict[str, np.ndarray[Any, Any]] = {}
    for parameter, layer in tensors:
        array: jax.Array = leaf(params, parameter.path)
        ours = np.asarray(_layer(array, layer) if parameter.stacked else array)
        with np.errstate(over="ignore"):  # reported below, with the tensor's name
            value = parameter.to_foreign(ours).astype(jnp.dtype(dtype))
        name = parameter.name("hf", layer)
        if dtype == "float16" and not np.isfinite(value).all():
            raise UserError(f"{name}: has values that float16 cannot hold; export as bfloat16 or float32")
        values[name] = value
    # Readers ask for this mark to know how the matrices are laid out.
    save_file(values, path, metadata={"format": "pt"})
    path.chmod(0o644)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


@jax.jit
def _layer(stack: jax.Array, layer: int) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(stack, layer, 0, keepdims=False)


def _check_room(folder: Path, size: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < size:
        raise UserError(f"{folder}: needs {size / 1e9:.2f} GB of disk, {free / 1e9:.2f} GB are free; make room")
