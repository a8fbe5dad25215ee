"""Tables from CSV, JSONL, Parquet and Arrow files, with every malformation told in one line."""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.files import read_jsonl
from mentallama_jax.storage import AnyPath, RemotePath

SUFFIXES = (".csv", ".jsonl", ".parquet", ".arrow")


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
        rows: (row number, column -> cell); row 1 is the first data row.
        problems: rows that do not fit the columns.
    """

    columns: tuple[str, ...]
    rows: list[tuple[int, Mapping[str, Any]]]
    problems: list[Problem]


def read_table(path: AnyPath) -> Table:
    """Read a `.csv`, `.jsonl`, `.parquet` or `.arrow` file (of a `datasets` folder) whole.

    CSV is UTF-8 (a byte-order mark is dropped) in strict RFC-4180: doubled quotes, no backslash escapes,
    line breaks inside quoted cells kept as they are.

    Raises:
        UserError: no such file, another suffix, wrong encoding, NUL bytes, not what the suffix says, no rows.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix == ".csv":
        table = _read_csv(path)
    elif suffix == ".jsonl":
        table = table_of_rows(read_jsonl(path, lenient=True))
    elif suffix in SUFFIXES:
        table = table_of_rows(_arrow_rows(path, suffix))
    else:
        raise UserError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}")
    if not table.rows and not table.problems:
        raise UserError(f"{path}: holds no rows")
    return table


def table_of_rows(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Number rows that are mappings already; the columns are the keys of all rows, in order of appearance."""
    numbered = list(enumerate(rows, start=1))
    columns = dict.fromkeys(key for _, row in numbered for key in row)
    return Table(tuple(columns), numbered, [])


def _read_csv(path: AnyPath) -> Table:
    # newline="" keeps the line breaks inside cells; csv itself takes CRLF and LF between rows.
    reader = csv.reader(io.StringIO(_decode(path), newline=""), strict=True)
    number = 0
    rows: list[tuple[int, Mapping[str, Any]]] = []
    problems = []
    try:
        header = next(reader, [])
        names = [name.strip() for name in header]
        repeated = sorted({name for name in names if name and names.count(name) > 1})
        if repeated:
            raise UserError(f"{path}: the header names {', '.join(repeated)} twice")
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


def _decode(path: AnyPath) -> str:
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


def _arrow_rows(path: AnyPath, suffix: str) -> list[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    source = path.open("rb") if isinstance(path, RemotePath) else str(path)
    try:
        if suffix == ".parquet":
            return list(pyarrow.parquet.read_table(source).to_pylist())
        with pyarrow.input_stream(source) as stream:
            return list(pyarrow.ipc.open_stream(stream).read_all().to_pylist())
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a valid {suffix} file ({' '.join(str(error).split())})") from None
