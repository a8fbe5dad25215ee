"""Reads GGUF files of the LLaMA architecture; quantised weights are expanded to fp32. Needs the extra `gguf`."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mentallama_jax.errors import UserError
from mentallama_jax.formats.names import HEAD, Parameter
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


class GgufFile:
    """The tensors and the metadata of one file (an `assembly.TensorFile`)."""

    table = "gguf"

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            UserError: the extra is not installed, or this is no whole GGUF file.
        """
        try:
            import gguf
        except ImportError:
            raise UserError(f"{path}: reading GGUF needs an extra; pip install 'mentallama-jax[gguf]'") from None

        self.origin = str(path)
        try:
            reader = gguf.GGUFReader(path)
            self._tensors = {tensor.name: tensor for tensor in reader.tensors}
            self.metadata: dict[str, Any] = {name: field.contents() for name, field in reader.fields.items()}
        except (ValueError, IndexError, KeyError) as error:
            raise UserError(f"{path}: not a whole GGUF file ({' '.join(str(error).split())}); fetch it again") from None
        # GGUF lists the fastest axis first.
        self.shapes = {name: tuple(int(n) for n in reversed(tensor.shape)) for name, tensor in self._tensors.items()}

    def read(self, name: str, parameter: Parameter) -> np.ndarray[Any, Any]:
        """The tensor in fp32, with the rows of rotary pairs half-split as in Hugging Face files.

        Raises:
            UserError: a quantisation that the `gguf` package cannot expand.
        """
        from gguf.quants import dequantize

        tensor = self._tensors[name]
        try:
            # A copy: what is not quantised comes as a view of the mapped file, which must not become a parameter.
            values = np.array(dequantize(tensor.data, tensor.tensor_type)).reshape(self.shapes[name])
        except NotImplementedError:
            kind = tensor.tensor_type.name
            raise UserError(f"{self.origin}: {name} is stored as {kind}, which cannot be expanded") from None
        return half_split(values, read_gguf_config(self).head_dim) if parameter.rotary else values


def open_gguf(path: Path) -> GgufFile:
    """The file's header, kept from one call to the next: reading one takes seconds, and tokenizer, config and weights
    are asked for one after the other.
    """
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
        raise UserError(f"{origin}: architecture is {architecture!r}; only llama is supported")
    values = {k.removeprefix("llama."): v for k, v in file.metadata.items() if k.startswith("llama.")}
    for key, value in values.items():
        if key not in _READ_KEYS and value not in (0, 0.0, None):
            raise UserError(f"{origin}: llama.{key} is {value!r:.60}, which this model does not have")
    if "rope_freqs.weight" in file.shapes:
        raise UserError(f"{origin}: holds rope_freqs.weight; take the safetensors of a model with llama3 rope scaling")

    def whole(key: str, default: int | None = None) -> int:
        value = values.get(key, default)
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{origin}: llama.{key} is {value!r:.60}; one whole number is needed")
        return value

    heads = whole("attention.head_count")
    head_dim = whole("attention.key_length", whole("embedding_length") // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if whole(key, head_dim) != head_dim:
            raise UserError(f"{origin}: llama.{key} is {values[key]}, but heads are {head_dim} wide")
    epsilon = values.get("attention.layer_norm_rms_epsilon")
    if not isinstance(epsilon, float):
        raise UserError(f"{origin}: llama.attention.layer_norm_rms_epsilon is absent")
    embedding = file.shapes.get("token_embd.weight", (0,))
    return LlamaConfig(
        vocab_size=whole("vocab_size", embedding[0]),
        hidden_size=whole("embedding_length"),
        intermediate_size=whole("feed_forward_length"),
        num_layers=whole("block_count"),
        num_heads=heads,
        num_kv_heads=whole("attention.head_count_kv", heads),
        head_dim=head_dim,
        rms_norm_eps=_shortest(epsilon),
        rope_theta=_shortest(values.get("rope.freq_base", 10000.0)),
        rope_scaling=_rope_scaling(values, origin),
        tie_embeddings=HEAD.gguf not in file.shapes,
        max_positions=whole("context_length"),
    )


def _rope_scaling(values: dict[str, Any], origin: str) -> RopeScaling | None:
    kind = values.get("rope.scaling.type", "none")
    if kind == "none":
        return None
    factor = values.get("rope.scaling.factor")
    if kind != "linear" or not isinstance(factor, float):
        raise UserError(f"{origin}: llama.rope.scaling.type is {kind!r}; only linear with a factor is supported")
    return RopeScaling(kind="linear", factor=_shortest(factor))


def _shortest(value: float) -> float:
    """The decimal number that was meant: metadata is fp32, and 1e-5 in fp32 reads back as 9.999999747378752e-06."""
    return float(str(np.float32(value)))
