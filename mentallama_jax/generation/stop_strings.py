"""Strings that an answer ends before, in a text that grows token by token."""

from collections.abc import Callable, Sequence

from mentallama_jax.generation.requests import Answer

_HALF = "\ufffd"
"""What tokenizers show for bytes that are not a whole character yet."""
Decode = Callable[[Sequence[int]], str]
"""Tokens to text; later tokens may change no more than `_HALF` at its end."""


def settled(text: str) -> str:
    """The beginning of a text that no further token changes."""
    return text.rstrip(_HALF)


def stop_in(decode: Decode, tokens: Sequence[int], new: int, stops: Sequence[str]) -> tuple[str, int]:
    """The stop string that a growing answer holds, or nothing, and how many tokens it takes to complete it, or all.

    Args:
        decode: tokens to text.
        tokens: of the answer so far.
        new: how many of them are new; the others hold none.
        stops: the answer ends before any of them.
    """
    if stops and _first(decode(tokens), stops):
        for count in range(len(tokens) - new + 1, len(tokens) + 1):
            if found := _first(decode(tokens[:count]), stops):
                return found, count
    return "", len(tokens)


def text_before_stop(decode: Decode, answer: Answer, begun: Sequence[int] = ()) -> str:
    """The text of an answer, its opening in front, cut before the stop string that its last token completes."""
    text = decode([*begun, *answer.tokens])
    if not (stop := answer.stopped_by):
        return text
    before = len(settled(decode([*begun, *answer.tokens[:-1]])))
    place = text.find(stop, max(0, before - len(stop) + 1))
    return text[:place] if place >= 0 else text


def _first(text: str, stops: Sequence[str]) -> str:
    """The stop string that begins first in a text; of those that begin together the longest; or nothing."""
    found = [(text.index(stop), -len(stop), stop) for stop in stops if stop in text]
    return min(found)[2] if found else ""
