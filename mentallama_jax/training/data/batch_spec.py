"""What a batch is made of, said once: the arrays that an objective reads, their dtypes and their dimensions' names.

The data fill these arrays, the placement cuts them along the mesh, the step reads them, and the planner compiles for
them. Every array has the micro-batches in front, as one dimension more than is named here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

MICRO_BATCHES = "micro_batches"
"""An int32 scalar beside the arrays: how many leading micro-batches hold examples. The others are not computed."""


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array of a batch.

    Attributes:
        dimensions: names that `parallel.rules` knows, the first of them `batch`; `None` is a dimension that is not cut.
        dtype: of its numbers.
        empty: the number where nothing stands.
        at_length: (tokens, row length) where `length` is that of another side of the row: where a row has that length,
            this side has so many tokens; shorter rows have as large a share, in multiples of 8.
    """

    dimensions: tuple[str | None, ...]
    dtype: str = "int32"
    empty: int = 0
    at_length: tuple[int, int] | None = None

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape of one micro-batch.

        Args:
            sizes: the size of each named dimension.

        Raises:
            ValueError: a dimension has no name or no size, so the specification must say more.
        """
        missing = [name for name in self.dimensions if name is None or name not in sizes]
        if missing:
            raise ValueError(f"dimension {missing[0]!r} of a batch has no size; there are: {', '.join(sizes)}")
        return tuple(self._size(name, sizes[name]) for name in self.dimensions if name is not None)

    def _size(self, name: str, size: int) -> int:
        if name != "length" or self.at_length is None:
            return size
        tokens, length = self.at_length
        return min(tokens, -(-size * tokens // (length * 8)) * 8)


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """All arrays of a batch by name; `token_arrays` are those that hold tokens, one for each side of the rows."""

    arrays: Mapping[str, ArraySpec]
    token_arrays: tuple[str, ...] = ("tokens",)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arrays, without `micro_batches`."""
        return tuple(self.arrays)

    def row_tokens(self, length: int) -> int:
        """How many tokens a row of this length has room for, over all sides."""
        return sum(self.arrays[name].shape({"batch": 1, "length": length})[1] for name in self.token_arrays)

    def empty(self, rows: int, length: int) -> dict[str, NDArray[Any]]:
        """Arrays of `rows` rows of `length` tokens in which nothing stands: zeros, or what the array has for it."""
        sizes = {"batch": rows, "length": length}
        return {name: np.full(one.shape(sizes), one.empty, one.dtype) for name, one in self.arrays.items()}

    def check(self, given: Mapping[str, object]) -> None:
        """Refuse a batch that lacks an array or has one too many; `micro_batches` may be left out.

        Raises:
            ValueError: names the arrays.
        """
        lacking = sorted(set(self.arrays) - set(given))
        foreign = sorted(set(given) - set(self.arrays) - {MICRO_BATCHES})
        if lacking or foreign:
            wrong = "; ".join(
                f"{word} {', '.join(names)}" for word, names in (("lacks", lacking), ("has also", foreign)) if names
            )
            raise ValueError(f"a batch of this objective holds {', '.join(self.arrays)}; this one {wrong}")


PACKED_TOKENS = BatchSpec(
    MappingProxyType(
        {
            "tokens": ArraySpec(("batch", "length")),
            "segment_ids": ArraySpec(("batch", "length")),
            "positions": ArraySpec(("batch", "length")),
            "loss_mask": ArraySpec(("batch", "length")),
        }
    )
)
"""Packed rows of tokens. `segment_ids`: 0 is padding, the examples of a row count from 1. `positions`: from 0 in each
segment. `loss_mask`: 1 on each token that is a target."""

NO_LABEL = -1
"""Stands in `labels` at every token but the first of a text."""
CLASSIFIED_TEXTS = BatchSpec(
    MappingProxyType(
        {name: PACKED_TOKENS.arrays[name] for name in ("tokens", "segment_ids", "positions")}
        | {"labels": ArraySpec(("batch", "length"), empty=NO_LABEL)}
    )
)
"""Packed rows of texts with a class each: `labels` holds it at the first token of a text."""


def paired_texts(max_length: int, target_length: int) -> BatchSpec:
    """Packed rows of pairs: sources in rows of `max_length` tokens, and beside them targets in rows of `target_length`.

    Target s of a row belongs to source s. Targets end with their end token; what starts them is not in the arrays.
    """
    at_length = (target_length, max_length)
    sides = {
        prefix + name: ArraySpec(("batch", "length"), at_length=at_length if prefix else None)
        for prefix in ("", "target_")
        for name in ("tokens", "segment_ids", "positions")
    }
    return BatchSpec(MappingProxyType(sides), ("tokens", "target_tokens"))


def full_rows(
    rows: int, length: int, vocab_size: int, spec_of_batch: BatchSpec = PACKED_TOKENS
) -> dict[str, NDArray[Any]]:
    """Random rows without padding, one example each, to measure with: every token a target, or each text of class 0."""
    arrays = spec_of_batch.empty(rows, length)
    for tokens in spec_of_batch.token_arrays:
        side = tokens.removesuffix("tokens")
        arrays[tokens] = np.random.default_rng(0).integers(0, vocab_size, arrays[tokens].shape, np.int32)
        arrays[f"{side}positions"] += np.arange(arrays[tokens].shape[1], dtype=np.int32)
        arrays[f"{side}segment_ids"] += 1
    if "labels" in arrays:
        arrays["labels"][:, 0] = 0
    if "loss_mask" in arrays:
        arrays["loss_mask"] += 1
    return arrays
