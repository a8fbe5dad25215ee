"""Strings that an answer ends before, in a text that grows token by token."""

from collections.abc import Sequence
from copy import copy
from typing import Protocol

from mentallama_jax.generation.growing_text import Decode, GrowingText, settled
from mentallama_jax.generation.requests import Answer


class StopSearch:
    """Looks for stop strings in one answer as it grows."""

    def __init__(self, decode: Decode, stops: Sequence[str]) -> None:
        """Begin an answer.

        Args:
            decode: tokens to text.
            stops: the answer ends before any of them.
        """
        self._text, self._stops = GrowingText(decode), tuple(stops)

    def add(self, tokens: Sequence[int]) -> tuple[str, int]:
        """The stop string that new tokens complete, or nothing, and how many of them do so, or all.

        Those before hold none.
        """
        one_by_one = copy(self._text)
        if _first(self._text.add(tokens), self._stops):
            for count, token in enumerate(tokens, 1):
                if found := _first(one_by_one.add([token]), self._stops):
                    return found, count
        return "", len(tokens)


class Ended(Protocol):
    """What was written to some end."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """The end token included where there is one."""

    @property
    def ended(self) -> bool:
        """Whether the last token is an end token."""


def without_end(answer: Ended) -> tuple[int, ...]:
    """The tokens of an answer but the one that ends it: a tokenizer shows it as text where its files do not hide it."""
    return answer.tokens[: len(answer.tokens) - answer.ended]


def text_before_stop(decode: Decode, answer: Answer, begun: Sequence[int] = ()) -> str:
    """The text of an answer, its opening in front, cut before the stop string that its last token completes."""
    text = decode([*begun, *without_end(answer)])
    if not (stop := answer.stopped_by):
        return text
    before = len(settled(decode([*begun, *answer.tokens[:-1]])))
    place = text.find(stop, max(0, before - len(stop) + 1))
    return text[:place] if place >= 0 else text


def _first(text: str, stops: Sequence[str]) -> str:
    """The stop string that begins first in a text; of those that begin together the longest; or nothing."""
    found = [(text.index(stop), -len(stop), stop) for stop in stops if stop in text]
    return min(found)[2] if found else ""
