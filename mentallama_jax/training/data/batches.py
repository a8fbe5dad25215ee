"""From tokens and a plan to batches, through grain.

The place in the data is one number, the global step: the batch of any step follows from the plan, without the
batches before it and without regard to the number of hosts. So that number is all that a checkpoint keeps of it.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor
from types import MappingProxyType
from typing import Any, Protocol, Self

import grain
import numpy as np
from numpy.typing import NDArray

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES
from mentallama_jax.training.data.packing import PlanSettings, Update, pack_rows, plan_epoch
from mentallama_jax.training.data.tokens import TokenStore

_READ = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
"""A batch takes a hundredth of the time of the smallest step; one thread keeps far ahead."""
_BEGINNING: Mapping[str, Any] = MappingProxyType({"step": 0})
MOST_VISITS, MOST_UPDATES = 10**8, 10**7
"""Examples and updates of the longest run: its plan takes about 8 and 500 bytes for each."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one update, or one step of an evaluation, is computed from.

    Attributes:
        arrays: the rows that this host holds, [micro-batches x held rows of a micro-batch, row length] each, see
            `TokenStore.batch_spec`; and `micro_batches`, the same on all hosts.
        step: number of the batch, from 0.
        epoch: from 0.
        examples: int64 [examples], their indices in the store, of all hosts.
        real_tokens: tokens of all hosts, padding left out.
        target_tokens: tokens of all hosts that the loss counts.
        pad_share: padding as a fraction of what all hosts compute.
    """

    arrays: dict[str, NDArray[np.int32]]
    step: int
    epoch: int
    examples: NDArray[np.int64]
    real_tokens: int
    target_tokens: int
    pad_share: float


class BatchSource(Protocol):
    """Where the batches of a run come from; where it stands is kept in each checkpoint."""

    @property
    def steps(self) -> int:
        """Updates of the whole run."""

    def state(self, step: int) -> dict[str, Any]:
        """Return what `iterate` needs to go on after `step` updates, as plain JSON values."""

    def iterate(self, state: Mapping[str, Any]) -> Iterator[Batch]:
        """Yield the batches from a state on to the end of the run; it has `close()`, for who is done early.

        Raises:
            UserError: the state is none of this source.
        """


class TrainingData:
    """The batches of a run, by step.

    All epochs are planned at once (about 3 microseconds an example and epoch), as the number of rows that every batch
    is padded to, and so the one compiled shape of the packed layout, is the largest that any update needs.

    Attributes:
        steps: updates of the whole run.
        rows: rows of a batch over all hosts, a multiple of `micro_batch_rows`. Those past an update's own are empty,
            and whole micro-batches of them are not computed.
        row_lengths: every row length that occurs, ascending; each is a shape to compile.
        epoch_ends: steps after which an epoch is complete, ascending; an incomplete last epoch is not listed.
    """

    def __init__(
        self,
        store: TokenStore,
        settings: PlanSettings,
        *,
        epochs: float | None = None,
        steps: int | None = None,
        held: Sequence[int] | None = None,
        micro_batch_rows: int | None = None,
    ) -> None:
        """Plan a run of `epochs` passes or of `steps` updates.

        A fraction of an epoch is the nearest number of whole updates; a half is rounded up.

        Args:
            store: the examples.
            settings: what decides the plan.
            epochs: give this or `steps`.
            steps: give this or `epochs`.
            held: the rows of each micro-batch that are wanted, in this order; all by default.
            micro_batch_rows: rows of a micro-batch where it is not that of the plan.

        Raises:
            ValueError: not exactly one of `epochs` and `steps` is given.
            UserError: more examples or updates than a plan can hold.
        """
        if (epochs is None) == (steps is None):
            raise ValueError("give exactly one of epochs and steps")
        _check_size(len(store), settings, epochs, steps)
        micro_batch_rows = micro_batch_rows or settings.micro_batch_rows
        self._store = store
        self._share = _Share.of(micro_batch_rows, held)
        self._updates, self.epoch_ends = _plan_run(store.row_lengths, settings, epochs, steps)
        self.steps = len(self._updates)
        most = max(len(update.row_ends) for update in self._updates)
        self.rows = _round_up(most, micro_batch_rows)
        self.row_lengths = tuple(sorted({update.row_length for update in self._updates}))

    def epoch_of(self, step: int) -> int:
        """The epoch that the update after `step` updates belongs to, from 0."""
        return bisect_right(self.epoch_ends, step)

    @property
    def pad_share(self) -> float:
        """Padding as a fraction of all that the run computes."""
        tokens = {length: self._store.batch_spec.row_tokens(length) for length in self.row_lengths}
        computed = sum(_computed_rows(update, self._share) * tokens[update.row_length] for update in self._updates)
        lengths = self._store.lengths
        return 1 - sum(int(lengths[update.examples].sum()) for update in self._updates) / computed

    def batch(self, step: int) -> Batch:
        """The batch of the update that follows `step` updates: the same on every call, run and number of hosts."""
        return _collate(self._store, self._updates[step], self.rows, self._share, step, self.epoch_of(step))

    def state(self, step: int) -> dict[str, Any]:
        """The place after `step` updates: that number alone, as the plan follows from the config and the data."""
        return {"step": step}

    def iterate(self, state: Mapping[str, Any] = _BEGINNING) -> grain.DatasetIterator[Batch]:
        """The batches from a state to the end of the run, made ahead in a thread; `close()` it when done early.

        Raises:
            UserError: the state is none of `state`.
        """
        step = state.get("step")
        if len(state) != 1 or type(step) is not int or not 0 <= step <= self.steps:
            raise UserError(f"the checkpoint's place in the data is {shown(dict(state))}; expected a step of this run")
        steps = grain.MapDataset.range(step, self.steps)
        return iter(steps.map(self.batch).to_iter_dataset(_READ))


def evaluation_batches(
    store: TokenStore, rows: int, max_length: int, *, held: Sequence[int] | None = None
) -> list[Batch]:
    """All examples of a store in a fixed order, packed, each batch one micro-batch.

    Args:
        store: examples of at most `max_length` tokens.
        rows: of a batch over all hosts; those left over in the last batch are empty.
        max_length: tokens of a row.
        held: the rows of each batch that are wanted, in this order; all by default.
    """
    share = _Share.of(rows, held)
    packed = pack_rows(store.row_lengths, max_length)
    updates = [Update.of(packed[start : start + rows], max_length) for start in range(0, len(packed), rows)]
    return [_collate(store, update, rows, share, number, 0) for number, update in enumerate(updates)]


@dataclass(frozen=True, slots=True)
class _Share:
    """Which rows of every micro-batch of `micro_batch_rows` rows are this host's: `places` says where in its share."""

    micro_batch_rows: int
    places: dict[int, int]

    @classmethod
    def of(cls, micro_batch_rows: int, held: Sequence[int] | None) -> Self:
        rows = range(micro_batch_rows) if held is None else held
        return cls(micro_batch_rows, {row: place for place, row in enumerate(rows)})

    def place(self, row: int) -> int | None:
        """Where a row of the whole batch goes in this host's share; None where only other hosts hold it."""
        micro_batch, within = divmod(row, self.micro_batch_rows)
        place = self.places.get(within)
        return None if place is None else micro_batch * len(self.places) + place


def _plan_run(
    lengths: NDArray[np.int64], settings: PlanSettings, epochs: float | None, steps: int | None
) -> tuple[list[Update], list[int]]:
    updates: list[Update] = []
    ends: list[int] = []
    while epochs is None or len(ends) < epochs:
        plan = plan_epoch(lengths, settings, len(ends))
        if epochs is not None and epochs - len(ends) < 1:
            updates += plan[: max(floor((epochs - len(ends)) * len(plan) + 0.5), 0 if updates else 1)]
            break
        room = len(plan) if steps is None else steps - len(updates)
        updates += plan[:room]
        if room >= len(plan):
            ends.append(len(updates))
        if len(updates) == steps:
            break
    return updates, ends


def _check_size(examples: int, settings: PlanSettings, epochs: float | None, steps: int | None) -> None:
    """Refuse a run whose plan would not fit into memory: all of it is planned at the start."""
    visits = examples * epochs if epochs is not None else min(settings.batch_size, examples) * (steps or 0)
    updates = steps if steps is not None else visits / settings.batch_size
    if visits > MOST_VISITS or updates > MOST_UPDATES:
        asked = f"training.epochs {epochs:g}" if epochs is not None else f"training.steps {steps}"
        raise UserError(
            f"{asked}: that visits {visits:,.0f} examples in {updates:,.0f} updates; a run may have {MOST_VISITS:,} "
            f"and {MOST_UPDATES:,}; lower it"
        )


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _computed_rows(update: Update, share: _Share) -> int:
    return _round_up(len(update.row_ends), share.micro_batch_rows)


def _collate(store: TokenStore, update: Update, rows: int, share: _Share, step: int, epoch: int) -> Batch:
    """Lay an update out in `rows` rows and keep this host's."""
    held_rows = rows // share.micro_batch_rows * len(share.places)
    arrays = store.batch_spec.empty(held_rows, update.row_length)
    for row, examples in enumerate(update.rows):
        place = share.place(row)
        if place is not None:
            _fill_row({key: values[place] for key, values in arrays.items()}, store, examples)
    computed_rows = _computed_rows(update, share)
    arrays[MICRO_BATCHES] = np.array(computed_rows // share.micro_batch_rows, np.int32)
    real = int(store.lengths[update.examples].sum())
    return Batch(
        arrays=arrays,
        step=step,
        epoch=epoch,
        examples=update.examples,
        real_tokens=real,
        target_tokens=sum(
            int(np.count_nonzero(store.targets[store.offsets[example] : store.offsets[example + 1]]))
            for example in update.examples
        ),
        pad_share=1 - real / (computed_rows * store.batch_spec.row_tokens(update.row_length)),
    )


def _fill_row(row: dict[str, NDArray[np.int32]], store: TokenStore, examples: NDArray[np.int64]) -> None:
    if store.sides is not None:
        _fill_pairs(row, store, examples)
        return
    end = 0
    for segment, example in enumerate(examples.tolist(), start=1):
        tokens = store.tokens[store.offsets[example] : store.offsets[example + 1]]
        start, end = end, end + len(tokens)
        row["tokens"][start:end] = tokens
        row["segment_ids"][start:end] = segment
        row["positions"][start:end] = np.arange(len(tokens))
        if store.labels is not None:
            row["labels"][start] = store.labels[example]
        else:
            row["loss_mask"][start:end] = store.targets[store.offsets[example] : store.offsets[example + 1]]


def _fill_pairs(row: dict[str, NDArray[np.int32]], store: TokenStore, examples: NDArray[np.int64]) -> None:
    ends = {"": 0, "target_": 0}
    for segment, example in enumerate(examples.tolist(), start=1):
        whole = slice(store.offsets[example], store.offsets[example + 1])
        tokens, is_target = store.tokens[whole], store.targets[whole]
        for side, text in (("", tokens[~is_target]), ("target_", tokens[is_target])):
            place = slice(ends[side], ends[side] + len(text))
            row[f"{side}tokens"][place] = text
            row[f"{side}segment_ids"][place] = segment
            row[f"{side}positions"][place] = np.arange(len(text))
            ends[side] = place.stop
