"""A post as a row of words, of which some are deleted or kept alone.

A word keeps the white space behind it, so the words of a post, joined, are the post. What is deleted and what is kept
make it up together. Variants are stripped at both ends, as white space there would be a change of its own.
"""

import re
from collections.abc import Collection, Iterable, Sequence

import numpy as np

_PIECE = re.compile(r"\S+\s*")

Run = tuple[int, int]
"""Words from the first number up to the second, which is not in it."""


def words_of(post: str) -> list[str]:
    """The words of a post, each with the white space behind it; what stands before the first belongs to it."""
    pieces = _PIECE.findall(post)
    blank = len(post) - len(post.lstrip())
    if pieces and blank:
        pieces[0] = post[:blank] + pieces[0]
    return pieces


def without(words: Sequence[str], deleted: Iterable[Run]) -> str:
    """The post with runs of words deleted."""
    gone = places(deleted)
    return "".join(word for place, word in enumerate(words) if place not in gone).strip()


def alone(words: Sequence[str], kept: Iterable[Run]) -> str:
    """The post with nothing but runs of its words."""
    left = places(kept)
    return "".join(word for place, word in enumerate(words) if place in left).strip()


def places(runs: Iterable[Run]) -> set[int]:
    """The numbers of the words of runs."""
    return {place for start, stop in runs for place in range(start, stop)}


def runs_of(numbers: Collection[int]) -> tuple[Run, ...]:
    """The longest runs that cover these numbers of words and no others."""
    runs: list[Run] = []
    for place in sorted(set(numbers)):
        if runs and runs[-1][1] == place:
            runs[-1] = (runs[-1][0], place + 1)
        else:
            runs.append((place, place + 1))
    return tuple(runs)


def covering(words: Sequence[str], stretches: Collection[tuple[int, int]]) -> tuple[Run, ...]:
    """The runs of whole words that stretches of characters [start, stop) of the post touch."""
    touched: set[int] = set()
    begin = 0
    for place, word in enumerate(words):
        first, last = begin + len(word) - len(word.lstrip()), begin + len(word.rstrip())
        if any(first < stop and start < last for start, stop in stretches):
            touched.add(place)
        begin += len(word)
    return runs_of(touched)


def random_runs(number: int, runs: Sequence[Run], generator: np.random.Generator) -> tuple[Run, ...]:
    """As many runs of the same lengths at random places of a post of `number` words.

    Every order of the runs, and every way to share out the words between them, is equally likely. Runs may touch.
    """
    lengths = [stop - start for start, stop in runs]
    rest = number - sum(lengths)
    if rest < 0:
        raise ValueError(f"runs of {sum(lengths)} words do not fit into {number}")
    order = generator.permutation(len(lengths))
    # Among the words outside and the runs, in a row: where do the runs stand?
    stands = np.sort(generator.choice(rest + len(lengths), size=len(lengths), replace=False))
    found: list[Run] = []
    before = 0
    for turn, (stand, which) in enumerate(zip(stands, order, strict=True)):
        start = int(stand) - turn + before
        found.append((start, start + lengths[which]))
        before += lengths[which]
    return tuple(found)
