"""Tables from CSV, JSONL, Parquet and Arrow files; every malformation is one line."""

import csv
import io
import sys
from collections.abc import Mapping
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.files import regular_file
from mentallama_jax.foreign import reading
from mentallama_jax.imhi.data_files.arrow import read_arrow
from mentallama_jax.imhi.data_files.json_values import json_lines
from mentallama_jax.imhi.data_files.table_rows import Problem, Table, check_columns, numbered_table, plain_cell
from mentallama_jax.storage import AnyPath

SUFFIXES = (".csv", ".jsonl", ".parquet", ".arrow")


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
        table = read_csv(path)
    elif suffix == ".jsonl":
        table = _read_jsonl(path)
    elif suffix in SUFFIXES:
        table = read_arrow(path)
    else:
        raise UserError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}")
    if not table.rows and not table.problems:
        raise UserError(f"{path}: holds no rows")
    return table


def read_csv(path: AnyPath, delimiter: str = ",") -> Table:
    """Read a table as text, see `read_table`; `delimiter` stands between the columns. It may hold no rows.

    Raises:
        UserError: as `read_table`.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # of the whole process; its default refuses long posts
    # newline="" keeps the line breaks inside cells; csv itself takes CRLF and LF between rows.
    reader = csv.reader(io.StringIO(text_of(path), newline=""), delimiter=delimiter, strict=True)
    number = 0
    rows: list[tuple[int, Mapping[str, Any]]] = []
    problems = []
    try:
        names = [name.strip() for name in next(reader, [])]
        check_columns(names, path)
        if len(names) == 1 and (signs := [sign for sign in (";", "\t") if sign in names[0]]):
            raise UserError(f"{path}: {_SIGNS[signs[0]]} separate its columns; save it with commas between them")
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


_SIGNS = {";": "semicolons", "\t": "tabs"}


def _read_jsonl(path: AnyPath) -> Table:
    rows: list[tuple[int, Mapping[str, Any]]] = []
    problems = []
    for number, (line, row, problem) in enumerate(json_lines(path), start=1):
        if problem:
            problems.append(Problem(str(path), number, problem))
            continue
        place = f"{path}, line {line}"
        if not isinstance(row, dict):
            raise UserError(f"{place}: expected a JSON object, found {type(row).__name__}")
        check_columns(row, place)
        rows.append((number, {key: plain_cell(cell) for key, cell in row.items()}))
    return numbered_table(rows, problems, path)


def text_of(path: AnyPath) -> str:
    """The text of a UTF-8 file without a byte-order mark.

    Raises:
        UserError: it is no file or cannot be read, is UTF-16, is not UTF-8, or holds a NUL byte.
    """
    regular_file(path)
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
