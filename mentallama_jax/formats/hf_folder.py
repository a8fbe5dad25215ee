"""Writes a model as a Hugging Face folder that transformers loads, tensor by tensor."""

import errno
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from mentallama_jax.errors import UserError
from mentallama_jax.files import atomic_folder, atomic_open, write_json
from mentallama_jax.formats.architectures.known_architectures import architecture_of, model_parameters
from mentallama_jax.formats.architectures.parameter_names import Parameter, leaf
from mentallama_jax.formats.assembly import TensorFile, check_names
from mentallama_jax.formats.endings import one_or_list
from mentallama_jax.formats.model_card import ModelCard, render_card
from mentallama_jax.formats.notices import notice
from mentallama_jax.formats.proof import Chat, prove
from mentallama_jax.formats.safetensors_writer import write_safetensors
from mentallama_jax.formats.shards import SAFETENSORS
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer
from mentallama_jax.models.bert import BertConfig
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params, count_params
from mentallama_jax.models.registry import AnyModelConfig

ExportDtype = Literal["float32", "bfloat16", "float16"]
ReadTensor = Callable[[Parameter, int], np.ndarray[Any, Any]]
"""(parameter, layer) -> that tensor as Hugging Face lays it out, in any floating type."""
ReadArray = Callable[[tuple[str, ...], int], np.ndarray[Any, Any]]
"""(path, layer) -> that tensor as it is laid out here."""
_SPARE_BYTES = 64 * 2**20  # tokenizer, card and the file system's own bookkeeping
_CHUNK = 1 << 22
_LARGEST_SHARD = 2 * 2**30


def save_hf(
    folder: str | Path,
    config: LlamaConfig,
    weights: Params | ReadTensor,
    tokenizer: Tokenizer,
    *,
    card: ModelCard,
    dtype: ExportDtype = "float32",
    max_shard_bytes: int = _LARGEST_SHARD,
    end_ids: Sequence[int] = (),
    chat: Chat | None = None,
) -> None:
    """Write weights (safetensors), config, generation config, tokenizer and model card; all of it or nothing.

    One tensor is in memory at a time. Before the folder appears, transformers reads it back.

    Args:
        folder: made here; may exist only if it is empty.
        config: the model.
        weights: nested dict of arrays on any devices of this process, or what reads one tensor (see `tensors_of_file`
            and `tensors_of_arrays`).
        tokenizer: goes with the model.
        card: for README.md.
        dtype: of the stored weights.
        max_shard_bytes: weights are split into files of at most this size (a larger tensor has its own).
        end_ids: tokens that end an answer by the style of the prompts, besides those that the tokenizer knows.
        chat: a prompt by the chat template, to compare with transformers' own.

    Raises:
        UserError: the folder is in use, the disk is too small or full, a weight is not finite or does not fit `dtype`,
            or transformers reads the folder otherwise.
    """
    folder = Path(folder)
    itemsize = jnp.dtype(dtype).itemsize
    _check_room(folder.parent, count_params(config) * itemsize + _SPARE_BYTES)
    with _one_writer(folder), atomic_folder(folder) as new:
        _write_weights(new, config, weights, dtype, max_shard_bytes)
        ids = _ids(config, tokenizer, end_ids)
        described = {**architecture_of(config).write_config(config, dtype), **ids}
        write_json(new / "config.json", described)
        tokenizer.save(new)
        write_json(new / "generation_config.json", {**tokenizer.generation_config, **ids})
        with atomic_open(new / "README.md") as stream:
            stream.write(render_card(card, count_params(config), dtype, tokenizer.chat_template))
        if card.notice:
            with atomic_open(new / "Notice.txt") as stream:
                stream.write(card.notice + "\n")
        prove(new, folder, described, tokenizer, chat)


def save_model(
    folder: str | Path,
    config: AnyModelConfig,
    weights: Params | ReadTensor,
    files: Mapping[str, bytes],
    *,
    label_names: Sequence[str] = (),
    dtype: ExportDtype = "float32",
    max_shard_bytes: int = _LARGEST_SHARD,
) -> None:
    """Write a model of any architecture (safetensors and config) with files that go with it; all of it or nothing.

    Args:
        folder: made here; may exist only if it is empty.
        config: the model.
        weights: as in `save_hf`.
        files: name -> content, such as those of its tokenizer.
        label_names: of the classes, in their order; LABEL_0, LABEL_1 ... where none are given.
        dtype: of the stored weights.
        max_shard_bytes: weights are split into files of at most this size.

    Raises:
        UserError: the folder is in use, the disk is too small or full, or a weight is not finite or does not fit.
        ValueError: there are names for another number of classes.
    """
    folder = Path(folder)
    described = architecture_of(config).write_config(config, dtype)
    if label_names:
        classes = config.num_labels if isinstance(config, BertConfig) else 0
        if len(label_names) != classes:
            raise ValueError(f"{len(label_names)} names for {classes} classes")
        described["id2label"] = {str(number): name for number, name in enumerate(label_names)}
        described["label2id"] = {name: number for number, name in enumerate(label_names)}
    _check_room(folder.parent, count_params(config) * jnp.dtype(dtype).itemsize + _SPARE_BYTES)
    with _one_writer(folder), atomic_folder(folder) as new:
        _write_weights(new, config, weights, dtype, max_shard_bytes)
        write_json(new / "config.json", described)
        for name, content in files.items():
            with atomic_open(new / name, "wb") as stream:
                stream.write(content)


def _write_weights(
    new: Path, config: AnyModelConfig, weights: Params | ReadTensor, dtype: ExportDtype, max_shard_bytes: int
) -> None:
    """Write safetensors, and their index where they are several, tensor by tensor."""
    itemsize = jnp.dtype(dtype).itemsize
    files = _plan_files(config, max_shard_bytes // itemsize)
    read = weights if callable(weights) else tensors_of_params(weights)
    shapes = {parameter: parameter.foreign_shape(shape) for parameter, shape, _ in model_parameters(config)}
    weight_map: dict[str, str] = {}
    for name, tensors in files.items():
        named = {parameter.name("hf", layer): (parameter, layer) for parameter, layer in tensors}

        def read_named(name: str, named: dict[str, tuple[Parameter, int]] = named) -> np.ndarray[Any, Any]:
            return _cast(read(*named[name]), dtype, name)

        write_safetensors(new / name, {key: shapes[named[key][0]] for key in named}, dtype, read_named)
        weight_map |= dict.fromkeys(named, name)
    if len(files) > 1:
        total = {"total_size": count_params(config) * itemsize, "total_parameters": count_params(config)}
        write_json(new / SAFETENSORS.index, {"metadata": total, "weight_map": weight_map})


@contextmanager
def _one_writer(folder: Path) -> Iterator[None]:
    """Say what happened where another program made the folder while this one was writing."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise UserError(
            f"{folder}: another program wrote there at the same time and was done first; its files are kept, and what "
            "was made here is removed. Choose another folder"
        ) from None


def tensors_of_file(file: TensorFile, config: AnyModelConfig) -> ReadTensor:
    """The tensors of a checkpoint on disk.

    Raises:
        UserError: a tensor is missing, unknown or misshapen.
    """
    names = check_names(file, config)
    return lambda parameter, layer: file.read(names[parameter.name(file.table, layer)], parameter)


def tensors_of_arrays(read: ReadArray) -> ReadTensor:
    """Tensors that are laid out as they are here, such as those of a run's checkpoint."""
    return lambda parameter, layer: parameter.to_foreign(read(parameter.path, layer))


def tensors_of_params(params: Params) -> ReadTensor:
    """Tensors of a nested dict of arrays on any devices of this process."""

    def read(parameter: Parameter, layer: int) -> np.ndarray[Any, Any]:
        array: jax.Array = leaf(params, parameter.path)
        return parameter.to_foreign(np.asarray(_layer(array, layer) if parameter.stacked else array))

    return read


def _ids(config: LlamaConfig, tokenizer: Tokenizer, end_ids: Sequence[int]) -> dict[str, Any]:
    """The special ids of both config files. None is beyond the embedding, for which transformers stops."""
    pad = tokenizer.pad_id
    if pad >= config.vocab_size:
        pad = next(id_ for id_ in range(config.vocab_size) if id_ != tokenizer.eos_id)
        notice(f"pad_token_id {tokenizer.pad_id} is beyond {config.vocab_size:,} embeddings; {pad} is written instead")
    ends = [id_ for id_ in dict.fromkeys([*tokenizer.end_ids, *end_ids]) if id_ < config.vocab_size]
    bos = tokenizer.bos_id
    if not ends or (bos is not None and bos >= config.vocab_size):
        raise UserError(
            f"bos_token_id {bos} and eos_token_id {tokenizer.eos_id} must be below {config.vocab_size}, the number of "
            "embeddings; name the tokenizer that belongs to the model"
        )
    return {"bos_token_id": bos, "eos_token_id": one_or_list(ends), "pad_token_id": pad}


def _cast(tensor: np.ndarray[Any, Any], dtype: ExportDtype, name: str) -> np.ndarray[Any, Any]:
    """The tensor as `dtype`, contiguous.

    Raises:
        UserError: it holds NaN or infinity, or a number that `dtype` cannot hold.
    """
    if not _is_finite(tensor):
        raise UserError(f"{name}: holds NaN or infinity; the weights are damaged, take another copy or checkpoint")
    with np.errstate(over="ignore"):  # reported below, with the tensor's name
        cast = np.ascontiguousarray(tensor).astype(jnp.dtype(dtype), copy=False)
    if cast is not tensor and not _is_finite(cast):
        other = "float32" if dtype == "bfloat16" else "bfloat16 or float32"
        raise UserError(f"{name}: has values that {dtype} cannot hold; export as {other}")
    return cast


def _is_finite(tensor: np.ndarray[Any, Any]) -> bool:
    """Whether all numbers are finite, looked at in parts to spare memory."""
    rows = tensor.reshape(-1, tensor.shape[-1]) if tensor.ndim else tensor.reshape(1, 1)
    step = max(1, _CHUNK // tensor.shape[-1])
    return all(bool(np.isfinite(rows[start : start + step]).all()) for start in range(0, len(rows), step))


def _plan_files(config: AnyModelConfig, max_numbers: int) -> dict[str, list[tuple[Parameter, int]]]:
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
        return {SAFETENSORS.single: groups[0]}
    return {f"model-{i:05d}-of-{len(groups):05d}.safetensors": group for i, group in enumerate(groups, start=1)}


@jax.jit
def _layer(stack: jax.Array, layer: int) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(stack, layer, 0, keepdims=False)


def _check_room(folder: Path, size: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < size:
        raise UserError(f"{folder}: needs {size / 1e9:.2f} GB of disk, {free / 1e9:.2f} GB are free; make room")
