"""The global plan of an epoch: which examples make up each update, and which of them share a row.

A plan is a pure function of (lengths, settings, epoch). Hosts and devices have no say in it; they only slice it.
It is made of integers alone, from the raw stream of a Philox generator, so that every machine makes the same one.

How a packed update of exactly `batch_size` examples wastes little. An update is computed in whole micro-batches of
`micro_batch_rows` rows, so a total of 22.7 rows costs 24 where a micro-batch has 4. Before an update is packed, some
of its examples change places with as many of the next update, so that its total comes to lie just under a whole
number of micro-batches; what one update gains the next one loses, and the last update of the epoch settles the
account. The paper's recipe stays: every example once an epoch, every update of exactly `batch_size` examples (the
last one holds the remainder: none is dropped, so 72,093 examples make 282 updates of 256). An update's total is not
moved by more than about 2.5 times the standard deviation that shuffling alone gives such totals; where that is not
enough to reach whole micro-batches, the update stays as it was.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mentallama_jax.config import RunConfig

Integers = NDArray[np.int64]

_BUCKETS = ((1, 16), (3, 32), (1, 8), (3, 16), (1, 4), (3, 8), (1, 2), (3, 4), (1, 1))
"""Row lengths of the bucketed layout as fractions of `max_length`: each is a compilation."""
_WINDOW = 16
"""Updates of the shuffled stream among which the bucketed layout sorts by length."""
_SLACKS = (256, 192, 128, 96, 64, 48, 32, 24, 16)
"""One token in so many stays free in a packed update, so that its examples fit; where they do not, the next holds."""


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """What, besides the lengths of the examples, decides a plan; the fields are those of the config."""

    seed: int
    batch_size: int
    batch_unit: Literal["examples", "rows"]
    max_length: int
    layout: Literal["packed", "bucketed"]
    micro_batch_rows: int

    @classmethod
    def of(cls, config: RunConfig) -> "PlanSettings":
        """The settings that a run's config asks for."""
        training, data = config.training, config.data
        return cls(
            seed=training.seed,
            batch_size=training.batch_size,
            batch_unit=training.batch_unit,
            max_length=data.max_length,
            layout=data.layout,
            micro_batch_rows=training.micro_batch_rows,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """One optimizer update.

    Attributes:
        row_length: tokens of each row, padding included.
        examples: int64 [examples], indices into the lengths, row after row.
        row_ends: int64 [rows], where each row ends in `examples`.
    """

    row_length: int
    examples: Integers
    row_ends: Integers

    @property
    def rows(self) -> list[Integers]:
        """The examples of each row, in their order in the row."""
        return np.split(self.examples, self.row_ends[:-1])

    @classmethod
    def of(cls, rows: list[list[int]], row_length: int) -> "Update":
        """From the examples of each row."""
        examples = np.array(list(chain(*rows)), np.int64)
        return cls(row_length, examples, np.cumsum([len(row) for row in rows]))


def plan_epoch(lengths: Integers, settings: PlanSettings, epoch: int) -> list[Update]:
    """Plan the updates of an epoch (numbered from 0).

    Args:
        lengths: int64 [examples], tokens of each example, from 1 to `settings.max_length`.
        settings: see `PlanSettings`.
        epoch: any number from 0; each has an order of its own.

    Returns:
        The updates in training order. Each example is in exactly one row of exactly one update.

    Raises:
        ValueError: no lengths, or one out of range.
    """
    _check(lengths, settings.max_length)
    random = np.random.Philox(key=np.array([settings.seed % 2**64, epoch], dtype=np.uint64))
    order = _permutation(random, len(lengths))
    if settings.layout == "bucketed":
        return _bucketed(lengths, settings, order, random)
    if settings.batch_unit == "rows":
        return list(_packed_by_rows(lengths, settings, order))
    return _packed_by_examples(lengths, settings, order)


def pack_rows(lengths: Integers, row_length: int) -> list[list[int]]:
    """Best-fit decreasing: put examples into as few rows as it can, none split.

    Args:
        lengths: int64 [examples], from 1 to `row_length`.
        row_length: tokens of a row.

    Returns:
        For each row, positions in `lengths`.

    Raises:
        ValueError: no lengths, or one out of range.
    """
    _check(lengths, row_length)
    rows: list[list[int]] = []
    # Sorted keys free * count + row: the tightest row with room is one bisection away.
    count = len(lengths)
    free: list[int] = []
    for example, length in _longest_first(lengths):
        place = bisect_left(free, length * count)
        if place == len(free):
            free_here, row = row_length, len(rows)
            rows.append([])
        else:
            free_here, row = divmod(free.pop(place), count)
        rows[row].append(example)
        insort(free, (free_here - length) * count + row)
    return rows


def bucket_lengths(max_length: int) -> list[int]:
    """The row lengths of the bucketed layout, ascending: fractions of `max_length`, in multiples of 8, and itself."""
    fractions = {min(max_length, -(-max_length * over // (under * 8)) * 8) for over, under in _BUCKETS}
    return sorted(fractions)


def _check(lengths: Integers, longest: int) -> None:
    if not len(lengths):
        raise ValueError("no examples to plan")
    if lengths.min() < 1 or lengths.max() > longest:
        raise ValueError(f"every example must have 1 to {longest} tokens")


def _permutation(random: np.random.Philox, count: int) -> Integers:
    # The raw stream of a bit generator is fixed for good; Generator.permutation may change between numpy versions.
    return np.argsort(random.random_raw(count), kind="stable")


def _longest_first(lengths: Integers) -> Iterator[tuple[int, int]]:
    order = np.argsort(-lengths, kind="stable")
    return zip(order.tolist(), lengths[order].tolist(), strict=True)


def _members(group: Integers, rows: list[list[int]]) -> list[list[int]]:
    """The examples of `group` that stand at the positions in `rows`."""
    examples = group.tolist()
    return [[examples[position] for position in row] for row in rows]


def _packed_by_examples(lengths: Integers, settings: PlanSettings, order: Integers) -> list[Update]:
    row_length = settings.max_length
    groups = [order[start : start + settings.batch_size].copy() for start in range(0, len(order), settings.batch_size)]
    largest_move = _largest_move(lengths, settings.batch_size)
    updates = []
    for number, group in enumerate(groups):
        rows = pack_rows(lengths[group], row_length)
        if number + 1 < len(groups):
            rows = _level(lengths, group, groups[number + 1], rows, settings, largest_move)
        updates.append(Update.of(_members(group, rows), row_length))
    return updates


def _largest_move(lengths: Integers, batch_size: int) -> int:
    """2.5 standard deviations of the total of `batch_size` random examples, in exact integer arithmetic."""
    count, total, squares = len(lengths), int(lengths.sum()), int((lengths * lengths).sum())
    return math.isqrt(25 * batch_size * (count * squares - total * total) // (4 * count * count))


def _level(
    lengths: Integers,
    group: Integers,
    following: Integers,
    rows: list[list[int]],
    settings: PlanSettings,
    largest_move: int,
) -> list[list[int]]:
    """Exchange examples with `following`, in place, until `group` fills whole micro-batches; return its rows."""
    micro_batch = settings.micro_batch_rows * settings.max_length
    total = int(lengths[group].sum())
    micro_batches = max(1, (2 * total + micro_batch) // (2 * micro_batch))
    for slack in _SLACKS:
        capacity = micro_batches * micro_batch
        excess = int(lengths[group].sum()) - capacity + capacity // slack
        if abs(excess) > largest_move:
            break
        _exchange(lengths, group, following, excess)
        rows = pack_rows(lengths[group], settings.max_length)
        if len(rows) <= micro_batches * settings.micro_batch_rows:
            break
    return rows


def _exchange(lengths: Integers, group: Integers, following: Integers, excess: int) -> None:
    """Swap examples one for one so that the total of `group` falls by `excess`, or rises where that is negative."""
    sign = 1 if excess > 0 else -1
    wanted = abs(excess)
    pairs = min(len(group), len(following))
    gains = sign * (lengths[group[:pairs]] - lengths[following[:pairs]])
    chosen = []
    for pair, gain in enumerate(gains.tolist()):
        if 0 < gain <= wanted:
            chosen.append(pair)
            wanted -= gain
    group[chosen], following[chosen] = following[chosen], group[chosen]
    if wanted:
        _close(lengths, group, following, sign * wanted)


def _close(lengths: Integers, group: Integers, following: Integers, excess: int) -> None:
    """Make the one swap that brings the total of `group` nearest to `excess` less, from below, if one does."""
    by_length = following[np.argsort(lengths[following], kind="stable")]
    wanted = lengths[group] - excess
    places = np.searchsorted(lengths[by_length], wanted, side="right") - 1
    gaps = np.where(places >= 0, wanted - lengths[by_length[places]], np.iinfo(np.int64).max)
    mine = int(np.argmin(gaps))
    if gaps[mine] >= abs(excess):
        return
    theirs = int(np.flatnonzero(following == by_length[places[mine]])[0])
    group[mine], following[theirs] = following[theirs], group[mine]


def _packed_by_rows(lengths: Integers, settings: PlanSettings, order: Integers) -> Iterator[Update]:
    """Fill `batch_size` rows from the shuffled stream; what does not fit leads the next update."""
    row_length, batch_size = settings.max_length, settings.batch_size
    ends = np.cumsum(lengths[order])
    start, carried = 0, order[:0]
    while start < len(order) or len(carried):
        read = int(ends[start - 1]) if start else 0
        wanted = batch_size * row_length - int(lengths[carried].sum())
        stop = max(start, int(np.searchsorted(ends, read + wanted)) + 1)
        pool = np.concatenate([carried, order[start:stop]])
        rows = pack_rows(lengths[pool], row_length)
        yield Update.of(_members(pool, rows[:batch_size]), row_length)
        start, carried = min(stop, len(order)), pool[sorted(chain(*rows[batch_size:]))]


def _bucketed(lengths: Integers, settings: PlanSettings, order: Integers, random: np.random.Philox) -> list[Update]:
    """One example a row: sort windows of the shuffled stream by length, cut them into updates, shuffle those."""
    batch_size, buckets = settings.batch_size, bucket_lengths(settings.max_length)
    whole = len(order) - len(order) % batch_size
    window = _WINDOW * batch_size
    groups = []
    for start in range(0, whole, window):
        examples = order[start : min(start + window, whole)]
        examples = examples[np.argsort(lengths[examples], kind="stable")]
        groups += np.split(examples, len(examples) // batch_size)
    groups = [groups[number] for number in _permutation(random, len(groups))]
    if whole < len(order):
        groups.append(order[whole:])
    return [
        Update(buckets[bisect_left(buckets, int(lengths[group].max()))], group, np.arange(1, len(group) + 1))
        for group in groups
    ]
