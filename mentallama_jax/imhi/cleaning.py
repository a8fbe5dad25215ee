"""What went wrong with text on its way into a file: mojibake, which can be undone, and spreadsheet errors."""

import re

# Bytes 0x80 to 0xBF, which go on a character in UTF-8, as MacRoman shows them.
_REST = f"[{bytes(range(0x80, 0xC0)).decode('mac_roman')}]"
_MOJIBAKE = re.compile(f"[¬√]{_REST}|‚{_REST}{{2}}|\uf8ff{_REST}{{3}}")
"""UTF-8 read as MacRoman: a character of Latin-1, of punctuation and symbols (`‚Äô` for an apostrophe), an emoji."""

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
