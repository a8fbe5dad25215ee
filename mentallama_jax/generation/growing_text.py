"""The text of tokens that come one after another: each step decodes the last few of them, not all."""

from collections.abc import Callable, Sequence

_HALF = "\ufffd"
"""What tokenizers show for bytes that are not a whole character yet."""
_MOST_OPEN = 32
"""Tokens that are decoded again at each step at most, where no character is whole for long."""
_RESOLVED = 4
"""Characters behind which no byte belongs to a character any more, which has at most as many bytes."""
Decode = Callable[[Sequence[int]], str]
"""Tokens to text; later tokens may change no more than `_HALF` at its end."""


def settled(text: str) -> str:
    """The beginning of a text that no further token changes."""
    return text.rstrip(_HALF)


class GrowingText:
    """The text of tokens, as decoding all of them together gives it.

    Tokens whose text is whole are decoded once more, in front of those that follow: so a blank that a decoder drops at
    the start of a text is dropped at the start of the whole alone.

    Attributes:
        so_far: the text of all tokens so far.
    """

    def __init__(self, decode: Decode) -> None:
        """Begin with no token."""
        self._decode = decode
        self._before: tuple[int, ...] = ()
        self._open: tuple[int, ...] = ()
        self._whole = self.so_far = ""

    def add(self, tokens: Sequence[int]) -> str:
        """The text of all tokens so far, with these behind them."""
        self._open = (*self._open, *tokens)
        new = self._behind(self._open)
        self.so_far = self._whole + new
        if new and not new.endswith(_HALF):
            self._settle(len(self._open), new)
        elif len(self._open) > _MOST_OPEN:
            for count in range(_MOST_OPEN // 2, _MOST_OPEN // 2 + _RESOLVED):
                text = self._behind(self._open[:count])
                if new.startswith(text) and len(new) >= len(text) + _RESOLVED:
                    self._settle(count, text)
                    break
        return self.so_far

    def _behind(self, tokens: Sequence[int]) -> str:
        """The text of tokens behind those that are settled."""
        return self._decode([*self._before, *tokens])[len(self._decode(self._before)) :]

    def _settle(self, count: int, text: str) -> None:
        self._before, self._open = self._open[:count], self._open[count:]
        self._whole += text
