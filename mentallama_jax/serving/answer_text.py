"""The text of an answer as it grows, token by token: what can still change, or be cut off, is held back."""

from collections.abc import Sequence

from mentallama_jax.generation.growing_text import Decode, GrowingText, settled
from mentallama_jax.generation.requests import Answer
from mentallama_jax.generation.stop_strings import text_before_stop


class AnswerText:
    """The text of one answer. All pieces that `add` returns, joined, are its whole text."""

    def __init__(self, decode: Decode, stops: Sequence[str] = (), blank: str = "") -> None:
        """Begin with nothing.

        Args:
            decode: tokens to text.
            stops: the answer ends before any of them.
            blank: what the prompt's style puts before an answer; it is left out.
        """
        self._decode, self._stops, self._blank = decode, tuple(stops), blank
        self._growing, self._given = GrowingText(decode), ""

    def add(self, tokens: Sequence[int], answer: Answer | None = None) -> str:
        """The text that new tokens add for sure; with `answer`, which is complete, all that is left."""
        if answer is not None:
            whole = self._without_blank(text_before_stop(self._decode, answer))
        else:
            whole = self._settled(self._growing.add(tokens))
        if not whole.startswith(self._given):  # a decoder that changed earlier text: wait for the end
            return whole[len(self._given) :] if answer is not None else ""
        return self._new_of(whole)

    def rest(self) -> str:
        """What was held back, where no more tokens come although the answer is not complete."""
        return self._new_of(self._without_blank(settled(self._growing.so_far)))

    def _new_of(self, whole: str) -> str:
        new = whole[len(self._given) :]
        self._given += new
        return new

    @property
    def so_far(self) -> str:
        """The text that was given."""
        return self._given

    def _settled(self, text: str) -> str:
        """The beginning of a text that no further token changes."""
        text = settled(text)
        kept = max((_overlap(text, stop) for stop in self._stops), default=0)
        text = text[: len(text) - kept]
        if len(text) <= len(self._blank) and self._blank.startswith(text):
            return ""
        return self._without_blank(text)

    def _without_blank(self, text: str) -> str:
        return text.removeprefix(self._blank)


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of a text that a stop string may begin with."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
