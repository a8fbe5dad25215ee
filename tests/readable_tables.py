"""What makes a table readable: at 60, 80 and 120 columns no cell loses a word, and none is cut off."""

import io
import re
from collections.abc import Iterator

from rich.table import Table

from mentallama_jax.foreign import printable
from mentallama_jax.terminal import Console

PRINT = Console.print
WIDTHS = (60, 80, 120)
LINES = re.compile(r"[─━│┃┏┓┗┛┡┩┠┨┬┴┼╇┳┻└┘├┤╞╡═]+")
_LONGEST = 18
"""Longer words, such as paths, may be cut into lines."""


def shown(table: Table, width: int) -> str:
    """The table as a terminal of that width shows it."""
    stream = io.StringIO()
    PRINT(Console(width=width, file=stream), table)
    return stream.getvalue()


def words(text: str) -> list[str]:
    """The words of a shown table."""
    return LINES.sub(" ", text).split()


def assert_readable(table: Table) -> None:
    """Every heading, name and figure is there at every width, and no line is longer."""
    wanted = {word for text in _texts(table) for word in printable(text).split() if len(word) <= _LONGEST}
    for width in WIDTHS:
        text = shown(table, width)
        assert max(map(len, text.splitlines())) <= width, f"{width} columns:\n{text}"
        assert set(LINES.sub(" ", " ".join(wanted)).split()) <= set(words(text)), f"{width} columns:\n{text}"


def _texts(table: Table) -> Iterator[str]:
    for column in table.columns:
        yield str(column.header)
        yield from map(str, column._cells)
