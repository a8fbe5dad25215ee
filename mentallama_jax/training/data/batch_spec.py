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
    """

    dimensions: tuple[str | None, ...]
    dtype: str = "int32"
    empty: int = 0

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
        return tuple(sizes[name] for name in self.dimensions if name is not None)


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """All arrays of a batch by name."""

    arrays: Mapping[str, ArraySpec]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arrays, without `micro_batches`."""
        return tuple(self.arrays)

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

PREFERENCE_PAIRS = BatchSpec(
    MappingProxyType({**PACKED_TOKENS.arrays, "reference": ArraySpec(("batch", "length"), dtype="float32")})
)
"""Packed rows of pairs: each is two segments side by side, the chosen answer with its prompt (odd) and the rejected one
with the same prompt (even). `reference`: at the first token of a segment the summed log-probability of its answer under
the weights that the run starts from, in nats."""

SAMPLED_ANSWERS = BatchSpec(
    MappingProxyType(
        {
            **PACKED_TOKENS.arrays,
            **{
                name: ArraySpec(("batch", "length"), dtype="float32")
                for name in ("advantages", "token_weights", "old_log_probabilities", "reference_log_probabilities")
            },
        }
    )
)
"""Packed rows of prompts with answers that were sampled: `loss_mask` is 1 on tokens of answers that are learnt from.

The other numbers of a token stand at the position before it, which predicts it: the advantage of its answer, what its
loss weighs (1 where all weigh the same), and its log-probability in nats under the weights that sampled it and those
that the run starts from, 0 where the objective does not read them."""


def full_rows(
    rows: int, length: int, vocab_size: int, spec_of_batch: BatchSpec = PACKED_TOKENS
) -> dict[str, NDArray[Any]]:
    """Random rows without padding, one example each, to measure with: every token a target, or each text of class 0."""
    arrays = spec_of_batch.empty(rows, length)
    arrays["tokens"] = np.random.default_rng(0).integers(0, vocab_size, (rows, length), np.int32)
    arrays["positions"] += np.arange(length, dtype=np.int32)
    arrays["segment_ids"] += 1
    if "labels" in arrays:
        arrays["labels"][:, 0] = 0
    else:
        arrays["loss_mask"] += 1
    return arrays
