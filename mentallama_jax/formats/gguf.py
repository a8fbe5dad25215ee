"""Reads GGUF files of the LLaMA architecture; quantised weights are expanded to fp32. Needs the extra `gguf`."""

from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.formats.architectures.parameter_names import Parameter
from mentallama_jax.formats.folder import file_size
from mentallama_jax.formats.gguf_header import read_gguf_header
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.rotary import RopeScaling

# Every key of the architecture describes its maths, so one that is not here is refused, not skipped.
_READ_KEYS = frozenset(
    {
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "vocab_size",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
        "attention.layer_norm_rms_epsilon",
        "rope.dimension_count",
        "rope.freq_base",
        "rope.scaling.type",
        "rope.scaling.factor",
        "rope.scaling.original_context_length",
        "rope.scaling.finetuned",
    }
)


# Keys whose zero says that a model lacks what they describe. Every other key that is not read is refused.
_ABSENT_AT_ZERO = frozenset(
    {
        "attention.clamp_kqv",
        "attention.max_alibi_bias",
        "attention.sliding_window",
        "expert_count",
        "expert_feed_forward_length",
        "expert_shared_count",
        "expert_shared_feed_forward_length",
        "expert_used_count",
        "leading_dense_block_count",
        "pooling_type",
        "use_parallel_residual",
    }
)
_LARGEST_SIZE = 2**31
_HEAD = "output.weight"
"""A model without this tensor uses its embedding as the head too."""
# Numbers that float32, in which the model uses them, holds with all digits.
_SMALLEST_NUMBER, _LARGEST_NUMBER = 1.2e-38, 3.4e38


class GgufFile:
    """The tensors and the metadata of one file (an `assembly.TensorFile`)."""

    table = "gguf"

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            UserError: the extra is not installed, or this is no whole GGUF file.
        """
        try:
            import gguf  # noqa: F401
        except ImportError:
            raise UserError(f"{path}: reading GGUF needs an extra; pip install 'mentallama-jax[gguf]'") from None

        self.origin = str(path)
        self.metadata, self._places = read_gguf_header(path)
        self.shapes = {name: place.shape for name, place in self._places.items()}
        self.unreadable: dict[str, str] = {}
        self._content = np.memmap(path, np.uint8, "r")

    def read(self, name: str, parameter: Parameter) -> np.ndarray[Any, Any]:
        """The tensor in fp32, with the rows of rotary pairs half-split as in Hugging Face files.

        Raises:
            UserError: a quantisation that the `gguf` package cannot expand.
        """
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        place = self._places[name]
        kind = GGMLQuantizationType(place.kind)
        rows = self._content[place.start : place.start + place.size].reshape(*place.shape[:-1], -1)
        try:
            # A copy: what is not quantised comes as a view of the mapped file, which must not become a parameter.
            values = np.array(dequantize(rows, kind)).reshape(place.shape)
        except NotImplementedError:
            raise UserError(f"{self.origin}: {name} is stored as {kind.name}, which cannot be expanded") from None
        return half_split(values, read_gguf_config(self).head_dim) if parameter.rotary else values


def open_gguf(path: Path) -> GgufFile:
    """The file's header, kept from one call to the next: reading one takes seconds, and tokenizer, config and weights
    are asked for one after the other.
    """
    file_size(path)
    status = path.stat()
    return _open(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1)
def _open(path: Path, size: int, modified: int) -> GgufFile:
    return GgufFile(path)


def half_split(rows: np.ndarray[Any, Any], head_dim: int) -> np.ndarray[Any, Any]:
    """Rows [N*H, D] with rotary pairs side by side (0, 1), (2, 3).. -> pairs at (i, i + H/2) within each head."""
    pairs = rows.reshape(-1, head_dim // 2, 2, rows.shape[1])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def read_gguf_config(file: GgufFile) -> LlamaConfig:
    """The model that the metadata describes.

    Raises:
        UserError: not a LLaMA, a needed key is absent, or one asks for maths that the model does not have.
    """
    origin = file.origin
    architecture = file.metadata.get("general.architecture")
    if architecture != "llama":
        raise UserError(f"{origin}: architecture is {shown(architecture)}; only llama is supported")
    values = {k.removeprefix("llama."): v for k, v in file.metadata.items() if k.startswith("llama.")}
    for key, value in values.items():
        absent = key in _ABSENT_AT_ZERO and value in (0, 0.0)
        causal = key == "attention.causal" and value is True
        if key not in _READ_KEYS and not absent and not causal:
            raise UserError(f"{origin}: llama.{shown(key)[1:-1]} is {_short(value)}, which this model does not have")
    if "rope_freqs.weight" in file.shapes:
        raise UserError(f"{origin}: holds rope_freqs.weight; take the safetensors of a model with llama3 rope scaling")

    def whole(key: str, default: int | None = None) -> int:
        value = values.get(key, default)
        if type(value) is not int or not 1 <= value < _LARGEST_SIZE:
            raise UserError(f"{origin}: llama.{key} is {_short(value)}; one whole number is needed")
        return value

    heads = whole("attention.head_count")
    head_dim = whole("attention.key_length", whole("embedding_length") // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if whole(key, head_dim) != head_dim:
            raise UserError(f"{origin}: llama.{key} is {values[key]}, but heads are {head_dim} wide")
    embedding = file.shapes.get("token_embd.weight", (0,))
    try:
        config = LlamaConfig(
            vocab_size=whole("vocab_size", embedding[0]),
            hidden_size=whole("embedding_length"),
            intermediate_size=whole("feed_forward_length"),
            num_layers=whole("block_count"),
            num_heads=heads,
            num_kv_heads=whole("attention.head_count_kv", heads),
            head_dim=head_dim,
            rms_norm_eps=_number(values, "attention.layer_norm_rms_epsilon", origin),
            rope_theta=_number({"rope.freq_base": 10000.0} | values, "rope.freq_base", origin),
            rope_scaling=_rope_scaling(values, origin),
            tie_embeddings=_HEAD not in file.shapes,
            max_positions=whole("context_length"),
        )
    except ValueError as error:
        raise UserError(f"{origin}: {error}") from None
    _check_size(file, config)
    return config


def _check_size(file: GgufFile, config: LlamaConfig) -> None:
    """Refuse sizes that the tensors do not have, before anything is allocated or compiled for them."""
    wide = config.head_dim * (config.num_heads + config.num_kv_heads)
    least = config.num_layers * config.hidden_size * (3 * config.intermediate_size + 2 * wide)
    held = sum(prod(shape) for shape in file.shapes.values())
    if least + config.vocab_size * config.hidden_size > held:
        raise UserError(f"{file.origin}: describes a model of {least:,} parameters, but its tensors hold {held:,}")


def _rope_scaling(values: dict[str, Any], origin: str) -> RopeScaling | None:
    factor = values.get("rope.scaling.factor")
    # A factor without its kind means linear, as in llama.cpp.
    kind = values.get("rope.scaling.type", "linear" if factor else "none")
    if kind == "none":
        return None
    if kind != "linear":
        raise UserError(f"{origin}: llama.rope.scaling.type is {_short(kind)}; only linear with a factor is supported")
    return RopeScaling(kind="linear", factor=_number(values, "rope.scaling.factor", origin))


def _number(values: dict[str, Any], key: str, origin: str) -> float:
    value = values.get(key)
    if not isinstance(value, float) or not _SMALLEST_NUMBER <= value <= _LARGEST_NUMBER:
        found = "absent" if value is None else _short(value)
        raise UserError(f"{origin}: llama.{key} is {found}; a positive number is needed")
    return _shortest(value)


def _short(value: Any) -> str:
    return shown(value) if isinstance(value, str) else shown(value)[1:-1]


def _shortest(value: float) -> float:
    """The decimal number that was meant: metadata is fp32, and 1e-5 in fp32 reads back as 9.999999747378752e-06."""
    return float(str(np.float32(value)))
