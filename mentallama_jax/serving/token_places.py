"""Where the text of each token of an answer begins."""

from codecs import getincrementaldecoder

from mentallama_jax.generation.growing_text import Decode, GrowingText
from mentallama_jax.serving.service import ServedTokenizer

_UTF8 = getincrementaldecoder("utf-8")


class TokenPlaces:
    """Places in the text of one answer; tokens that spell a character together are all at its place."""

    def __init__(self, tokenizer: ServedTokenizer, decode: Decode) -> None:
        """Begin an answer.

        Args:
            tokenizer: knows the bytes of tokens.
            decode: tokens to the text that places are counted in.
        """
        self._bytes_of, self._special = tokenizer.token_bytes, frozenset(tokenizer.special_ids)
        self._text, self._characters = GrowingText(decode), _UTF8("replace")
        self._place = 0

    def add(self, token: int) -> int:
        """The place of the next token."""
        if not self._goes_on(b"" if token in self._special else self._bytes_of(token)):
            self._place = len(self._text.so_far)
        self._text.add([token])
        return self._place

    def _goes_on(self, added: bytes) -> bool:
        """Whether bytes go on with a character that those before them began."""
        begun = self._characters.getstate()[0]
        self._characters.decode(added)
        try:
            _UTF8().decode(begun + added[:1])
        except UnicodeDecodeError:  # what was begun is no character
            return False
        return bool(begun)
