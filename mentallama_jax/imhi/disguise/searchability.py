"""How much of a text can still be found word by word: the longest run of words that it shares with its original."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mentallama_jax.imhi.disguise.pseudonyms import folded

RUN_WORDS = 8
"""Words in a row with which a search engine mostly finds a page: what is counted by default."""

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
_EDGES = (0, 4, 8, 12, 20, 40, 80, 160)


def longest_run(before: str, after: str) -> int:
    """Words of the longest run that stands in both texts, without regard to case and marks."""
    first, second = words_of(before), words_of(after)
    low, high = 0, min(len(first), len(second))
    # A run of n words holds one of n - 1, so that the longest is found by halving.
    while low < high:
        middle = (low + high + 1) // 2
        there = {tuple(first[at : at + middle]) for at in range(len(first) - middle + 1)}
        if any(tuple(second[at : at + middle]) in there for at in range(len(second) - middle + 1)):
            low = middle
        else:
            high = middle - 1
    return low


def words_of(text: str) -> list[str]:
    """The words of a text as they are compared."""
    return _WORD.findall(folded(text).replace("’", "'"))


@dataclass(frozen=True, slots=True)
class RunFigures:
    """The longest runs of some posts, in words.

    Attributes:
        posts: how many there are.
        at_least: words of a run that counts as searchable.
        searchable: posts with such a run.
        quantiles: share of posts -> the run that this share of posts does not exceed; the longest beside them.
        histogram: runs, such as `4-7` -> posts.
    """

    posts: int
    at_least: int
    searchable: int
    quantiles: Mapping[str, int]
    histogram: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """The figures as a JSON object."""
        return asdict(self)


def run_figures(runs: Sequence[int], at_least: int = RUN_WORDS) -> RunFigures:
    """The figures of longest runs, one a post."""
    ordered = sorted(runs)
    last = len(ordered) - 1
    quantiles = {f"{share:.0%}": ordered[round(share * last)] for share in _SHARES} if ordered else {}
    if ordered:
        quantiles["longest"] = ordered[-1]
    histogram = {}
    for low, high in zip(_EDGES, (*_EDGES[1:], None), strict=True):
        name = f"{low}-{high - 1}" if high else f"{low} and more"
        histogram[name] = sum(low <= run and (high is None or run < high) for run in ordered)
    return RunFigures(len(ordered), at_least, sum(run >= at_least for run in ordered), quantiles, histogram)
