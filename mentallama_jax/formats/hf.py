"""Reads Hugging Face folders: `config.json` and one or more safetensors files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from mentallama_jax.errors import UserError
from mentallama_jax.formats.hf_config import read_config
from mentallama_jax.formats.names import Parameter
from mentallama_jax.models.llama import LlamaConfig

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_FLOATS = ("F32", "F16", "BF16")


class SafetensorsFile:
    """The tensors of a folder's safetensors files (an `assembly.TensorFile`)."""

    table = "hf"

    def __init__(self, folder: Path) -> None:
        """Read the headers.

        Raises:
            UserError: no safetensors, a file of the index is missing, cut off or no safetensors file, or a tensor is
                of a type other than fp32, fp16 and bf16.
        """
        self.origin = str(folder)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._paths: dict[str, Path] = {}
        for path in _weight_files(folder):
            try:
                with safe_open(path, framework="np") as tensors:
                    for name in tensors.keys():  # noqa: SIM118 (a file handle, not a mapping)
                        # Derived from the config; old checkpoints store it all the same.
                        if name.endswith(".rotary_emb.inv_freq"):
                            continue
                        header = tensors.get_slice(name)
                        if header.get_dtype() not in _FLOATS:
                            raise UserError(
                                f"{path}: {name} is stored as {header.get_dtype()}; "
                                f"only {', '.join(_FLOATS)} can be read (quantised weights: convert them first)"
                            )
                        self.shapes[name] = tuple(header.get_shape())
                        self._paths[name] = path
            except FileNotFoundError:
                raise UserError(f"{path}: missing, though {INDEX} lists it; download it again") from None
            except (SafetensorError, OSError) as error:
                raise UserError(f"{path}: not a whole safetensors file ({error}); download it again") from None

    def read(self, name: str, parameter: Parameter) -> np.ndarray[Any, Any]:
        """The tensor in its stored type (fp32, fp16 or ml_dtypes' bfloat16)."""
        # Opened anew for each tensor, so that no mapped pages of earlier ones stay in memory.
        with safe_open(self._paths[name], framework="np") as tensors:
            return tensors.get_tensor(name)


def read_hf_config(folder: Path) -> LlamaConfig:
    """The model that a folder's `config.json` describes.

    Raises:
        UserError: no or bad `config.json`, or a model that is no LLaMA.
    """
    path = folder / "config.json"
    if not path.is_file():
        hint = "an adapter: merge it into its base model first" if (folder / "adapter_config.json").exists() else ""
        raise UserError(f"{folder}: no config.json ({hint or 'is it a Hugging Face model folder?'})")
    return read_config(_read_object(path), str(path))


def _weight_files(folder: Path) -> list[Path]:
    index = folder / INDEX
    if index.is_file():
        weight_map = _read_object(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise UserError(f"{index}: no weight_map; download it again")
        return [folder / name for name in sorted(set(weight_map.values()))]
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if any(folder.glob("*.bin")):
        raise UserError(
            f"{folder}: only pickled weights (*.bin), which are not read; convert them to safetensors first, "
            "for example with transformers' save_pretrained"
        )
    raise UserError(f"{folder}: no {SINGLE} or {INDEX}; give the folder that holds the weights")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object")
    return value
