"""The rule-driven step of the paper: a raw table of posts and labels becomes records.

The table (CSV, JSONL, Parquet or Arrow) has the columns `post` and `label`, and may have `explanation`, `aspect`
(MultiWD and IRF ask one question per aspect, a row each), `split` and `id`; others are left alone. A label is
matched by name, without regard to case, full stop, `-` and `_`: the canonical label, its sentence in the instruction
format, its word in the completion format, or an alias of `Task.label_aliases`. Data sets that answer yes or no also
take 1 and true for yes, 0 and false for no. Other numbers are refused: released tables number their classes in
different orders. Columns and cells that a task's file maps (`raw_table`) are read by it.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown_cell
from mentallama_jax.imhi.data_files.sources import SourceFile, split_named
from mentallama_jax.imhi.data_files.table_records import ReadResult, collect, name_cell, row_id, word_cell
from mentallama_jax.imhi.data_files.table_rows import Table, shown_columns
from mentallama_jax.imhi.data_files.tables import read_table
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import Task, task_named
from mentallama_jax.storage import AnyPath, as_path

_BINARY = {"1": "yes", "true": "yes", "0": "no", "false": "no"}
_LOOSE = re.compile(r"[\s_-]+")


def build_records(
    path: str | AnyPath,
    dataset: str,
    split: str = "",
    *,
    aspect: str = "",
    repair_mojibake: bool = False,
    strict: bool = False,
) -> ReadResult:
    """Make records of a raw table; see the module's description for its columns and labels.

    Args:
        path: the table.
        dataset: name or alias of the data set that its rows belong to.
        split: of the rows, where they do not say.
        aspect: of the rows, where they do not say.
        repair_mojibake: undo UTF-8 that was read as MacRoman, in posts and explanations.
        strict: raise at the first bad row.

    Raises:
        UserError: an unknown data set or split, a malformed table, a missing column, no row that can be read, or,
            with `strict`, one that cannot.
    """
    path, task, split = as_path(path), task_named(dataset), split_named(split)
    table = in_our_columns(read_table(path), task)
    for column in ("post", "label", *(["aspect"] if task.aspects and not aspect else [])):
        if column not in table.columns:
            raise UserError(f"{path}: the column {column} is missing (found: {shown_columns(table.columns)})")

    def read_row(row: Mapping[str, Any], file: SourceFile, number: int) -> Record:
        row_split = split_named(word_cell(row, "split")) or split
        return Record(
            id=name_cell(row, "id") or row_id(task, row_split, number),
            dataset=task.name,
            post=word_cell(row, "post"),
            label=match_label(word_cell(row, "label"), task),
            explanation=word_cell(row, "explanation").strip(),
            aspect=match_aspect(word_cell(row, "aspect") or aspect, task),
            split=row_split,
            source=f"{file.name}:{number}",
        )

    file = SourceFile(path, str(path), task, split)
    return collect([(table, file, read_row)], repair_mojibake=repair_mojibake, strict=strict)


def in_our_columns(table: Table, task: Task) -> Table:
    """The table with the columns that the task's file maps under our names; a column with our name stays as it is."""
    theirs = {name: ours for ours, name in task.columns.items() if name in table.columns and ours not in table.columns}
    if not theirs:
        return table
    rows: list[tuple[int, Mapping[str, Any]]] = [
        (number, {theirs.get(name, name): cell for name, cell in row.items()}) for number, row in table.rows
    ]
    return Table(tuple(theirs.get(name, name) for name in table.columns), rows, table.problems)


def match_label(text: str, task: Task) -> str:
    """The canonical label of `task` that a cell means.

    Raises:
        UserError: it means none; the known ones are named.
    """
    label = _spellings(task).get(_loose(text))
    if label is None:
        hint = "; give names, as tables number their classes in different orders" if text.strip().isdigit() else ""
        raise UserError(
            f"{shown_cell(text.strip(), task.labels)} is not a label of {task.name} ({', '.join(task.labels)}){hint}"
        )
    return label


def match_aspect(text: str, task: Task) -> str:
    """The aspect of `task` that a cell means; "" where the task has none and the cell is empty.

    Raises:
        UserError: it means none; the known ones are named.
    """
    known = {_loose(aspect): aspect for aspect in task.aspects}
    if _loose(text) not in known and (text or task.aspects):
        known_ones = ", ".join(task.aspects) or "none"
        raise UserError(f"{shown_cell(text.strip(), task.aspects)} is not an aspect of {task.name} ({known_ones})")
    return known.get(_loose(text), "")


def _loose(text: str) -> str:
    return _LOOSE.sub(" ", text).strip().removesuffix(".").casefold()


@lru_cache(64)
def _spellings(task: Task) -> dict[str, str]:
    named = [(label, label) for label in task.labels]
    named += [(text, label) for table in (task.sentences, task.completion_words) for label, text in table.items()]
    named += [(alias, label) for label, aliases in task.label_aliases.items() for alias in aliases]
    if task.is_yes_no:
        named += list(_BINARY.items())
    named += list(task.raw_labels.items())
    return {_loose(text): label for text, label in named}
