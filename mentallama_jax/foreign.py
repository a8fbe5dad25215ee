"""Reading bytes that somebody else wrote: whatever a parser raises over them becomes one line that names the file.

Files of models, data and predictions come from strangers. They can be cut off, nested a million deep, hold numbers of
five thousand digits, or text that is not text. Wrap each call of a parser in `reading`, parse JSON with `parse_json`,
and put foreign names and cells into messages by way of `shown` and `shown_cell` only.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from mentallama_jax.errors import UserError

_LONGEST_NAME = 60
_LONGEST_CELL = 24
_NEAR = 0.6
_MOST_DIGITS = 300  # more would not fit a float
_LONGEST_LINE = 300
_TAIL = 90
# What a terminal may obey, or what turns the direction of the text; line breaks and tabs stay.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


@contextmanager
def reading(place: object, form: str, *, may_hold_posts: bool = False) -> Iterator[None]:
    """Turn what a parser raises inside the block into a `UserError` that begins with `place`.

    Args:
        place: the file, and the line, row or tensor where that is known.
        form: what the bytes should be, such as "JSON" or "Parquet".
        may_hold_posts: leave the parser's own words out, as they may quote a post.

    Raises:
        UserError: the block raised something. A `UserError` of the block, and a missing file, pass as they are.
    """
    try:
        yield
    except (UserError, FileNotFoundError):
        raise
    except OSError as error:
        raise UserError(f"{place}: cannot be read ({error.strerror or type(error).__name__})") from None
    except Exception as error:
        raise UserError(f"{place}: not valid {form} ({_reason(error, may_hold_posts)})") from None


def parse_json(
    content: bytes | str,
    place: object,
    *,
    allow_nan: bool = False,
    allow_surrogates: bool = False,
    may_hold_posts: bool = False,
) -> Any:
    """The value of a JSON text, strictly.

    Args:
        content: the text, or its UTF-8 bytes.
        place: what to name in errors.
        allow_nan: take `NaN` and `Infinity`, which are no JSON but which many programs write.
        allow_surrogates: take halves of surrogate pairs, which cannot be written as UTF-8.
        may_hold_posts: leave the parser's own words out of errors.

    Raises:
        UserError: not JSON, a key twice in one object, a number that is not finite (unless allowed) or too long, half
            of a surrogate pair (unless allowed), or nested too deeply.
    """
    with reading(place, "JSON", may_hold_posts=may_hold_posts):
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content

        def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            found = dict(pairs)
            if len(found) < len(pairs):
                seen: set[str] = set()
                twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
                raise UserError(f"{place}: the key {shown_cell(twice)} stands twice in one object")
            return found

        def constant(name: str) -> float:
            if not allow_nan:
                raise UserError(f"{place}: {name} is not a number that JSON knows")
            return float(name)

        def number(digits: str) -> float:
            value = float(digits)
            if not math.isfinite(value):
                raise UserError(f"{place}: a number is too large")
            return value

        def integer(digits: str) -> int:
            if len(digits) > _MOST_DIGITS:
                raise UserError(f"{place}: a number of {len(digits):,} digits is too large")
            return int(digits)

        value = json.loads(
            text, object_pairs_hook=members, parse_constant=constant, parse_float=number, parse_int=integer
        )
        if not allow_surrogates and _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def shown(name: object, limit: int = _LONGEST_NAME) -> str:
    """A foreign name for a message: quoted, control characters escaped, cut where long. Never for cells of data."""
    text = str(name)
    if len(text) > limit:
        return f"{text[:limit]!r}... ({len(text)} characters)"
    return repr(text)


def shown_cell(cell: object, known: Iterable[str] = ()) -> str:
    """A cell of data for a message: quoted where it is one word, or near a known name; else its length alone.

    A post can be as short as "I give up", so several words are shown only where they look like one of `known`.
    """
    from difflib import get_close_matches

    text = str(cell)
    if len(text) <= _LONGEST_CELL:
        near = get_close_matches(text.lower(), [name.lower() for name in known], n=1, cutoff=_NEAR)
        if len(text.split()) <= 1 or near:
            return repr(text)
    return f"(a text of {len(text):,} characters)"


def shown_tensor(name: str) -> str:
    """A tensor's name for a message: as it is where it looks like one, else made safe."""
    return name if re.fullmatch(r"[\w.-]{1,120}", name, re.ASCII) else shown(name)


def printable(text: str) -> str:
    """A text of strangers for the terminal: control characters are shown by their codes, such as `\\x1b`."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def holds_half_pair(text: str) -> bool:
    """Whether a text holds half of a surrogate pair, which UTF-8 cannot write."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def one_line(message: object, limit: int = _LONGEST_LINE) -> str:
    """A message on one line: control characters are shown by their codes, and a long middle is left out."""
    line = printable(" ".join(str(message).split()))
    return line if len(line) <= limit else f"{line[: limit - _TAIL - 5]} ... {line[-_TAIL:]}"


def _reason(error: Exception, may_hold_posts: bool) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}, column {error.colno}: {error.msg}"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    if isinstance(error, UnicodeEncodeError):
        return "half of a surrogate pair"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    if may_hold_posts or not str(error):
        return type(error).__name__
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {shown(words, 160)}"
