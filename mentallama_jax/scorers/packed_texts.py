"""Short texts packed into rows of one length, so that a model is compiled once and computes little padding.

Shape suffixes: R rows, T places of a row. The texts of an item (a pair, say) have the same number in their rows.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mentallama_jax.models.attention import Places

MOST_TEXTS = 32
"""Items of a row at most."""
_OPEN_ROWS = 1024


class Packed(NamedTuple):
    """Rows of texts on one side: int32 [R, T] each. Text number s of a row is segment s + 1; 0 is padding."""

    tokens_RT: np.ndarray
    positions_RT: np.ndarray
    segments_RT: np.ndarray

    @property
    def places(self) -> Places:
        """Where the tokens stand, for attention."""
        return Places(jnp.asarray(self.positions_RT), jnp.asarray(self.segments_RT))


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Items that are computed together.

    Attributes:
        rows: of each row, the places of its items in the list that was packed.
        sides: the texts of each side of the items, packed alike.
    """

    rows: tuple[tuple[int, ...], ...]
    sides: tuple[Packed, ...]


def packed_batches(
    items: Sequence[Sequence[Sequence[int]]], room: int, rows: int, most: int = MOST_TEXTS
) -> Iterator[PackedBatch]:
    """Pack items of one or more texts each, the longest first.

    Args:
        items: of each item, the token ids of its texts, one for each side. An item has at least a token.
        room: tokens of a row; rows of twice as many, and so on, hold items that are longer.
        rows: of a batch.
        most: items of a row at most.

    Yields:
        Batches of at most `rows` rows, filled up with empty ones, until every item was in one.
    """
    longest = [max(map(len, item)) for item in items]
    by_room: dict[int, list[int]] = {}
    for place in sorted(range(len(items)), key=lambda place: (-longest[place], place)):
        by_room.setdefault(room * 2 ** max(0, math.ceil(math.log2(longest[place] / room))), []).append(place)
    for length, members in sorted(by_room.items(), reverse=True):
        found = _rows(items, members, length, most)
        for start in range(0, len(found), rows):
            part = found[start : start + rows]
            sides = len(items[part[0][0]])
            yield PackedBatch(
                tuple(tuple(row) for row in part),
                tuple(
                    _laid_out([[items[place][side] for place in row] for row in part], rows, length)
                    for side in range(sides)
                ),
            )


def of_different_texts(
    texts: Sequence[Sequence[int]],
    room: int,
    rows: int,
    compute: Callable[[Packed], jax.Array],
    pick: Callable[[np.ndarray, np.ndarray, int], np.ndarray],
) -> dict[tuple[int, ...], np.ndarray]:
    """Compute each different text once.

    Args:
        texts: token ids.
        room: tokens of a packed row.
        rows: of a batch.
        compute: packed rows -> [R, ...]. It need not wait for the device: while a batch is computed, texts are picked
            from the one before.
        pick: (what was computed of a row, its segments, segment of a text) -> what is of that text.

    Returns:
        Token ids of a text -> what was picked for it.
    """
    different = list(dict.fromkeys(map(tuple, texts)))
    found: dict[tuple[int, ...], np.ndarray] = {}

    def pick_from(batch: PackedBatch, computed: jax.Array) -> None:
        values = np.asarray(computed)
        segments_RT = batch.sides[0].segments_RT
        for number, row in enumerate(batch.rows):
            for segment, place in enumerate(row, start=1):
                found[different[place]] = pick(values[number], segments_RT[number], segment)

    waiting: tuple[PackedBatch, jax.Array] | None = None
    for batch in packed_batches([(ids,) for ids in different], room, rows):
        computed = compute(batch.sides[0])
        if waiting:
            pick_from(*waiting)
        waiting = batch, computed
    if waiting:
        pick_from(*waiting)
    return found


def _rows(items: Sequence[Sequence[Sequence[int]]], members: Sequence[int], room: int, most: int) -> list[list[int]]:
    """First-fit: each item goes into the first open row with room on all sides."""
    closed: list[list[int]] = []
    opened: list[tuple[list[int], list[int]]] = []
    for place in members:
        needed = [len(text) for text in items[place]]
        for row, free in opened:
            if len(row) < most and all(size <= left for size, left in zip(needed, free, strict=True)):
                row.append(place)
                free[:] = [left - size for size, left in zip(needed, free, strict=True)]
                break
        else:
            opened.append(([place], [room - size for size in needed]))
            if len(opened) > _OPEN_ROWS:
                closed.append(opened.pop(0)[0])
    return closed + [row for row, _ in opened]


def _laid_out(texts: Sequence[Sequence[Sequence[int]]], rows: int, length: int) -> Packed:
    tokens, positions, segments = (np.zeros((rows, length), np.int32) for _ in range(3))
    for number, row in enumerate(texts):
        start = 0
        for segment, text in enumerate(row, start=1):
            end = start + len(text)
            tokens[number, start:end] = text
            positions[number, start:end] = np.arange(len(text))
            segments[number, start:end] = segment
            start = end
    return Packed(tokens, positions, segments)
