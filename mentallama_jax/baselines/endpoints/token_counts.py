"""Counts the tokens of texts with a tokenizer of the user's, so that the bound of cost is near the cost."""

from collections.abc import Callable
from pathlib import Path

from mentallama_jax.errors import UserError
from mentallama_jax.files import regular_file
from mentallama_jax.foreign import reading

FILE = "tokenizer.json"


def token_counter(place: Path) -> Callable[[str], int]:
    """A function from a text to its number of tokens.

    Args:
        place: a tokenizer.json, or a folder that holds one.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    from tokenizers import Tokenizer

    file = place / FILE if place.is_dir() else place
    regular_file(file)
    with reading(file, "tokenizer.json"):
        tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(text: str) -> int:
        try:
            return len(tokenizer.encode(text, add_special_tokens=False).ids)
        except Exception as error:
            raise UserError(f"{file}: cannot encode a text ({type(error).__name__})") from None

    return count
