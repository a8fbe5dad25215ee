"""The rule-driven step of the paper: a raw table of posts and labels becomes records.

The table (CSV, JSONL, Parquet or Arrow) has the columns `post` and `label`, and may have `explanation`, `aspect`
(MultiWD and IRF ask one question per aspect, a row each), `split` and `id`; others are left alone. A label is
matched by name, without regard to case, full stop, `-` and `_`: the canonical label, its sentence in the instruction
format, its word in the completion format, or an alias of `Task.label_aliases`. Data sets that answer yes or no also
take 1 and true for yes, 0 and false for no. Other numbers are refused: released tables number their classes in
different orders. Columns and cells that a task's file maps (`raw_table`) are read by it.

Instead of these columns, a table may have those of Alpaca (`instruction,input,output`), of ShareGPT (`conversations`)
or `messages`: see `raw_forms`. `columns` gives other names of columns, `labels` other cells for labels.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown_cell
from mentallama_jax.imhi.data_files.column_roles import in_roles
from mentallama_jax.imhi.data_files.json_values import json_rows
from mentallama_jax.imhi.data_files.label_mapping import LabelMapping
from mentallama_jax.imhi.data_files.raw_forms import RawForm, form_of, gold_of, raw_row
from mentallama_jax.imhi.data_files.sources import SourceFile, find_files, split_named
from mentallama_jax.imhi.data_files.table_records import ReadResult, RowReader, collect, name_cell, row_id, word_cell
from mentallama_jax.imhi.data_files.table_rows import (
    Problem,
    Table,
    check_columns,
    numbered_table,
    plain_cell,
    shown_columns,
)
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import Task, task_named
from mentallama_jax.storage import AnyPath

_BINARY = {"1": "yes", "true": "yes", "0": "no", "false": "no"}
_LOOSE = re.compile(r"[\s_-]+")


ROLES = ("post", "label", "explanation", "aspect", "id", "split", "instruction", "input", "output", "conversations",
         "messages")  # fmt: skip
"""What a column may be for; the last five are those of Alpaca, ShareGPT and messages."""


@dataclass(frozen=True, slots=True)
class BuildResult(ReadResult):
    """Records of raw tables, and what could not be made one.

    Attributes:
        forms: the forms that were read, in the order of files.
        unused: columns that nothing is read from, of all files.
        unmapped: cells that mean no label, safe for messages -> rows.
    """

    forms: tuple[RawForm, ...] = ()
    unused: tuple[str, ...] = ()
    unmapped: Mapping[str, int] = field(default_factory=dict)


def build_records(
    source: str | AnyPath,
    dataset: str,
    split: str = "",
    *,
    aspect: str = "",
    columns: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    repair_mojibake: bool = False,
    strict: bool = False,
) -> BuildResult:
    """Make records of a raw table; see the module's description for its columns and labels.

    Args:
        source: the table: a `.csv`, `.json`, `.jsonl`, `.parquet` or `.arrow` file, or `hub:owner/name[@revision]`,
            with `:train`, `:val` or `:test` behind it for one split.
        dataset: name or alias of the data set that its rows belong to.
        split: of the rows, where they do not say.
        aspect: of the rows, where they do not say.
        columns: role (see `ROLES`) -> name of the column, where columns have other names.
        labels: cell -> label, asked before the names that the task knows.
        repair_mojibake: undo UTF-8 that was read as MacRoman, in posts and explanations.
        strict: raise at the first bad row.

    Raises:
        UserError: an unknown data set or split, a malformed table, a missing column, a mapping of a cell that no row
            has or to a label that the task does not have, no row that can be read, or, with `strict`, one that cannot.
    """
    task, split = task_named(dataset), split_named(split)
    mapping = LabelMapping(task, labels or {})
    with ExitStack() as stack:
        tables = [
            (in_our_columns(in_roles(_raw_table(file), columns or {}, file.name), task), file)
            for file in _files(source, task, split, stack)
        ]
    forms = [_form(table, file, task, aspect) for table, file in tables]
    if mapping.labels:
        mapping.check(_gold_cells(tables, forms))
    read = [
        (table, file, _row_reader(form, task, mapping, split or file.split, aspect))
        for (table, file), form in zip(tables, forms, strict=True)
    ]
    result = collect(read, repair_mojibake=repair_mojibake, strict=strict)
    unused = dict.fromkeys(name for table, _ in tables for name in table.columns if name not in ROLES)
    return BuildResult(
        result.records, result.problems, result.passed_over, tuple(forms), tuple(unused), dict(mapping.unmapped)
    )


def _files(source: str | AnyPath, task: Task, split: str, stack: ExitStack) -> list[SourceFile]:
    """The files of a source as of `task`; what their names say is not asked, as they may be called anything."""
    found, _ = find_files([source], "", stack)
    return [
        replace(file, dataset=task, split=file.split if file.rows is not None else split, expert=False)
        for file in found
    ]


def _raw_table(file: SourceFile) -> Table:
    """The rows of a file, those of a `.json` too: an array of objects, or a line each."""
    if file.rows is not None or file.path.suffix.lower() != ".json":
        return file.table()
    values, problems = json_rows(file.path)
    rows: list[tuple[int, Mapping[str, Any]]] = []
    for number, value in values:
        if isinstance(value, dict):
            check_columns(value, f"{file.name}, row {number}")
            rows.append((number, {key: plain_cell(cell) for key, cell in value.items()}))
        else:
            problems[number] = f"it is a JSON {type(value).__name__}, not an object"
    if not rows and not problems:
        raise UserError(f"{file.name}: holds no rows")
    return numbered_table(rows, [Problem(file.name, number, reason) for number, reason in problems.items()], file.path)


def _form(table: Table, file: SourceFile, task: Task, aspect: str) -> RawForm:
    form = form_of(table.columns)
    if form is None:
        missing = next((column for column in ("post", "label") if column not in table.columns), "post")
        found = shown_columns(table.columns)
        hint = f"name it by --columns {missing}=COLUMN"
        raise UserError(f"{file.name}: the column {missing} is missing (found: {found}); {hint}")
    if form == "table" and task.aspects and not aspect and "aspect" not in table.columns:
        found = shown_columns(table.columns)
        raise UserError(f"{file.name}: the column aspect is missing (found: {found}); give --aspect or name the column")
    return form


def _gold_cells(tables: Sequence[tuple[Table, SourceFile]], forms: Sequence[RawForm]) -> Counter[str]:
    """The labels and gold responses of all rows that have one."""
    cells: Counter[str] = Counter()
    for (table, _), form in zip(tables, forms, strict=True):
        for _, row in table.rows:
            with suppress(UserError):
                cells[gold_of(row, form)] += 1
    return cells


def _row_reader(form: RawForm, task: Task, mapping: LabelMapping, split: str, aspect: str) -> RowReader:
    def read_row(row: Mapping[str, Any], file: SourceFile, number: int) -> Record:
        raw = raw_row(row, form, task)
        row_split = split_named(word_cell(row, "split")) or split
        about = raw.aspect or match_aspect(word_cell(row, "aspect") or aspect, task)
        if raw.is_response:
            label, explanation = mapping.read_response(raw.gold, about)
        else:
            label, explanation = _label(raw.gold, mapping), ""
        return Record(
            id=name_cell(row, "id") or row_id(task, row_split, number),
            dataset=task.name,
            post=raw.post,
            label=label,
            explanation=word_cell(row, "explanation").strip() or explanation,
            aspect=about,
            split=row_split,
            source=f"{file.name}:{number}",
        )

    return read_row


def _label(cell: str, mapping: LabelMapping) -> str:
    mapped = mapping.mapped(cell)
    if mapped is not None:
        return mapped
    try:
        label = match_label(cell, mapping.task)
        if mapping.numbers_otherwise(cell):
            raise UserError(f"{shown_cell(cell.strip())} is no number that --labels gives a meaning to")
        return label
    except UserError:
        mapping.count(cell)
        raise


def in_our_columns(table: Table, task: Task) -> Table:
    """The table with the columns that the task's file maps under our names; a column with our name stays as it is."""
    theirs = {ours: name for ours, name in task.columns.items() if name in table.columns and ours not in table.columns}
    return in_roles(table, theirs, task.name)


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
