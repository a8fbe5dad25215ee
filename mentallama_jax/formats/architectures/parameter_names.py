"""The one table that says how each parameter is called and laid out in other formats; export reads it backwards.

Hugging Face and GGUF both keep a matrix as [outputs, inputs]. Ours are in natural head layout with the contracted
axes first, stacked over layers, so one number an entry, how many leading axes are contracted, gives both directions.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from math import prod
from typing import Any

import jax
import numpy as np

from mentallama_jax.foreign import shown
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params, abstract_params


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a layer (`stacked`) or of the model.

    Attributes:
        path: keys into the nested dict of parameters.
        hf: name in safetensors; `{layer}` stands for the layer's number.
        gguf: name in a GGUF file.
        inputs: leading axes that a product contracts; 0 for what is no matrix (embedding, norms).
        rotary: GGUF keeps these rows in the interleaved order of rotary pairs.
    """

    path: tuple[str, ...]
    hf: str
    gguf: str
    inputs: int = 0
    rotary: bool = False

    @property
    def stacked(self) -> bool:
        """Whether ours has a leading axis of layers."""
        return self.path[0] == "layers"

    def name(self, table: str, layer: int) -> str:
        """The tensor's name in `table` ("hf" or "gguf")."""
        return str(getattr(self, table)).format(layer=layer)

    def foreign_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape in the file of what has `shape` (without layers) here."""
        return (prod(shape[self.inputs :]), prod(shape[: self.inputs])) if self.inputs else shape

    def to_ours(self, tensor: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """A view of the file's tensor in our layout `shape` (without layers)."""
        return tensor.T.reshape(shape) if self.inputs else tensor

    def to_foreign(self, tensor: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The inverse of `to_ours`, contiguous."""
        if not self.inputs:
            return np.ascontiguousarray(tensor)
        outputs, inputs = self.foreign_shape(tensor.shape)
        return np.ascontiguousarray(tensor.reshape(inputs, outputs).T)


PARAMETERS = (
    Parameter(("embedding",), "model.embed_tokens.weight", "token_embd.weight"),
    Parameter(
        ("layers", "attention_norm", "scale"),
        "model.layers.{layer}.input_layernorm.weight",
        "blk.{layer}.attn_norm.weight",
    ),
    Parameter(
        ("layers", "attention", "query"),
        "model.layers.{layer}.self_attn.q_proj.weight",
        "blk.{layer}.attn_q.weight",
        inputs=1,
        rotary=True,
    ),
    Parameter(
        ("layers", "attention", "key"),
        "model.layers.{layer}.self_attn.k_proj.weight",
        "blk.{layer}.attn_k.weight",
        inputs=1,
        rotary=True,
    ),
    Parameter(
        ("layers", "attention", "value"),
        "model.layers.{layer}.self_attn.v_proj.weight",
        "blk.{layer}.attn_v.weight",
        inputs=1,
    ),
    Parameter(
        ("layers", "attention", "output"),
        "model.layers.{layer}.self_attn.o_proj.weight",
        "blk.{layer}.attn_output.weight",
        inputs=2,
    ),
    Parameter(
        ("layers", "mlp_norm", "scale"),
        "model.layers.{layer}.post_attention_layernorm.weight",
        "blk.{layer}.ffn_norm.weight",
    ),
    Parameter(
        ("layers", "mlp", "gate"), "model.layers.{layer}.mlp.gate_proj.weight", "blk.{layer}.ffn_gate.weight", inputs=1
    ),
    Parameter(
        ("layers", "mlp", "up"), "model.layers.{layer}.mlp.up_proj.weight", "blk.{layer}.ffn_up.weight", inputs=1
    ),
    Parameter(
        ("layers", "mlp", "down"), "model.layers.{layer}.mlp.down_proj.weight", "blk.{layer}.ffn_down.weight", inputs=1
    ),
    Parameter(("final_norm", "scale"), "model.norm.weight", "output_norm.weight"),
    Parameter(("head",), "lm_head.weight", "output.weight", inputs=1),
)
HEAD = PARAMETERS[-1]
EMBEDDING = PARAMETERS[0]
_MOST_COMPARED = 1000  # names among which the nearest is looked for


def leaf(tree: Params, path: tuple[str, ...]) -> Any:
    """The leaf of a nested dict at `path`."""
    for key in path:
        tree = tree[key]
    return tree


def model_parameters(config: LlamaConfig) -> Iterator[tuple[Parameter, tuple[int, ...], int]]:
    """Yield (entry, shape without layers, how many tensors it is in a file) of each parameter the model has."""
    shapes = abstract_params(config)
    for parameter in PARAMETERS:
        if parameter is HEAD and config.tie_embeddings:
            continue
        abstract: jax.ShapeDtypeStruct = leaf(shapes, parameter.path)
        if parameter.stacked:
            yield parameter, abstract.shape[1:], abstract.shape[0]
        else:
            yield parameter, abstract.shape, 1


def foreign_shapes(config: LlamaConfig, table: str) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor that a file of this model holds."""
    return {
        parameter.name(table, layer): parameter.foreign_shape(shape)
        for parameter, shape, count in model_parameters(config)
        for layer in range(count)
    }


def shown_tensor(name: str) -> str:
    """A tensor's name for a message: as it is where it looks like one, else made safe."""
    return name if re.fullmatch(r"[\w.-]{1,120}", name, re.ASCII) else shown(name)


def name_problems(found: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]], limit: int = 3) -> list[str]:
    """What is missing, extra or misshapen among the tensors found, at most `limit` of each kind spelt out."""
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    misshapen = [name for name in wanted if name in found and found[name] != wanted[name]]

    def near(name: str, among: list[str]) -> str:
        close = get_close_matches(name, among, n=1, cutoff=0.6)
        return f" (nearest: {shown_tensor(close[0])})" if close else ""

    spelt = [
        ("missing tensor", [name + near(name, extra[:_MOST_COMPARED]) for name in missing[:limit]], len(missing)),
        (
            "unknown tensor",
            [
                shown_tensor(name) + near(name[:200], (missing or list(wanted))[:_MOST_COMPARED])
                for name in extra[:limit]
            ],
            len(extra),
        ),
        (
            "wrong shape:",
            [
                f"{name} is {shown(list(found[name]))[1:-1]}, the config asks for {list(wanted[name])}"
                for name in misshapen[:limit]
            ],
            len(misshapen),
        ),
    ]
    return [
        f"{kind} {', '.join(names)}" + (f" and {total - limit} more" if total > limit else "")
        for kind, names, total in spelt
        if total
    ]
