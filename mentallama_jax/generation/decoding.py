"""The host's part of decoding: which prompt is read when, and which answer is written in which slot.

A slot is refilled as soon as its answer is complete, while the others go on. Prompts are read ahead, a pack at a time,
and wait on the device until a slot is free. Nothing that is decided here changes an answer.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import jax
import numpy as np

from mentallama_jax.generation.cache_moves import STEPS, append, places_for, resized, sized_for
from mentallama_jax.generation.decoder import UnrolledLlama
from mentallama_jax.generation.drafts import CONTEXT, Drafts
from mentallama_jax.generation.key_value_cache import KeyValueCache, slots_of
from mentallama_jax.generation.label_trie import FREE, Constraint
from mentallama_jax.generation.packs import FULL, PROMPTS, WIDTHS, Past, pack, read, read_past, width_of
from mentallama_jax.generation.placement import batch_parts, whole_batch
from mentallama_jax.generation.requests import Answer, Event, Request, TokenMask
from mentallama_jax.generation.sampling import Sampling, SamplingRows, Uses, key_words
from mentallama_jax.generation.slots import (
    Move,
    Rows,
    Slots,
    WrittenSteps,
    decode,
    empty_slots,
    idle_rows,
    insert,
    rearranged,
)
from mentallama_jax.generation.stop_strings import StopSearch
from mentallama_jax.models.llama import LlamaConfig

_KEPT_PASTS = 2
"""Beginnings that stay on the device."""
_LOOKED_AT = 64
"""Waiting prompts among which those that fill a pack are looked for."""
_ENDS = 4
"""Columns of end tokens; more are filled up to a multiple."""


class Model(NamedTuple):
    """What decoding needs of an engine; `cache_dtype` is int8, or None for that of the activations."""

    config: LlamaConfig
    weights: UnrolledLlama
    dtype: Any
    cache_dtype: Any = None


@dataclass(slots=True)
class _Waiting:
    number: int
    request: Request
    next_sample: int = 0

    @property
    def begun(self) -> tuple[int, ...]:
        """The tokens that are read apart: shared ones, or of a prompt that is longer than a row all but the last."""
        shared, length = self.request.shared, len(self.request.tokens)
        if length - shared > WIDTHS[-1]:
            shared += (length - shared - 1) // FULL * FULL
        return tuple(self.request.tokens[:shared])


@dataclass(slots=True)
class _Read:
    """A prompt that has been read and has samples left to begin."""

    waiting: _Waiting
    cache: KeyValueCache
    logits_PMV: jax.Array
    start: int
    prompt: int
    past: Past | None

    @property
    def samples_left(self) -> int:
        return self.waiting.request.samples - self.waiting.next_sample


@dataclass(slots=True)
class _Active:
    """An answer in the making."""

    waiting: _Waiting
    sample: int
    length: int
    node: int
    mask: TokenMask | None = None
    search: StopSearch | None = None
    tokens: list[int] = field(default_factory=list)
    logs: list[float] = field(default_factory=list)
    likeliest: list[tuple[tuple[int, float], ...]] = field(default_factory=list)

    @property
    def request(self) -> Request:
        return self.waiting.request

    def last(self, count: int) -> list[int]:
        """The last tokens of the prompt and the answer."""
        missing = max(0, count - len(self.tokens))
        return [*self.request.tokens[len(self.request.tokens) - missing :], *self.tokens[-count:]]


class Decoding:
    """Answers to requests, a few steps at a time: submit, step, cancel. Use it on the mesh of the engine.

    Several processes work on one mesh: each does the same with the same requests, and what a loop has written reaches
    all of them, so that all decide alike.

    Attributes:
        sizes: the numbers of slots that it takes, from the least to the most.
        drafts: what is guessed, and from what.
        busy_seconds: of all calls of `step` for which nothing was compiled, the time of each times the share of steps
            in its slots that wrote a token.
    """

    def __init__(
        self,
        model: Model,
        slots: int,
        *,
        fewer: Sequence[int] = (),
        constraint: Constraint | None = None,
        text_of: Callable[[Sequence[int]], str] | None = None,
        patience: bool = True,
        places: Callable[[int], int] = places_for,
        drafts: int = 0,
        learns_prompts: bool = True,
    ) -> None:
        """Begin with nothing to do.

        Args:
            model: see `Model`.
            slots: answers that are written at once, filled up to divide along the mesh.
            fewer: other numbers of slots, which are used while they suffice: a step takes its time for all slots,
                whether they hold an answer or not. Programs are compiled for each number.
            constraint: trees that requests may name a root of.
            text_of: decodes tokens; needed for stop strings.
            patience: whether finished answers may wait for a few others, so that the device is visited less often.
            places: the places of the cache for slots that hold so many tokens; programs are compiled for each size.
            drafts: tokens that a step guesses besides the one it chooses, while that is worth its time, see `drafts`;
                none while any answer is drawn at random, which is guessed too seldom.
            learns_prompts: whether drafts for one request may come from the prompts of others, besides their answers.
        """
        self._places, self._learns_prompts, self.drafts = places, learns_prompts, Drafts(drafts)
        self._model, self._constraint, self._text_of, self._patience = model, constraint, text_of, patience
        self._parts = batch_parts()
        self.sizes = sorted({whole_batch(size) for size in (*fewer, slots) if size <= slots})
        self._active: list[_Active | None] = [None] * self.sizes[0]
        self._waiting: deque[_Waiting] = deque()
        self._read: list[list[_Read]] = [[] for _ in range(self._parts)]
        self._pasts: OrderedDict[tuple[int, ...], Past] = OrderedDict()
        self._uses, self._ends = Uses(), _ENDS
        self._slots: Slots | None = None
        self._submitted = 0
        self.busy_seconds = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do."""
        return not (self._waiting or any(self._read) or any(self._active))

    @property
    def slots(self) -> Slots:
        """What the slots hold on the device."""
        return self._with_room()

    def submit(self, request: Request) -> int:
        """Queue a prompt; the number that its events carry.

        Raises:
            ValueError: it wants stop strings or a constraint, and there is nothing to know them by.
        """
        if request.settings.stop_strings and not (request.text_of or self._text_of):
            raise ValueError("stop strings need `text_of`")
        if request.root != FREE and self._constraint is None:
            raise ValueError("the request names a root and there is no constraint")
        self._uses = self._uses.joined(request.settings.sampling.uses)
        self._ends = max(self._ends, -(-len(request.end_ids) // _ENDS) * _ENDS)
        self._waiting.append(_Waiting(self._submitted, request))
        self._submitted += 1
        return self._submitted - 1

    def cancel(self, number: int) -> None:
        """Forget a request; it has no further events."""
        self._waiting = deque(one for one in self._waiting if one.number != number)
        self._read = [[one for one in part if one.waiting.number != number] for part in self._read]
        self._active = [None if one and one.waiting.number == number else one for one in self._active]

    def step(self, at_most: int = STEPS) -> list[Event]:
        """Fill free slots, write up to `at_most` tokens in each slot, and say what is new."""
        compiled, began = _compiled(), time.monotonic()
        self._fill()
        if not any(self._active):
            return []
        slots = self.slots
        left = self._waiting or any(self._read)
        running = sum(one is not None for one in self._active)
        enough = running if not left else max(1, len(self._active) // 8) if self._patience else 1
        rows, allowed_BW = self._rows(), self._allowed()
        uses = self._uses_now()
        drafts = 0 if uses.sampled or allowed_BW is not None else self.drafts.now
        recent, logits_BV, seen_BV, written = decode(
            self._model.weights,
            slots.cache,
            slots.logits_BV,
            slots.seen_BV,
            rows,
            self._constraint,
            np.int32(min(at_most, STEPS) if allowed_BW is None else 1),
            np.int32(enough),
            config=self._model.config,
            uses=uses,
            alternatives=any(one.request.settings.alternatives for one in self._active if one),
            allowed_BW=allowed_BW,
            drafts=drafts,
            table=self.drafts.table if drafts else None,
        )
        room = bool(rows.lengths_B.max() + STEPS <= slots_of(slots.cache))
        self._slots = Slots(append(slots.cache, recent, rows.lengths_B, room=room), logits_BV, seen_BV)
        host: WrittenSteps = jax.device_get(written)
        if compiled == _compiled():
            self.busy_seconds += (time.monotonic() - began) * float(host.steps_B.mean() / host.steps_B.max())
        return [self._note(place, one, host) for place, one in enumerate(self._active) if one is not None]

    def run(self) -> Iterator[list[Event]]:
        """Step until nothing is left to do."""
        while not self.is_idle:
            yield self.step()

    # Filling slots

    def fill(self) -> None:
        """Read prompts into free slots, as each step does first, and wait until they are there."""
        self._fill()
        if self._slots is not None:
            jax.block_until_ready(self._slots)

    def _fill(self) -> None:
        self._take_slots()
        while True:
            moved = self._insert()
            if not moved and not self._read_pack():
                return

    def _take_slots(self) -> None:
        """Take the fewest slots that hold all answers there are to write; each part of the mesh has as many."""
        old, parts = len(self._active) // self._parts, range(self._parts)
        taken = [[place for place in range(old) if self._active[part * old + place]] for part in parts]
        begun = [len(taken[part]) + sum(one.samples_left for one in self._read[part]) for part in parts]
        left = sum(one.request.samples for one in islice(self._waiting, self.sizes[-1]))  # more changes nothing
        wanted = max(max(begun) * self._parts, sum(begun) + left)
        size = next((size for size in self.sizes if size >= wanted), self.sizes[-1])
        if not wanted or size == len(self._active):
            return
        sources_PQ = np.zeros((self._parts, size // self._parts), np.int32)
        active: list[_Active | None] = [None] * size
        for part, places in enumerate(taken):
            for new, place in enumerate(places):
                sources_PQ[part, new] = place
                active[part * sources_PQ.shape[1] + new] = self._active[part * old + place]
        self._active = active
        if self._slots is not None:
            self._slots = rearranged(self._slots, sources_PQ)

    def _free(self, part: int) -> list[int]:
        size = len(self._active) // self._parts
        return [place for place in range(part * size, (part + 1) * size) if self._active[place] is None]

    def _insert(self) -> bool:
        """Begin one answer in each part that has a free slot and a prompt that has been read."""
        size = len(self._active) // self._parts
        chosen: dict[int, tuple[int, _Read]] = {}
        for part, ready in enumerate(self._read):
            free = self._free(part)
            if free and ready and (not chosen or _same_source(ready[0], next(iter(chosen.values()))[1])):
                chosen[part] = (free[0], ready[0])
        if not chosen:
            return False
        first = next(iter(chosen.values()))[1]
        begun = 0 if first.past is None else int(first.past.length)
        longest = max(len(one.waiting.request.tokens) for _, one in chosen.values())
        slots = self._with_room(longest)
        move = Move(*(np.zeros(self._parts, np.int32) for _ in Move._fields))
        seen_PV = np.zeros((self._parts, self._model.config.vocab_size), bool) if self._uses.penalty else None
        for part, (place, one) in chosen.items():
            tokens = one.waiting.request.tokens
            move.slot_P[part], move.start_P[part], move.source_P[part] = place - part * size, begun, one.start
            move.count_P[part], move.prompt_P[part] = len(tokens) - begun, one.prompt
            if seen_PV is not None:
                seen_PV[part, list(tokens)] = True
        if first.past is not None:
            present = np.where(move.count_P > 0, begun, 0).astype(np.int32)
            before = move._replace(start_P=move.start_P * 0, source_P=move.source_P * 0, count_P=present)
            slots = insert(slots, first.past.cache, before, None, None)
        self._slots = insert(slots, first.cache, move, first.logits_PMV, seen_PV)
        for part, (place, one) in chosen.items():
            waiting = one.waiting
            request = waiting.request
            mask = request.masks() if request.masks else None
            text_of, stops = request.text_of or self._text_of, request.settings.stop_strings
            search = StopSearch(text_of, stops) if text_of and stops else None
            self._active[place] = _Active(waiting, waiting.next_sample, len(request.tokens), request.root, mask, search)
            if self._learns_prompts and not waiting.next_sample:
                self.drafts.read(request.tokens)
            waiting.next_sample += 1
            if not one.samples_left:
                self._read[part].remove(one)
        return True

    def _read_pack(self) -> bool:
        """Read prompts where a part has a free slot and none to fill it with; whether there were any."""
        wanting = [part for part in range(self._parts) if not self._read[part]]
        if not self._waiting or not any(self._free(part) for part in wanting):
            return False
        begun = self._waiting[0].begun
        chosen = self._chosen(begun, wanting)
        past = self._past(begun)
        tails = [[one.request.tokens[len(begun) :] for one in row] for row in chosen]
        width = width_of(max(sum(map(len, row)) for row in tails))
        arrays = pack(tails, width)
        model = self._model
        cache, logits_PMV = read(model.weights, arrays, past, config=model.config, cache_dtype=model.cache_dtype)
        for part, row in enumerate(chosen):
            start = 0
            for number, one in enumerate(row):
                self._read[part].append(_Read(one, cache, logits_PMV, start, number, past))
                start += len(tails[part][number])
        return True

    def _chosen(self, begun: tuple[int, ...], wanting: list[int]) -> list[list[_Waiting]]:
        """Waiting prompts with this beginning for each part, as many as fit; they leave the queue."""
        looked = [self._waiting.popleft() for _ in range(min(_LOOKED_AT * len(wanting), len(self._waiting)))]
        alike = [one for one in looked if one.begun == begun]
        own = [len(one.request.tokens) - len(begun) for one in alike]
        width = width_of(max(own[0], min(FULL, -(-sum(own) // len(wanting)))))
        room = dict.fromkeys(wanting, width)
        rows: list[list[_Waiting]] = [[] for _ in range(self._parts)]
        for one, length in zip(alike, own, strict=True):
            part = max(room, key=lambda part: (room[part] * (len(rows[part]) < PROMPTS), -part))
            if length <= room[part] and len(rows[part]) < PROMPTS:
                rows[part].append(one)
                room[part] -= length
        taken = {one.number for row in rows for one in row}
        self._waiting.extendleft(reversed([one for one in looked if one.number not in taken]))
        return rows

    def _past(self, begun: tuple[int, ...]) -> Past | None:
        if not begun:
            return None
        if begun not in self._pasts:
            while len(self._pasts) >= _KEPT_PASTS:
                self._pasts.popitem(last=False)
            model = self._model
            fixed = {"config": model.config, "dtype": model.dtype, "cache_dtype": model.cache_dtype}
            self._pasts[begun] = read_past(model.weights, begun, self._parts, **fixed)
        self._pasts.move_to_end(begun)
        return self._pasts[begun]

    def _with_room(self, more: int = 0) -> Slots:
        """The slots with places for what they hold, another prompt, and the tokens of a loop."""
        active = [one for one in self._active if one is not None]
        lengths = [one.length for one in active]
        most = max((len(one.request.tokens) + one.request.settings.max_new_tokens - 1 for one in active), default=0)
        need = self._places(max(more, sized_for(max(lengths, default=0), most)))
        slots = self._slots
        if slots is None:
            return empty_slots(
                config=self._model.config,
                slots=len(self._active),
                places=need,
                dtype=self._model.cache_dtype or self._model.dtype,
                penalty=self._uses.penalty,
            )
        if self._uses.penalty and slots.seen_BV is None:
            slots = slots._replace(seen_BV=self._seen())
        places = slots_of(slots.cache)
        if places < need or (places > self._places(max([more, *lengths]) + STEPS) and not self._longer_waits(places)):
            slots = slots._replace(cache=resized(slots.cache, places=need))
        return slots

    def _longer_waits(self, places: int) -> bool:
        """Whether a prompt will soon need as many places."""
        read = (one.waiting for part in self._read for one in part)
        soon = [*read, *islice(self._waiting, _LOOKED_AT)]
        return any(self._places(len(one.request.tokens)) >= places for one in soon)

    def _seen(self) -> np.ndarray[Any, Any]:
        seen_BV = np.zeros((len(self._active), self._model.config.vocab_size), bool)
        for place, one in enumerate(self._active):
            if one is not None:
                seen_BV[place, [*one.request.tokens, *one.tokens]] = True
        return seen_BV

    # Steps

    def _uses_now(self) -> Uses:
        """What the rows in the slots ask for; a penalty stays, as its array does."""
        uses = Uses(penalty=self._uses.penalty)
        for one in self._active:
            if one is not None:
                uses = uses.joined(one.request.settings.sampling.uses)
        return uses

    def _allowed(self) -> np.ndarray[Any, Any] | None:
        """The tokens that each slot may go on with, [B, W]; None where no slot has a mask."""
        if not any(one is not None and one.mask for one in self._active):
            return None
        allowed_BW = np.full((len(self._active), -(-self._model.config.vocab_size // 32)), -1, np.int32)
        for place, one in enumerate(self._active):
            if one is not None and one.mask is not None:
                allowed_BW[place] = one.mask.allowed()
        return allowed_BW

    def _rows(self) -> Rows:
        rows = idle_rows(len(self._active), self._ends)
        sampling = [one.request.settings.sampling if one else Sampling() for one in self._active]
        for place, one in enumerate(self._active):
            if one is not None:
                request = one.request
                rows.lengths_B[place], rows.counts_B[place] = one.length, len(one.tokens)
                rows.limits_B[place] = request.settings.max_new_tokens
                rows.keys_B2[place] = key_words(request.settings.seed, request.name, one.sample)
                rows.ends_BE[place, : len(request.end_ids)] = request.end_ids
                rows.nodes_B[place] = one.node
                before = one.last(CONTEXT)
                rows.before_BC[place, CONTEXT - len(before) :] = before
                rows.running_B[place] = True
        return rows._replace(sampling=SamplingRows.of(sampling))

    def _note(self, place: int, one: _Active, written: WrittenSteps) -> Event:
        """Take over what a slot has written; the slot is free where the answer is complete."""
        count, before = int(written.taken_B[place]), len(one.tokens)
        one.tokens += written.tokens_BR[place, :count].tolist()
        one.logs += written.log_probabilities_BR[place, :count].tolist()
        one.length += count
        self.drafts.wrote(one.last(count + CONTEXT), count)
        one.node = int(written.nodes_B[place])
        if one.mask is not None:
            for token in one.tokens[before:]:
                one.mask.take(token)
        settings = one.request.settings
        if settings.alternatives and written.likeliest_BRA is not None and written.likeliest_logs_BRA is not None:
            ids, logs = (
                written.likeliest_BRA[place, :count].tolist(),
                written.likeliest_logs_BRA[place, :count].tolist(),
            )
            one.likeliest += [tuple(zip(*pair, strict=True)) for pair in zip(ids, logs, strict=True)]
        ended = bool(written.ended_B[place])
        stop, kept = "", len(one.tokens)
        if one.search is not None:  # an end token is no text
            stop, taken = one.search.add(one.tokens[before : kept - ended])
            kept = before + taken if stop else kept
        answer = None
        if stop or ended or len(one.tokens) >= settings.max_new_tokens:
            ended = ended and kept == len(one.tokens)
            answer = Answer(tuple(one.tokens[:kept]), tuple(one.logs[:kept]), ended, stop, tuple(one.likeliest[:kept]))
            self._active[place] = None
        new = slice(before, kept)
        likeliest = tuple(one.likeliest[new])
        return Event(one.waiting.number, one.sample, tuple(one.tokens[new]), tuple(one.logs[new]), answer, likeliest)


def _compiled() -> int:
    """How many programs there are by now."""
    programs: tuple[Any, ...] = (read, insert, decode, append, resized, rearranged, empty_slots)
    return sum(int(program._cache_size()) for program in programs if hasattr(program, "_cache_size"))


def _same_source(one: _Read, other: _Read) -> bool:
    return one.cache is other.cache
