"""Few-shot examples of each question: which ones, and never one that gives the question's own post away.

Examples are training rows of the question's task and aspect. None of them shares the post of the question, nor is its
post a near-copy of it (see `audit.near_copies`): each pair that is shown has been compared exactly. No two examples of
a question are of one post.

Three ways to choose, with M examples a class:

- balanced: M of each label, drawn by the seed, the same ones for all questions of a task and aspect;
- random: as many, whatever their labels, drawn by the seed, the same ones for all questions of a task and aspect;
- nearest: M of each label, those whose posts are nearest to the post of the question by their embeddings.

Examples that clash with no question at all are taken first, so that all questions have the same ones, and their prompts
begin with the same tokens. Only where there are too few of these do questions get examples of their own.

The order is that of being wanted: one of each label, then the second of each, and so on. A prompt that is too long
loses its least wanted example, so that a label loses its last example only once every label has one at most. `nearest`
shows the most wanted ones last, next to the question; the others show them first.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.audit.near_copies import Shingles, are_near_copies, folded_words, shingles_of
from mentallama_jax.imhi.mixture import draw
from mentallama_jax.imhi.records import Record

Choice = Literal["balanced", "random", "nearest"]
Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to [N, D] of length 1."""

ChosenExamples = tuple[Record, ...]
"""The examples of one question, the most wanted first."""


@dataclass(frozen=True, slots=True)
class Shots:
    """How examples are chosen.

    Attributes:
        per_class: examples of each label.
        choice: see the module's description.
        seed: of the draws.
    """

    per_class: int
    choice: Choice = "balanced"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.per_class < 1:
            raise UserError(f"--shots {self.per_class}: give a number of examples a class from 1")


@dataclass(frozen=True, slots=True)
class _Post:
    """A record beside what its post is compared by."""

    record: Record
    post_id: str
    shingles: Shingles

    def clashes(self, other: "_Post") -> bool:
        return self.post_id == other.post_id or are_near_copies(self.shingles, other.shingles)


def choose_examples(
    questions: Sequence[Record], pool: Iterable[Record], shots: Shots, embed: Embed | None = None
) -> dict[str, ChosenExamples]:
    """The examples of each question.

    Args:
        questions: what is asked, with unique ids.
        pool: rows to take examples from; those of validation and test splits, and those without a label, are not used.
        shots: how to choose.
        embed: for `nearest`.

    Returns:
        Id of a question -> its examples. There are fewer where the pool has no more.

    Raises:
        UserError: the pool has no usable row for a task and aspect that is asked about.
    """
    groups = _grouped(questions)
    candidates = _grouped(row for row in pool if row.label and row.split in ("train", ""))
    found: dict[str, ChosenExamples] = {}
    for key, asked in groups.items():
        drawn = _drawn(candidates.get(key, []), shots.seed)
        if not drawn:
            name = " ".join(filter(None, key))
            raise UserError(f"--shots-from: holds no labelled training row of {name} to take examples from")
        posts = [_compared(record) for record in asked]
        orders = _by_nearness(posts, drawn, embed) if shots.choice == "nearest" else _the_same(posts, drawn, shots)
        for post, order in zip(posts, orders, strict=True):
            found[post.record.id] = _picked(post, order, shots)
    return found


def shares_post(first: Record, second: Record) -> bool:
    """Whether two records are of one post, or of near-copies of one."""
    return _kept(first).clashes(_kept(second))


def _grouped(records: Iterable[Record]) -> dict[tuple[str, str], list[Record]]:
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.dataset, record.aspect), []).append(record)
    return groups


def _compared(record: Record) -> _Post:
    return _Post(record, record.post_id, shingles_of(folded_words(record.post)))


_kept = lru_cache(maxsize=1024)(_compared)


def _drawn(candidates: Iterable[Record], seed: int) -> list[_Post]:
    """Candidates in the order of a draw that depends on the seed and each one's post alone; one of each post."""
    of_post: dict[str, Record] = {}
    for record in candidates:
        of_post.setdefault(record.post_id, record)
    order = sorted(of_post, key=lambda post: (draw(seed, "shots", post), post))
    return [_compared(of_post[post]) for post in order]


def _the_same(asked: Sequence[_Post], drawn: Sequence[_Post], shots: Shots) -> Iterator[Sequence[_Post]]:
    """One order for all questions: first the examples that every one of them can have."""
    ids = {post.post_id for post in asked}
    room = _room(asked[0].record, shots)
    for_all: list[_Post] = []
    for candidate in drawn:
        label = candidate.record.label
        if room[label] and candidate.post_id not in ids and not any(map(candidate.clashes, asked)):
            for_all.append(candidate)
            _take(room, label, shots)
        if not any(room.values()):
            break
    taken = {post.post_id for post in for_all}
    order = [*for_all, *(post for post in drawn if post.post_id not in taken)]
    return (order for _ in asked)


def _by_nearness(asked: Sequence[_Post], drawn: Sequence[_Post], embed: Embed | None) -> Iterator[Sequence[_Post]]:
    """For each question its own order, the nearest posts first; of equally near ones the first drawn."""
    if embed is None:
        raise ValueError("nearest examples need embeddings")
    vectors_ND = embed([post.record.post for post in (*drawn, *asked)])
    pool_PD, asked_QD = vectors_ND[: len(drawn)], vectors_ND[len(drawn) :]
    for question_D in asked_QD:
        nearest_P = np.argsort(-(pool_PD @ question_D), kind="stable")
        yield [drawn[place] for place in nearest_P]


def _picked(question: _Post, order: Iterable[_Post], shots: Shots) -> ChosenExamples:
    """The first examples of an order that the question can have, in the order of being wanted."""
    room = _room(question.record, shots)
    picked: list[Record] = []
    for candidate in order:
        label = candidate.record.label
        if room[label] and not candidate.clashes(question):
            picked.append(candidate.record)
            _take(room, label, shots)
        if not any(room.values()):
            break
    seen: Counter[str] = Counter()
    rounds = []
    for record in picked:
        rounds.append(seen[record.label])
        seen[record.label] += 1
    return tuple(picked[place] for place in sorted(range(len(picked)), key=lambda place: (rounds[place], place)))


def _room(record: Record, shots: Shots) -> dict[str, int]:
    """Label -> how many more examples of it there may be."""
    labels = record.task.labels
    return dict.fromkeys(labels, shots.per_class * (len(labels) if shots.choice == "random" else 1))


def _take(room: dict[str, int], label: str, shots: Shots) -> None:
    for other in room if shots.choice == "random" else (label,):
        room[other] -= 1


def shown_order(examples: Sequence[Record], choice: Choice) -> Sequence[Record]:
    """Examples as they are shown, given the most wanted first."""
    return examples[::-1] if choice == "nearest" else examples


def distinct(chosen: Mapping[str, ChosenExamples]) -> list[Record]:
    """Every example of any question, once, in the order of their ids."""
    return sorted({record.id: record for each in chosen.values() for record in each}.values(), key=lambda r: r.id)
