"""Tables from CSV, JSONL, Parquet and Arrow files; every malformation is one line."""

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import parse_json, reading, shown_cell
from mentallama_jax.storage import AnyPath

SUFFIXES = (".csv", ".jsonl", ".parquet", ".arrow")

MOST_COLUMNS = 256
"""A table of records has about ten; one with more than these is no such table, and slow to look at."""

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


def read_table(path: AnyPath) -> Table:
    """Read a `.csv`, `.jsonl`, `.parquet` or `.arrow` file (of a `datasets` folder) whole; suffixes in any case.

    CSV is UTF-8 (a byte-order mark is dropped) in strict RFC-4180: doubled quotes, no backslash escapes,
    line breaks inside quoted cells kept as they are. Cells may be of any length.

    Raises:
        UserError: no such file, another suffix, wrong encoding, NUL bytes, not what the suffix says, a column twice,
            too many columns, no rows.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix == ".csv":
        table = _read_csv(path)
    elif suffix == ".jsonl":
        table = _read_jsonl(path)
    elif suffix in SUFFIXES:
        from mentallama_jax.imhi.arrow import read_arrow

        table = read_arrow(path)
    else:
        raise UserError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}")
    if not table.rows and not table.problems:
        raise UserError(f"{path}: holds no rows")
    return table


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
    return _numbered_table(numbered, [], place)


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
    safe = [(name, shown_cell(name)) for name in listed[:_SHOWN_COLUMNS]]
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


def _numbered_table(rows: list[tuple[int, Mapping[str, Any]]], problems: list[Problem], place: object) -> Table:
    columns = dict.fromkeys(key for _, row in rows for key in row)
    if len(columns) > MOST_COLUMNS:
        check_columns(columns, place)
    return Table(tuple(columns), rows, problems)


def _read_csv(path: AnyPath) -> Table:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # of the whole process; its default refuses long posts
    # newline="" keeps the line breaks inside cells; csv itself takes CRLF and LF between rows.
    reader = csv.reader(io.StringIO(_decode(path), newline=""), strict=True)
    number = 0
    rows: list[tuple[int, Mapping[str, Any]]] = []
    problems = []
    try:
        names = [name.strip() for name in next(reader, [])]
        check_columns(names, path)
        for cells in reader:
            if not cells:
                continue
            number += 1
            if len(cells) == len(names):
                rows.append((number, {name: cell for name, cell in zip(names, cells, strict=True) if name}))
            else:
                problems.append(Problem(str(path), number, f"{len(cells)} cells under {len(names)} columns"))
    except csv.Error as error:
        what = f"not valid CSV ({error}); is the file whole and its quoting right?"
        raise UserError(f"{path}, row {number + 1}: {what}") from None
    return Table(tuple(name for name in names if name), rows, problems)


def _read_jsonl(path: AnyPath) -> Table:
    rows: list[tuple[int, Mapping[str, Any]]] = []
    problems = []
    number = 0
    for line_number, line in _lines(path):
        number += 1
        place = f"{path}, line {line_number}"
        try:
            row = parse_json(line, place, allow_nan=True, may_hold_posts=True)
        except UserError as error:
            if not _is_json(line):
                raise
            problems.append(Problem(str(path), number, str(error).removeprefix(f"{place}: ")))
            continue
        if not isinstance(row, dict):
            raise UserError(f"{place}: expected a JSON object, found {type(row).__name__}")
        check_columns(row, place)
        rows.append((number, {key: plain_cell(cell) for key, cell in row.items()}))
    return _numbered_table(rows, problems, path)


def _lines(path: AnyPath) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, numbered from 1; a byte-order mark is dropped."""
    with reading(path, "JSONL", may_hold_posts=True), path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if text.strip():
                yield number, text


def _is_json(line: bytes) -> bool:
    """Whether a line is an object of JSON as other programs read it: then one row is bad, not the file."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _decode(path: AnyPath) -> str:
    with reading(path, "CSV", may_hold_posts=True):
        raw = path.read_bytes()
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path}: is UTF-16; save it as UTF-8")
    if b"\0" in raw:
        line = _line_of(raw, raw.index(0))
        raise UserError(f"{path}, line {line}: holds a NUL byte; it is not a text file or is damaged")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}, line {_line_of(raw, error.start)}: is not UTF-8; save it as UTF-8") from None


def _line_of(raw: bytes, offset: int) -> int:
    return raw.count(b"\n", 0, offset) + 1
