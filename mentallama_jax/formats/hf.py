"""Reads Hugging Face folders: `config.json` and one or more safetensors files."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import reading, shown, shown_tensor
from mentallama_jax.formats.architectures.known_architectures import ARCHITECTURES
from mentallama_jax.formats.architectures.parameter_names import Parameter
from mentallama_jax.formats.folder import read_object
from mentallama_jax.formats.safetensors_header import FLOATS, read_header
from mentallama_jax.formats.shards import SAFETENSORS, find_shards, stored_bytes
from mentallama_jax.models.bert import BertConfig
from mentallama_jax.models.module import count_params
from mentallama_jax.models.registry import AnyModelConfig


class SafetensorsFile:
    """The tensors of a folder's safetensors files (an `assembly.TensorFile`)."""

    table = "hf"

    def __init__(self, folder: Path) -> None:
        """Read the headers.

        Raises:
            UserError: no safetensors; a file of the index is missing, cut off or no safetensors file; or index and
                files contradict each other.
        """
        self.origin = str(folder)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.unreadable: dict[str, str] = {}
        self._paths: dict[str, Path] = {}
        paths, weight_map = find_shards(folder, SAFETENSORS)
        for path in paths:
            for name, (kind, shape) in read_header(path).items():
                if name in self._paths:
                    raise UserError(
                        f"{path}: {shown_tensor(name)} is in {self._paths[name].name} too; which one counts?"
                    )
                if weight_map is not None and weight_map.get(name, path.name) != path.name:
                    raise UserError(
                        f"{path}: holds {shown_tensor(name)}, which {SAFETENSORS.index} places in "
                        f"{shown(weight_map[name])}; download both again"
                    )
                if kind not in FLOATS:
                    self.unreadable[name] = (
                        f"{path}: {shown_tensor(name)} is stored as {kind[:20]}; only {', '.join(FLOATS)} can be read "
                        "(quantised weights: convert them first)"
                    )
                self.shapes[name] = shape
                self._paths[name] = path
        self._compare(weight_map or {}, folder / SAFETENSORS.index)

    def read(self, name: str, parameter: Parameter) -> np.ndarray[Any, Any]:
        """The tensor in its stored type (fp32, fp16 or ml_dtypes' bfloat16)."""
        path = self._paths[name]
        # Opened anew for each tensor, so that no mapped pages of earlier ones stay in memory.
        with reading(path, "safetensors file"), safe_open(path, framework="np") as tensors:
            return tensors.get_tensor(name)

    def _compare(self, weight_map: dict[str, str], index: Path) -> None:
        """Refuse an index and files that do not name the same tensors."""
        for name, file in weight_map.items():
            if name not in self.shapes and not name.endswith(".rotary_emb.inv_freq"):
                raise UserError(f"{index}: places {shown_tensor(name)} in {shown(file)}, which does not hold it")
        if weight_map and (extra := next((name for name in self.shapes if name not in weight_map), None)):
            raise UserError(f"{index}: does not list {shown_tensor(extra)}, which {self._paths[extra].name} holds")


def read_hf_config(folder: Path) -> AnyModelConfig:
    """The model that a folder's `config.json` describes.

    Raises:
        UserError: no or bad `config.json`, another architecture, or a model larger than the weights of the folder.
    """
    path = folder / "config.json"
    if not path.exists():
        hint = "an adapter: merge it into its base model first" if (folder / "adapter_config.json").exists() else ""
        raise UserError(f"{folder}: no config.json ({hint or 'is it a Hugging Face model folder?'})")
    values = read_object(path)
    model_type = _model_type(values)
    if not isinstance(model_type, str) or model_type not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise UserError(f"{path}: model_type is {shown(model_type)}, which is not supported; there are: {known}")
    config: AnyModelConfig = ARCHITECTURES[model_type].read_config(values, str(path))
    stored = stored_bytes(folder)
    # Before anything is compiled or allocated for it. That each tensor fits is checked when the weights are read.
    if stored is not None and count_params(config) > 8 * stored:  # a bit for each, whatever the type
        raise UserError(
            f"{path}: describes a model of {count_params(config):,} parameters, but the weights have {stored:,} bytes; "
            "download both again"
        )
    return config


def _model_type(values: dict[str, Any]) -> Any:
    """The model type that a `config.json` states; the oldest ones state the name of transformers' class alone."""
    if values.get("model_type") is not None:
        return values["model_type"]
    names = values.get("architectures")
    first = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""
    if not first and "type_vocab_size" in values:  # token types are BERT's; other weights would not fit its names
        return BertConfig.model_type
    return next((kind for kind in ARCHITECTURES if first.lower().startswith(kind)), None)
