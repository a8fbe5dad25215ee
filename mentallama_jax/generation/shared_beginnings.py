"""Which prompts begin with the same tokens, so that these are read once: few-shot examples, a system's turn."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

_LEAST_SHARED = 64
"""Tokens that are worth reading apart."""
_LEAST_SAVED = 512
"""Tokens that a group need not read again, for it to be worth it: rows of its own leave more of their width empty."""


def shared_beginnings(prompts: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    """The order in which prompts are read.

    Prompts that share a beginning follow one another, so that few beginnings are held at a time. Groups come by their
    longest prompt, and so do the prompts of a group: what does not fit in memory shows at once.

    Yields:
        Place among `prompts`, and how many of its first tokens its group shares; 0 for those that share too little.
    """
    lengths = [len(prompt) for prompt in prompts]
    alphabetic = sorted(range(len(prompts)), key=lambda place: tuple(prompts[place]))
    groups = _groups(prompts, alphabetic)

    def longest_first(place: int) -> tuple[int, int]:
        return -lengths[place], place

    alone = [place for shared, members in groups if not shared for place in members]
    ordered = [(shared, sorted(members, key=longest_first)) for shared, members in groups if shared]
    ordered += [(0, sorted(alone, key=longest_first))] if alone else []
    for shared, members in sorted(ordered, key=lambda group: longest_first(group[1][0])):
        for place in members:
            yield place, shared


def _groups(prompts: Sequence[Sequence[int]], alphabetic: Sequence[int]) -> list[tuple[int, list[int]]]:
    """(shared tokens, members) that save the most reading: a group is kept whole or cut where its members part."""
    common = [_common(prompts[one], prompts[next_]) for one, next_ in pairwise(alphabetic)]
    done: list[tuple[int, list[int]]] = []
    left = [(0, len(alphabetic))]
    while left:
        start, end = left.pop()
        if end - start == 1:
            done.append((0, [alphabetic[start]]))
            continue
        if start == end:
            continue
        # The last token of a prompt is its own: what follows it must be computed.
        shortest = min(len(prompts[alphabetic[place]]) for place in range(start, end)) - 1
        least = min(common[start : end - 1])
        shared = min(least, shortest)
        cuts = [place + 1 for place in range(start, end - 1) if common[place] == least]
        parts = list(zip([start, *cuts], [*cuts, end], strict=True))
        whole = _worth(shared, end - start)
        cut = sum(_saved(prompts, alphabetic, common, part) for part in parts)
        if whole and whole >= cut:
            done.append((shared, list(alphabetic[start:end])))
        elif max(common[start : end - 1]) < _LEAST_SHARED:
            done.append((0, list(alphabetic[start:end])))
        else:
            left += parts
    return done


def _saved(
    prompts: Sequence[Sequence[int]], alphabetic: Sequence[int], common: Sequence[int], part: tuple[int, int]
) -> int:
    """Tokens that need not be read where one part is a group of its own."""
    start, end = part
    if end - start < 2:
        return 0
    shortest = min(len(prompts[alphabetic[place]]) for place in range(start, end)) - 1
    shared = min(*common[start : end - 1], shortest) if end - start > 2 else min(common[start], shortest)
    return _worth(shared, end - start)


def _worth(shared: int, members: int) -> int:
    """Tokens that a group saves; 0 where they are too few."""
    saved = shared * (members - 1)
    return saved if shared >= _LEAST_SHARED and saved >= _LEAST_SAVED else 0


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many first tokens are the same."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
