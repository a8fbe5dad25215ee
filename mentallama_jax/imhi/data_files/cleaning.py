"""What went wrong with text on its way into a file: mojibake, which can be undone, and spreadsheet errors."""

import re


def _shown(first: int, last: int) -> str:
    """A class of the characters that MacRoman shows for bytes from `first` to `last`."""
    return f"[{bytes(range(first, last + 1)).decode('mac_roman')}]"


_REST = _shown(0x80, 0xBF)
# Two bytes: Latin-1 alone, as what others look like (an opening quote before an accent) occurs in honest text.
_MOJIBAKE = re.compile(f"{_shown(0xC2, 0xC3)}{_REST}|{_shown(0xE0, 0xEF)}{_REST}{{2}}|{_shown(0xF0, 0xF4)}{_REST}{{3}}")
"""A character of two, three (`‚Äô` for an apostrophe) or four bytes of UTF-8, read as MacRoman."""

_SPREADSHEET_ERRORS = frozenset(
    ("#NAME?", "#REF!", "#VALUE!", "#DIV/0!", "#N/A", "#NULL!", "#NUM!", "#ERROR!", "#SPILL!", "#CALC!")
)


def has_mojibake(text: str) -> bool:
    """Whether UTF-8 that was read as MacRoman stands in a text."""
    return not text.isascii() and _MOJIBAKE.search(text) is not None


def repair_mojibake(text: str) -> str:
    """Undo the reading of UTF-8 as MacRoman, of the whole text or not at all.

    A text without the marks of it, or that is not UTF-8 throughout when written as MacRoman again, stays as it is.
    """
    if not has_mojibake(text):
        return text
    try:
        return text.encode("mac_roman").decode("utf-8")
    except UnicodeError:
        return text


def is_spreadsheet_error(text: str) -> bool:
    """Whether a spreadsheet put an error such as `#NAME?` in the place of a text (one that began with `=` or `-`)."""
    return text.strip().upper() in _SPREADSHEET_ERRORS
