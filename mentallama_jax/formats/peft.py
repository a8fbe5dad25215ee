"""Reads and writes adapters as PEFT keeps them, and merges them into the weights that they were trained beside.

A folder holds `adapter_config.json` and `adapter_model.safetensors`. A projection `q_proj` has the matrices `lora_A`
[rank, inputs] and `lora_B` [outputs, rank], and with DoRA the vector `lora_magnitude_vector` [outputs]; further tensors
are parameters that were trained whole, such as a classifier.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import safe_open

from mentallama_jax.errors import UserError
from mentallama_jax.files import atomic_folder, atomic_open, write_json
from mentallama_jax.foreign import reading, shown_tensor
from mentallama_jax.formats.architectures.known_architectures import foreign_shapes, model_parameters
from mentallama_jax.formats.architectures.parameter_names import Parameter, name_problems
from mentallama_jax.formats.hf_folder import ReadTensor
from mentallama_jax.formats.peft_options import CONFIG, PeftOptions, read_options, written_options
from mentallama_jax.formats.safetensors_header import FLOATS, read_header
from mentallama_jax.formats.safetensors_writer import write_safetensors
from mentallama_jax.models.adapters import Adapter
from mentallama_jax.models.finite import unfit
from mentallama_jax.models.projections import projections_of
from mentallama_jax.models.registry import AnyModelConfig

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
_A, _B, _MAGNITUDE = "lora_A.weight", "lora_B.weight", "lora_magnitude_vector"
_CLASSIFIER = "classifier"
_Array = np.ndarray[Any, Any]
LayerPlace = tuple[tuple[str, ...], int]
"""The path of a parameter, and the number of its layer (0 where it is not stacked)."""


class Matrices(NamedTuple):
    """What is added to one projection of one layer, as files lay it out, fp32.

    Attributes:
        a: [rank, inputs].
        b: [outputs, rank].
        magnitude: [outputs] of DoRA; None without it.
        scale: of the product.
    """

    a: _Array
    b: _Array
    magnitude: _Array | None
    scale: float


@dataclass(frozen=True, slots=True)
class AdapterTensors:
    """An adapter in the layout of files.

    Attributes:
        matrices: of each adapted projection.
        whole: parameters that were trained whole and take the place of the base's.
        origin: names it in errors.
        fingerprint: tells its contents.
    """

    matrices: Mapping[LayerPlace, Matrices]
    whole: Mapping[LayerPlace, _Array]
    origin: str
    fingerprint: Callable[[], str]

    def merged(self, read: ReadTensor) -> ReadTensor:
        """What reads the tensors of the base with the adapter merged into them, in fp32, each once.

        Args:
            read: the tensors of the base.
        """

        def read_merged(parameter: Parameter, layer: int) -> _Array:
            place = (parameter.path, layer if parameter.stacked else 0)
            if place in self.whole:
                return self.whole[place]
            tensor = read(parameter, layer)
            return merged_tensor(tensor, self.matrices[place]) if place in self.matrices else tensor

        return read_merged


def merged_tensor(weight: _Array, matrices: Matrices) -> _Array:
    """weight [outputs, inputs] + scale x B A in fp32; with DoRA each row is brought to its own length."""
    whole = weight.astype(np.float32) + np.float32(matrices.scale) * (matrices.b @ matrices.a)
    if matrices.magnitude is not None:
        lengths = np.sqrt(np.sum(np.square(whole), axis=1))
        whole *= (matrices.magnitude / lengths)[:, None]
    return whole


class TensorsAsFile:
    """An `assembly.TensorFile` over what reads one tensor at a time."""

    table = "hf"

    def __init__(self, config: AnyModelConfig, read: ReadTensor, origin: str) -> None:
        """Take the tensors of a model of this config; `origin` names it in errors."""
        self.origin = origin
        self.shapes = foreign_shapes(config, self.table)
        self.unreadable: dict[str, str] = {}
        self._read = read
        self._layers = {
            parameter.name(self.table, layer): layer
            for parameter, _, count in model_parameters(config)
            for layer in range(count)
        }

    def read(self, name: str, parameter: Parameter) -> _Array:
        """The tensor `name`, which is (a layer of) `parameter`."""
        return self._read(parameter, self._layers[name])


def is_adapter_folder(source: str | Path) -> bool:
    """Whether a folder here holds an adapter in PEFT's form."""
    return (Path(source) / CONFIG).is_file()


def read_adapter(folder: str | Path, config: AnyModelConfig) -> AdapterTensors:
    """Read an adapter that was made by PEFT, or exported.

    Args:
        folder: with `adapter_config.json` and `adapter_model.safetensors`.
        config: the base model.

    Raises:
        UserError: no such folder; another kind of adapter, or an option that is not computed here, by its name; a
            tensor that belongs to no projection of the model or has another shape; an adapter that matches nothing.
    """
    folder = Path(folder)
    options = read_options(folder)
    path = folder / WEIGHTS
    if not path.is_file():
        torch = folder / "adapter_model.bin"
        what = f"{torch.name} is not read; save it as safetensors with PEFT" if torch.exists() else "download it too"
        raise UserError(f"{folder}: holds no {WEIGHTS}; {what}")
    header = read_header(path)
    names = {_plain(name): name for name in header}
    read = _Reader(path, header, names)
    matrices: dict[LayerPlace, Matrices] = {}
    whole: dict[LayerPlace, _Array] = {}
    projections = projections_of(config)
    for parameter, shape, count in model_parameters(config):
        foreign = parameter.foreign_shape(shape)
        for layer in range(count):
            hf = parameter.name("hf", layer)
            module, place = hf.removesuffix(".weight"), (parameter.path, layer if parameter.stacked else 0)
            if PREFIX + hf in names and not parameter.stacked and parameter.path[0] not in ("embedding", "head"):
                whole[place] = read(PREFIX + hf, foreign)
            if f"{PREFIX}{module}.{_A}" in names and parameter.path in projections:
                matrices[place] = _matrices(read, module, foreign, options)
    _refuse_left_over(path, config, read.left, bool(matrices))
    return AdapterTensors(matrices, whole, str(folder), read.fingerprint)


def write_adapter(
    folder: str | Path,
    adapter: Adapter,
    tensors: AdapterTensors,
    config: AnyModelConfig,
    *,
    base: str | None,
    options: Mapping[str, Any],
    card: str,
) -> None:
    """Write an adapter as PEFT reads it; all of it or nothing.

    Args:
        folder: made here; may exist only if it is empty.
        adapter: its shape.
        tensors: its values.
        config: the base model.
        base: name of the base model; None where it has none that others could use.
        options: further values of `adapter_config.json`.
        card: the README.md.

    Raises:
        UserError: the folder is in use, or the disk is full.
    """
    content: dict[str, _Array] = {}
    for parameter, _, count in model_parameters(config):
        for layer in range(count):
            place = (parameter.path, layer if parameter.stacked else 0)
            hf = parameter.name("hf", layer)
            if place in tensors.whole:
                content[PREFIX + hf] = tensors.whole[place]
            if place in tensors.matrices:
                module, found = PREFIX + hf.removesuffix(".weight"), tensors.matrices[place]
                content |= {f"{module}.{_A}": found.a, f"{module}.{_B}": found.b}
                if found.magnitude is not None:
                    content[f"{module}.{_MAGNITUDE}"] = found.magnitude
    whole = sorted({_kept_whole(name.removeprefix(PREFIX)) for name in content if "lora_" not in name})
    shapes = {name: tensor.shape for name, tensor in content.items()}
    with atomic_folder(Path(folder)) as new:
        write_json(new / CONFIG, written_options(adapter, config, base=base, whole=whole, options=options))
        write_safetensors(
            new / WEIGHTS, shapes, "float32", lambda name: np.ascontiguousarray(content[name], np.float32)
        )
        with atomic_open(new / "README.md") as stream:
            stream.write(card)


class _Reader:
    """Reads tensors by PEFT's names, and keeps which were not asked for."""

    def __init__(self, path: Path, header: Mapping[str, tuple[str, tuple[int, ...]]], names: Mapping[str, str]) -> None:
        self._path, self._header, self._names = path, header, names
        self.left = dict.fromkeys(names)

    def __call__(self, name: str, shape: Sequence[int | None]) -> _Array:
        """The tensor in fp32; a None in `shape` stands for any number."""
        self.left.pop(name, None)
        kind, found = self._header[self._names[name]]
        if kind not in FLOATS:
            raise UserError(
                f"{self._path}: {shown_tensor(name)} is stored as {kind[:20]}; expected {', '.join(FLOATS)}"
            )
        fits = len(found) == len(shape) and all(b is None or a == b for a, b in zip(found, shape, strict=True))
        if not fits or 0 in found:
            wanted = ["rank" if one is None else one for one in shape]
            raise UserError(
                f"{self._path}: {shown_tensor(name)} is {list(found)}, the model asks for {wanted}; it was made for "
                "another model"
            )
        with reading(self._path, "safetensors file"), safe_open(self._path, framework="np") as tensors:
            tensor = tensors.get_tensor(self._names[name])
        if problem := unfit(tensor, np.float32):
            raise UserError(f"{self._path}: {shown_tensor(name)} {problem}; take another copy")
        return np.asarray(tensor, np.float32)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def fingerprint(self) -> str:
        """SHA-256 of the files."""
        import hashlib

        digest = hashlib.sha256()
        for path in (self._path.parent / CONFIG, self._path):
            with reading(path, "file"):
                digest.update(path.read_bytes())
        return digest.hexdigest()


def _plain(name: str) -> str:
    """A tensor's name in today's spelling: older versions put `.weight` behind the vector of DoRA."""
    return name.removesuffix(".weight") if name.endswith(f"{_MAGNITUDE}.weight") else name


def _kept_whole(name: str) -> str:
    """The module that PEFT is told to keep whole for a tensor; it adds `classifier` itself, and keeps no part twice."""
    module = name.rpartition(".")[0]
    return _CLASSIFIER if module.startswith(f"{_CLASSIFIER}.") else module


def _matrices(read: _Reader, module: str, shape: tuple[int, ...], options: PeftOptions) -> Matrices:
    start = f"{PREFIX}{module}."
    outputs, inputs = shape
    if start + _B not in read:
        raise UserError(f"{read._path}: holds {shown_tensor(start + _A)} without its lora_B; download it again")
    a = read(start + _A, (None, inputs))
    rank = options.rank(module)
    if len(a) != rank:
        raise UserError(
            f"{read._path}: {shown_tensor(start + _A)} has rank {len(a)}, and {CONFIG} says {rank}; they do not belong "
            "together"
        )
    b = read(start + _B, (outputs, rank))
    if options.dora != (start + _MAGNITUDE in read):
        raise UserError(
            f"{read._path}: {shown_tensor(start + _MAGNITUDE)} is {'missing' if options.dora else 'there'}, and "
            f"use_dora of {CONFIG} is {str(options.dora).lower()}; they do not belong together"
        )
    magnitude = read(start + _MAGNITUDE, (outputs,)) if options.dora else None
    return Matrices(a, b, magnitude, options.scale(module))


def _refuse_left_over(path: Path, config: AnyModelConfig, left: Mapping[str, None], found: bool) -> None:
    """Refuse tensors that were not used, and an adapter that adapts nothing."""
    saved = next((name for name in left if re.search(r"embed_tokens|lm_head|lora_embedding|base_layer", name)), None)
    if saved is not None:
        raise UserError(
            f"{path}: {shown_tensor(saved)}: adapters of embeddings and heads, and copies of them, are not computed "
            "here; merge it with PEFT first"
        )
    if left:
        projections = projections_of(config)
        known = [
            f"{PREFIX}{parameter.name('hf', layer).removesuffix('.weight')}.{ending}"
            for parameter, _, count in model_parameters(config)
            if parameter.path in projections
            for layer in range(count)
            for ending in (_A, _B)
        ]
        problems = name_problems(dict.fromkeys((*known, *left), ()), dict.fromkeys(known, ()))
        raise UserError(f"{path}: made for another model than this {config.model_type}: " + "; ".join(problems))
    if not found:
        raise UserError(f"{path}: holds no adapter for any projection of this {config.model_type} model")
