"""Records from every layout that IMHI data comes in.

Layouts are recognised by their columns: `query` with `gpt-3.5-turbo` or `response` (instruction format, expert
set, completion test files), `post,question,response` (completion training files), and our own
`dataset,post[,label,id,split,aspect,explanation,source,original_label]`. The data set of a row follows from its
question; the names of file and folder decide where two data sets ask the same and are checked where they do not.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown_cell
from mentallama_jax.imhi.data_files.sources import SourceFile, find_files, split_named
from mentallama_jax.imhi.data_files.table_records import ReadResult, RowReader, collect, name_cell, row_id, text_cell
from mentallama_jax.imhi.data_files.table_rows import Problem, Table, shown_columns
from mentallama_jax.imhi.labels.gold_response import read_gold
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS, Task, task_named
from mentallama_jax.storage import AnyPath, RemotePath

__all__ = ["Problem", "ReadResult", "read_file", "read_records", "records_from_dataset", "split_query"]

_KEYS = tuple(key.name for key in fields(Record))

_INSTRUCTION_START = 'Consider this post: "'
_INSTRUCTION_MIDDLE = '" Question: '
_COMPLETION_START = "Post: "
_COMPLETION_MIDDLE = "  Question: "


def read_records(
    sources: Sequence[str | AnyPath],
    *,
    split: str | None = None,
    repair_mojibake: bool = False,
    strict: bool = False,
    need_labels: bool = True,
) -> ReadResult:
    """Read records from files, folders, buckets, the bundled sample and the hub.

    Args:
        sources: each a `.csv`, `.jsonl`, `.parquet` or `.arrow` file, a folder that holds such files (below it, what
            `sources.PASSED_OVER` lists is left out), the URL of either, the word `sample`, or
            `hub:owner/name[@revision]`; with `:train`, `:val` or `:test` behind it, only that split of it.
        split: keep only this split of all sources.
        repair_mojibake: undo UTF-8 that was read as MacRoman, in posts and explanations.
        strict: raise at the first bad row.
        need_labels: a row without a label is a bad row; else it becomes a record without gold.

    Raises:
        UserError: a source is missing or malformed, none of a file's rows can be read, no row of the wanted split is
            there, or, with `strict`, a row cannot be read.
    """
    if isinstance(sources, str | Path | RemotePath):
        raise TypeError("sources is a sequence of paths")
    with ExitStack() as stack:
        files, passed_over = find_files(sources, split_named(split or ""), stack)
        tables = ((table, file, _layout(table, file)) for file in files for table in [file.table()])
        result = collect(tables, repair_mojibake=repair_mojibake, strict=strict, need_labels=need_labels)
    if not result.records:
        raise UserError(f"{', '.join(map(str, sources))}: holds no row of the split that is asked for")
    result.passed_over.extend(passed_over)
    return result


def read_file(file: SourceFile, *, repair_mojibake: bool = False) -> ReadResult:
    """Read one of the files that `sources.find_files` finds, on its own; rows of splits not wanted are left out.

    Rows without a label become records without gold.

    Raises:
        UserError: it is malformed, or none of its rows can be read.
    """
    table = file.table()
    tables = [(table, file, _layout(table, file))]
    return collect(tables, repair_mojibake=repair_mojibake, strict=False, need_labels=False)


def records_from_dataset(
    rows: Any,
    *,
    name: str = "dataset",
    dataset: str | None = None,
    split: str = "",
    repair_mojibake: bool = False,
    strict: bool = False,
) -> ReadResult:
    """Read records from a `datasets.Dataset`, a `DatasetDict`, or any iterable of mappings, in any of the layouts.

    Args:
        rows: the rows; of a mapping from split to rows, every split is read under its name.
        name: how messages call it.
        dataset: name of the data set, where the question alone does not tell (DR and CLP ask the same).
        split: the rows' split, where they do not say.
        repair_mojibake: as for `read_records`.
        strict: as for `read_records`.

    Raises:
        UserError: as for `read_records`.
    """
    task = task_named(dataset) if dataset else None
    parts: Mapping[str, Iterable[Mapping[str, Any]]] = rows if isinstance(rows, Mapping) else {split: rows}
    tables = []
    for part, part_rows in parts.items():
        label = f"{name}:{part}" if isinstance(rows, Mapping) else name
        file = SourceFile(Path(label), label, task, split_named(part), rows=part_rows)
        table = file.table()
        tables.append((table, file, _layout(table, file)))
    return collect(tables, repair_mojibake=repair_mojibake, strict=strict)


def split_query(query: str) -> tuple[str, str]:
    """Take an instruction or completion query apart into (post, question), at the LAST `Question: `.

    Raises:
        UserError: it is neither.
    """
    for start, middle in ((_INSTRUCTION_START, _INSTRUCTION_MIDDLE), (_COMPLETION_START, _COMPLETION_MIDDLE)):
        end = query.rfind(middle)
        if query.startswith(start) and end >= len(start):
            return query[len(start) : end], query[end + len(middle) :].rstrip(" ")
    raise UserError('the query is neither `Consider this post: "..." Question: ...` nor `Post: ...  Question: ...`')


def question_of(question: str) -> list[tuple[Task, str]]:
    """The data sets that ask a question, each with the aspect that it is about; none for an unknown question."""
    return list(_questions(TASKS.all).get(question, ()))


def _layout(table: Table, file: SourceFile) -> RowReader:
    columns, name = set(table.columns), file.name
    if {"query", "goldens"} <= columns or {"goldens", "generated_text"} <= columns:
        raise UserError(f"{name}: holds model outputs, not records; `mentallama evaluate` reads it")
    if {"text", "label", "fluency"} <= columns:
        raise UserError(f"{name}: holds human marks of explanations, not records; `read_annotations` reads it")
    if "query" in columns and columns & {"gpt-3.5-turbo", "response"}:
        return _from_query
    if {"post", "question", "response"} <= columns:
        return _from_parts
    if {"dataset", "post"} <= columns:
        return _from_own
    if {"post", "label"} <= columns:
        raise UserError(f"{name}: is a raw table of posts and labels; `mentallama data build` makes records of it")
    if "post" in columns:
        raise UserError(f"{name}: holds posts without a data set; `mentallama generate --task NAME` answers them")
    raise UserError(
        f"{name}: needs the columns query,gpt-3.5-turbo or post,question,response or dataset,post,label"
        f" (found: {shown_columns(sorted(columns))}); `mentallama data build` reads tables of posts and labels, "
        "`mentallama evaluate` outputs of a model"
    )


def _from_query(row: Mapping[str, Any], file: SourceFile, number: int) -> Record:
    response = text_cell(row, "gpt-3.5-turbo" if "gpt-3.5-turbo" in row else "response")
    post, question = split_query(text_cell(row, "query"))
    return _from_question(post, question, response, file, number)


def _from_parts(row: Mapping[str, Any], file: SourceFile, number: int) -> Record:
    post, question = split_query(f"{text_cell(row, 'post')} {text_cell(row, 'question')}")
    return _from_question(post, question, text_cell(row, "response"), file, number)


def _from_question(post: str, question: str, response: str, file: SourceFile, number: int) -> Record:
    task, aspect = _task_of(question, file)
    label, explanation = read_gold(response, task, aspect)
    return Record(
        id=row_id(task, "expert" if file.expert else file.split, number),
        dataset=task.name,
        post=post,
        label=label,
        explanation=explanation,
        aspect=aspect,
        split=file.split,
        source=f"{file.name}:{number}",
    )


def _from_own(row: Mapping[str, Any], file: SourceFile, number: int) -> Record:
    missing = tuple(key for key in _KEYS if key not in row)
    for key in row:
        near = _nearest(key, missing) if key not in _KEYS else None
        if near:
            raise UserError(f"unknown key {shown_cell(key)}; did you mean {near}?")
    values = {key: text_cell(row, key) for key in _KEYS if row.get(key) is not None and key != "id"}
    task = task_named(text_cell(row, "dataset"))
    split = split_named(values.get("split", file.split))
    place = f"{file.name}:{number}"
    given = {"id": row_id(task, split, number), "source": place}
    named = given | {key: name_cell(row, key) for key in given if row.get(key) is not None}
    values = {"post": text_cell(row, "post")} | values | {"dataset": task.name, "split": split, "source": place}
    # The place is what an error names; the source that the row names comes after all cells are known to be right.
    return replace(Record(**values | {"id": named["id"]}), source=named["source"])


@lru_cache(4096)
def _nearest(key: str, missing: tuple[str, ...]) -> str | None:
    return next(iter(get_close_matches(key, missing, n=1, cutoff=0.75)), None)


@lru_cache(8)
def _questions(tasks: tuple[Task, ...]) -> dict[str, list[tuple[Task, str]]]:
    asked: dict[str, list[tuple[Task, str]]] = {}
    for task in tasks:
        for aspect in task.aspects or ("",):
            for wording in (task.question, task.completion_prefix):
                asked.setdefault(wording.format(aspect=aspect), []).append((task, aspect))
    return asked


def _task_of(question: str, file: SourceFile) -> tuple[Task, str]:
    askers = _questions(TASKS.all).get(question, [])
    if not askers:
        raise UserError("no data set asks the question that stands behind the last `Question: `")
    names = " or ".join(task.name for task, _ in askers)
    if file.dataset is None:
        if len(askers) > 1:
            raise UserError(f"the question is that of {names}; name the file or its folder after one of them")
        return askers[0]
    for task, aspect in askers:
        if task.name == file.dataset.name:
            return task, aspect
    raise UserError(f"the question is that of {names}, but the file or its folder is named after {file.dataset.name}")
