"""The rows of one table, whatever file or memory they come from: cells as plain Python, columns within bounds."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown_cell

MOST_COLUMNS = 256
"""A table of records has about ten; one with more than these is no such table, and slow to look at."""

_COLUMNS = ("post text", "post id", "user id", "created at", "label name", "query text", "gold label")
"""Names of columns in tables that people make."""
_SHOWN_COLUMNS = 8


@dataclass(frozen=True, slots=True)
class Problem:
    """A row that could not be read.

    Attributes:
        file: path as given, or the name of a data set in memory.
        row: 1 is the first data row.
        reason: what is wrong with it; never quotes a post.
    """

    file: str
    row: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one file.

    Attributes:
        columns: column names in order, unnamed ones left out.
        rows: (row number, column -> cell); row 1 is the first data row. A cell without a value is None.
        problems: rows that do not fit the columns, or that cannot be read.
    """

    columns: tuple[str, ...]
    rows: list[tuple[int, Mapping[str, Any]]]
    problems: list[Problem]


@dataclass(frozen=True, slots=True)
class Unread:
    """A cell of a type that no column of records has, such as a date or a list; `kind` says which."""

    kind: str


def table_of_rows(rows: Iterable[Mapping[str, Any]], place: object) -> Table:
    """Number rows that are mappings already; the columns are the keys of all rows, in order of appearance.

    Raises:
        UserError: a row is no mapping, or has too many keys; `place` names it.
    """
    numbered: list[tuple[int, Mapping[str, Any]]] = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise UserError(f"{place}, row {number}: expected columns with cells, found {type(row).__name__}")
        check_columns(row, f"{place}, row {number}")
        numbered.append((number, {key: plain_cell(cell) for key, cell in row.items()}))
    return numbered_table(numbered, [], place)


def check_columns(names: Collection[str], place: object) -> None:
    """Refuse a table with too many columns, or with a column twice.

    Raises:
        UserError: it is one.
    """
    if len(names) > MOST_COLUMNS:
        raise UserError(f"{place}: has {len(names):,} columns; a table of records has at most {MOST_COLUMNS:,}")
    repeated = [name for name, count in Counter(iter(names)).items() if name and count > 1]
    if repeated:
        raise UserError(f"{place}: names the column {shown_columns(repeated)} twice; keep one of them")


def shown_columns(names: Iterable[str]) -> str:
    """Names of columns for a message. Where a header is missing, posts stand in its place: long names are not shown."""
    listed = list(names)
    safe = [(name, shown_cell(name, _COLUMNS)) for name in listed[:_SHOWN_COLUMNS]]
    shown = [name if cell == f"'{name}'" else cell for name, cell in safe]
    more = f" and {len(listed) - _SHOWN_COLUMNS:,} more" if len(listed) > _SHOWN_COLUMNS else ""
    return ", ".join(shown) + more if shown else "none"


def plain_cell(cell: Any) -> Any:
    """A cell as plain Python has it: None where there is no value (NaN, NaT and pandas' NA are none)."""
    if isinstance(cell, float):
        return None if cell != cell else cell  # numpy's float64 is a float too
    kind = type(cell)
    if kind.__module__.startswith("pandas.") and kind.__name__ in ("NAType", "NaTType"):
        return None
    if kind.__module__ == "numpy" and getattr(cell, "ndim", 1) == 0:
        return plain_cell(cell.item())
    return cell


def numbered_table(rows: list[tuple[int, Mapping[str, Any]]], problems: list[Problem], place: object) -> Table:
    """A table of rows that have their numbers; its columns are the keys of all rows, in order of appearance.

    Raises:
        UserError: there are too many columns.
    """
    columns = dict.fromkeys(key for _, row in rows for key in row)
    if len(columns) > MOST_COLUMNS:
        check_columns(columns, place)
    return Table(tuple(columns), rows, problems)
