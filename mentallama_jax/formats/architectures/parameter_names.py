"""One table an architecture says how its parameters are called and laid out in files; it is read both ways.

Hugging Face and GGUF both keep a matrix as [outputs, inputs]. Ours are in natural head layout with the contracted
axes first, stacked over layers, so one number an entry, how many leading axes are contracted, gives both directions.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import prod
from typing import Any

import numpy as np

from mentallama_jax.foreign import shown, shown_tensor
from mentallama_jax.models.module import ModelConfig, Params, abstract_params

LAYERS = "layers"
"""The key, anywhere in a path, below which parameters have a leading axis of layers."""
_MOST_COMPARED = 1000  # names among which the nearest is looked for


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a layer (`stacked`) or of the model; a model without it leaves the entry out.

    Attributes:
        path: keys into the nested dict of parameters.
        hf: name in Hugging Face files; `{layer}` stands for the layer's number.
        gguf: name in a GGUF file; "" where there is none.
        inputs: leading axes that a product contracts; 0 for what is no matrix (embedding, norms, biases).
        rotary: GGUF keeps these rows in the interleaved order of rotary pairs.
        flat: files keep it with one axis, whatever its axes are here (biases in head layout).
        row: files keep it as one row, [1, n].
        tied_to: the parameter that it equals in a model that has none of its own. Files may hold it all the same.
    """

    path: tuple[str, ...]
    hf: str
    gguf: str = ""
    inputs: int = 0
    rotary: bool = False
    flat: bool = False
    row: bool = False
    tied_to: tuple[str, ...] | None = None

    @property
    def stacked(self) -> bool:
        """Whether ours has a leading axis of layers."""
        return LAYERS in self.path

    def name(self, column: str, layer: int) -> str:
        """The tensor's name in the files of a `column` ("hf" or "gguf")."""
        return str(getattr(self, column)).format(layer=layer)

    def foreign_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape in the file of what has `shape` (without layers) here."""
        if self.inputs:
            return (prod(shape[self.inputs :]), prod(shape[: self.inputs]))
        if self.flat:
            return (prod(shape),)
        return (1, *shape) if self.row else shape

    def to_ours(self, tensor: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """A view of the file's tensor in our layout `shape` (without layers)."""
        return tensor.T.reshape(shape) if self.inputs else tensor.reshape(shape)

    def to_foreign(self, tensor: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The inverse of `to_ours`, contiguous."""
        outer = self.foreign_shape(tensor.shape)
        if not self.inputs:
            return np.ascontiguousarray(tensor).reshape(outer)
        return np.ascontiguousarray(tensor.reshape(outer[::-1]).T)


@dataclass(frozen=True, slots=True)
class NameTable:
    """The parameters of an architecture.

    Attributes:
        parameters: of all its models; each has those whose paths are in its tree.
        prefix: stands in front of the names of the model proper, and is missing in files of it without a head.
        renamed: (pattern, replacement) pairs, of old spellings.
        ignored: patterns of tensors that files may hold and nothing here reads.
    """

    parameters: tuple[Parameter, ...]
    prefix: str = ""
    renamed: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()

    def entries(self, config: ModelConfig[Any]) -> Iterator[tuple[Parameter, tuple[int, ...], int]]:
        """Yield (entry, shape without layers, how many tensors it is in a file) of each parameter the model has."""
        shapes = abstract_params(config)
        for parameter in self.parameters:
            abstract = leaf(shapes, parameter.path)
            if abstract is None:
                continue
            yield (
                (parameter, abstract.shape[1:], abstract.shape[0])
                if parameter.stacked
                else (parameter, abstract.shape, 1)
            )

    def foreign_shapes(self, config: ModelConfig[Any], column: str) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every tensor that a file of this model holds."""
        return {
            parameter.name(column, layer): parameter.foreign_shape(shape)
            for parameter, shape, count in self.entries(config)
            for layer in range(count)
        }

    def ties(self, config: ModelConfig[Any]) -> Iterator[tuple[Parameter, Parameter]]:
        """Yield (entry, the entry that it equals) of each parameter that the model has by another name."""
        shapes = abstract_params(config)
        by_path = {parameter.path: parameter for parameter in self.parameters}
        for parameter in self.parameters:
            if parameter.tied_to is not None and leaf(shapes, parameter.path) is None:
                yield parameter, by_path[parameter.tied_to]

    def own_names(self, names: Iterable[str]) -> dict[str, str]:
        """Name as in the table -> name as in a file, of the names in a file that are not ignored.

        Raises:
            ValueError: two names in the file are one parameter.
        """
        kept = [name for name in names if not any(re.fullmatch(pattern, name) for pattern in self.ignored)]
        bare = bool(self.prefix) and not any(name.startswith(self.prefix) for name in kept)
        starts = tuple(
            parameter.hf.removeprefix(self.prefix).partition("{")[0]
            for parameter in self.parameters
            if parameter.hf.startswith(self.prefix)
        )
        found: dict[str, str] = {}
        for name in kept:
            own = name
            for pattern, replacement in self.renamed:
                own = re.sub(pattern, replacement, own)
            if bare and own.startswith(starts):
                own = self.prefix + own
            if own in found:
                raise ValueError(f"{shown_tensor(name)} and {shown_tensor(found[own])} are both {shown_tensor(own)}")
            found[own] = name
        return found


def leaf(tree: Params, path: tuple[str, ...]) -> Any:
    """The leaf of a nested dict at `path`; None where there is none."""
    place: Any = tree
    for key in path:
        if not isinstance(place, Mapping) or key not in place:
            return None
        place = place[key]
    return place


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
