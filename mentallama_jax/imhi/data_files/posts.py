"""Posts, mostly without labels: a table with the column `post`, or a text, and the question of a data set to ask."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.data_files.build import in_our_columns, match_aspect, match_label
from mentallama_jax.imhi.data_files.sources import SourceFile, find_files, split_named
from mentallama_jax.imhi.data_files.table_records import ReadResult, collect, name_cell, row_id, word_cell
from mentallama_jax.imhi.data_files.table_rows import Table, shown_columns
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import Task, task_named
from mentallama_jax.storage import AnyPath

_OF_RECORDS = ("dataset", "query", "question")


def read_posts(
    sources: Sequence[str | AnyPath], task_name: str, *, aspect: str = "", repair_mojibake: bool = False
) -> ReadResult:
    """Read tables with the column `post`, and `id`, `aspect`, `split`, `label` if there are any.

    Args:
        sources: files, folders or the hub, as for `readers.read_records`.
        task_name: the data set whose question is asked.
        aspect: what is asked about, of a data set with aspects; by default what a row says, and where no row can say,
            every aspect.
        repair_mojibake: undo UTF-8 that was read as MacRoman.

    Returns:
        Records, without gold where a row has no label; those of a post one after the other.

    Raises:
        UserError: an unknown data set or aspect, a source that is missing or malformed, a table that names its data
            sets itself, no post that can be read.
    """
    task = task_named(task_name)
    asked = _aspects(task, aspect)
    with ExitStack() as stack:
        files, passed_over = find_files(sources, "", stack)
        tables = [(table, file) for file in files for table in [in_our_columns(file.table(), task)]]
    readers = []
    for table, file in tables:
        _check_columns(table, file)
        by_row = "aspect" in table.columns and task.aspects and not aspect
        readers += [(table, file, partial(_record, task, each)) for each in (("",) if by_row else asked)]
    result = collect(readers, repair_mojibake=repair_mojibake, strict=False, need_labels=False)
    order = {source: place for place, source in enumerate(dict.fromkeys(record.source for record in result.records))}
    return ReadResult(
        records=sorted(result.records, key=lambda record: order[record.source]),
        problems=list(dict.fromkeys(result.problems)),
        passed_over=passed_over,
    )


def records_of_text(text: str, task_name: str, *, aspect: str = "") -> list[Record]:
    """The questions of a data set about one post, one for each aspect.

    Raises:
        UserError: an unknown data set or aspect, or an empty text.
    """
    task = task_named(task_name)
    if not text.strip():
        raise UserError("the post is empty")
    return [Record(_with_aspect("post", each), task.name, text, aspect=each) for each in _aspects(task, aspect)]


def _aspects(task: Task, aspect: str) -> tuple[str, ...]:
    return (match_aspect(aspect, task),) if aspect else task.aspects or ("",)


def _check_columns(table: Table, file: SourceFile) -> None:
    own = [name for name in _OF_RECORDS if name in table.columns]
    if own:
        raise UserError(f"{file.name}: names its data sets itself, in the column {own[0]}; leave --task out")
    if "post" not in table.columns:
        found = shown_columns(table.columns)
        raise UserError(
            f"{file.name}: the column post is missing (found: {found}); rename the one that holds the posts"
        )


def _record(task: Task, aspect: str, row: Mapping[str, Any], file: SourceFile, number: int) -> Record:
    split = split_named(word_cell(row, "split")) or file.split
    label = word_cell(row, "label")
    aspect = aspect or match_aspect(word_cell(row, "aspect"), task)
    return Record(
        id=_with_aspect(name_cell(row, "id") or row_id(task, split, number), aspect),
        dataset=task.name,
        post=word_cell(row, "post"),
        label=match_label(label, task) if label else "",
        explanation=word_cell(row, "explanation").strip() if label else "",
        aspect=aspect,
        split=split,
        source=f"{file.name}:{number}",
    )


def _with_aspect(name: str, aspect: str) -> str:
    return f"{name}/{aspect.replace(' ', '-')}" if aspect else name
