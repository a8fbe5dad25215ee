"""From tables to records, whatever the layout: bad rows counted, texts checked and repaired, ids made unique."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, count
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import holds_half_pair, shown_cell
from mentallama_jax.imhi.data_files import cleaning
from mentallama_jax.imhi.data_files.sources import SourceFile
from mentallama_jax.imhi.data_files.table_rows import Problem, Table, Unread
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import Task
from mentallama_jax.storage import AnyPath

_LONGEST_NAME, _MOST_WORDS = 24, 3
_PLACE = re.compile(r".{1,300}\.(?:csv|jsonl|parquet|arrow):\d+", re.IGNORECASE)
_LONGEST_WORD = 200

RowReader = Callable[[Mapping[str, Any], SourceFile, int], Record]
"""Makes the record of a row, given its cells, its file and its number; a `UserError` says why it cannot."""


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What was read.

    Attributes:
        records: in the order of sources and rows; ids are unique (a repeated id gets `#2`, `#3`, ...).
        problems: rows that could not be read.
        passed_over: files that folders hold besides: the same rows in another wording, or no records.
    """

    records: list[Record] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    passed_over: list[AnyPath] = field(default_factory=list)


def collect(
    tables: Iterable[tuple[Table, SourceFile, RowReader]],
    *,
    repair_mojibake: bool,
    strict: bool,
    need_labels: bool = True,
) -> ReadResult:
    """Read the rows of several tables.

    Args:
        tables: each with its place and with what makes records of its rows.
        repair_mojibake: mend the texts.
        strict: raise at the first bad row.
        need_labels: a row without a label is a bad row.

    Raises:
        UserError: no row of a table can be read, or, with `strict`, one cannot.
    """
    result = ReadResult()
    taken: set[str] = set()
    for table, file, read_row in tables:
        records, problems = _rows(table, file, read_row, need_labels)
        if problems and strict:
            raise UserError(str(problems[0]))
        if not records:
            raise UserError(f"{problems[0]}; no row of the file can be read ({len(problems)} are bad)")
        result.problems.extend(problems)
        for record in records:
            if not file.wanted or record.split in file.wanted:
                result.records.append(_unique(_repaired(record) if repair_mojibake else record, taken))
    return result


def row_id(task: Task, part: str, number: int) -> str:
    """The id of a row that comes without one, such as `DR/train/17`."""
    return f"{task.name}/{part}/{number}" if part else f"{task.name}/{number}"


def text_cell(row: Mapping[str, Any], column: str) -> str:
    """The text in a column.

    Raises:
        UserError: there is none.
    """
    value = row.get(column)
    if not isinstance(value, str):
        raise UserError(f"{column} is missing" if value is None else f"{column} must be a text, not {_kind(value)}")
    return value


def word_cell(row: Mapping[str, Any], column: str) -> str:
    """What a column holds as text, "" where nothing: JSONL and Parquet have numbers and booleans.

    Raises:
        UserError: a list, a date or another thing that has no one spelling.
    """
    value = row.get(column)
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a column of whole numbers with gaps is a column of floats to pandas
    if not isinstance(value, str | int | float):
        raise UserError(f"{column} must be a text, not {_kind(value)}")
    return str(value)


def name_cell(row: Mapping[str, Any], column: str) -> str:
    """The name of a row or of its place, "" where none. Reports and logs show names, so it must not be a post.

    Raises:
        UserError: it may be one: several words and no place such as `file.csv:17`.
    """
    name = word_cell(row, column)
    is_word = len(name) <= _LONGEST_WORD and not any(map(str.isspace, name))
    is_short = len(name) <= _LONGEST_NAME and len(name.split()) <= _MOST_WORDS
    if not (is_word or is_short or _PLACE.fullmatch(name)):
        raise UserError(f"{column} is {shown_cell(name)}; a name of one word was expected")
    return name


def _kind(value: Any) -> str:
    return value.kind if isinstance(value, Unread) else type(value).__name__


def _rows(table: Table, file: SourceFile, read_row: RowReader, need_labels: bool) -> tuple[list[Record], list[Problem]]:
    records = []
    problems = list(table.problems)
    for number, row in table.rows:
        try:
            record = read_row(row, file, number)
            _check_texts(record)
            if need_labels and not record.label:
                raise UserError("label is missing")
        except UserError as error:
            # A record names its own source, which the problem names too.
            problems.append(Problem(file.name, number, str(error).removeprefix(f"{file.name}:{number}: ")))
        else:
            records.append(record)
    return records, sorted(problems, key=lambda problem: problem.row)


def _check_texts(record: Record) -> None:
    if not record.post.strip():
        raise UserError("the post is empty")
    if holds_half_pair(record.id + record.post + record.explanation):
        raise UserError("the text holds half a character (a lone surrogate)")


def _repaired(record: Record) -> Record:
    post, explanation = cleaning.repair_mojibake(record.post), cleaning.repair_mojibake(record.explanation)
    return replace(record, post=post, explanation=explanation)


def _unique(record: Record, taken: set[str]) -> Record:
    spellings = chain([record.id], (f"{record.id}#{number}" for number in count(2)))
    unused = next(spelling for spelling in spellings if spelling not in taken)
    taken.add(unused)
    return record if unused == record.id else replace(record, id=unused)
