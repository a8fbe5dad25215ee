"""Records from every layout that IMHI data comes in.

Layouts are told apart by their columns: `query` with `gpt-3.5-turbo` or `response` (instruction format, expert
set, completion test files), `post,question,response` (completion training files), and our own
`dataset,post,label[,id,split,aspect,explanation,source,original_label]`. The data set of a row follows from its
question; the names of file and folder decide where two data sets ask the same and are checked where they do not.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cache
from itertools import chain, count
from pathlib import Path
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.gold import read_gold
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.sources import SourceFile, find_files, split_named
from mentallama_jax.imhi.tables import Problem, Table, read_table, table_of_rows
from mentallama_jax.imhi.tasks import TASKS, Task, task_named

__all__ = ["Problem", "ReadResult", "read_records", "records_from_dataset", "split_query"]

_KEYS = tuple(key.name for key in fields(Record))
_RESPONSES = ("gpt-3.5-turbo", "response")

_INSTRUCTION_START = 'Consider this post: "'
_INSTRUCTION_MIDDLE = '" Question: '
_COMPLETION_START = "Post: "
_COMPLETION_MIDDLE = "  Question: "


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
    passed_over: list[Path] = field(default_factory=list)


def read_records(
    sources: Sequence[str | Path], *, split: str | None = None, repair_mojibake: bool = False, strict: bool = False
) -> ReadResult:
    """Read records from files, folders and the bundled sample.

    Args:
        sources: each a `.csv`, `.jsonl` or `.parquet` file, a folder that holds such files (below it, what
            `sources.PASSED_OVER` lists is left out), the word `sample`, or any of these with `:train`, `:val`
            or `:test` behind it, which keeps that split.
        split: keep this split of all sources.
        repair_mojibake: undo UTF-8 that was read as MacRoman, in posts and explanations.
        strict: raise at the first bad row.

    Raises:
        UserError: a source is missing or malformed, none of a file's rows can be read, or, with `strict`, one cannot.
    """
    if isinstance(sources, str | Path):
        raise TypeError("sources is a sequence of paths")
    wanted = split_named(split or "")
    with ExitStack() as stack:
        files, passed_over = find_files(sources, stack)
        result = ReadResult(passed_over=passed_over)
        for file in files:
            records, problems = _read_table(read_table(file.path), file, strict)
            kept = {file.wanted, wanted} - {""}
            result.records.extend(record for record in records if kept <= {record.split})
            result.problems.extend(problems)
    return _finish(result, repair_mojibake)


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
    result = ReadResult()
    for part, part_rows in parts.items():
        label = f"{name}:{part}" if isinstance(rows, Mapping) else name
        file = SourceFile(Path(label), label, task, split_named(part), "", expert=False)
        table = table_of_rows(part_rows)
        if not table.rows:
            raise UserError(f"{label}: holds no rows")
        records, problems = _read_table(table, file, strict)
        result.records.extend(records)
        result.problems.extend(problems)
    return _finish(result, repair_mojibake)


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


def _read_table(table: Table, file: SourceFile, strict: bool) -> tuple[list[Record], list[Problem]]:
    read_row = _layout(set(table.columns), file.name)
    problems = list(table.problems)
    records = []
    for number, row in table.rows:
        try:
            records.append(read_row(row, file, number))
        except UserError as error:
            problems.append(Problem(file.name, number, str(error)))
    problems.sort(key=lambda problem: problem.row)
    if problems and strict:
        raise UserError(str(problems[0]))
    if not records:
        raise UserError(f"{problems[0]} (and no row of the file can be read: {len(problems)} are bad)")
    return records, problems


def _layout(columns: set[str], name: str) -> Any:
    if {"query", "goldens"} <= columns or {"goldens", "generated_text"} <= columns:
        raise UserError(f"{name}: holds model outputs, not records; `mentallama evaluate` reads it")
    if {"text", "label", "fluency"} <= columns:
        raise UserError(f"{name}: holds human marks of explanations, not records; `read_annotations` reads it")
    if "query" in columns and columns & set(_RESPONSES):
        return _from_query
    if {"post", "question", "response"} <= columns:
        return _from_parts
    if {"dataset", "post", "label"} <= columns:
        return _from_own
    if {"post", "label"} <= columns:
        raise UserError(f"{name}: is a raw table of posts and labels; `mentallama data build` makes records of it")
    raise UserError(
        f"{name}: needs the columns query,gpt-3.5-turbo or post,question,response or dataset,post,label"
        f" (found: {', '.join(sorted(columns)) or 'none'})"
    )


def _from_query(row: Mapping[str, Any], file: SourceFile, number: int) -> Record:
    response = next(name for name in _RESPONSES if name in row)
    post, question = split_query(_text(row, "query"))
    return _from_question(post, question, _text(row, response), file, number)


def _from_parts(row: Mapping[str, Any], file: SourceFile, number: int) -> Record:
    post, question = split_query(f"{_text(row, 'post')} {_text(row, 'question')}")
    return _from_question(post, question, _text(row, "response"), file, number)


def _from_question(post: str, question: str, response: str, file: SourceFile, number: int) -> Record:
    task, aspect = _task_of(question, file)
    label, explanation = read_gold(response, task)
    return _checked(
        Record(
            id=_row_id(task, "expert" if file.expert else file.split, number),
            dataset=task.name,
            post=post,
            label=label,
            explanation=explanation,
            aspect=aspect,
            split=file.split,
            source=f"{file.name}:{number}",
        )
    )


def _from_own(row: Mapping[str, Any], file: SourceFile, number: int) -> Record:
    missing = [key for key in _KEYS if key not in row]
    for key in row:
        near = get_close_matches(key, missing, n=1, cutoff=0.75) if key not in _KEYS else []
        if near:
            raise UserError(f"unknown key {key!r}; did you mean {near[0]}?")
    values = {key: _text(row, key) for key in _KEYS if row.get(key) is not None}
    task = task_named(_text(row, "dataset"))
    split = split_named(values.get("split", file.split))
    given = {
        "source": f"{file.name}:{number}",
        "id": "/".join(part for part in (task.name, split, str(number)) if part),
    }
    values = {"post": _text(row, "post"), "label": _text(row, "label")} | given | values
    try:
        return _checked(Record(**values | {"dataset": task.name, "split": split}))
    except UserError as error:
        # The record names its own source; the caller names file and row.
        raise UserError(str(error).removeprefix(f"{values['source']}: ")) from None


def _row_id(task: Task, part: str, number: int) -> str:
    return f"{task.name}/{part}/{number}" if part else f"{task.name}/{number}"


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise UserError(f"{key} is missing" if value is None else f"{key} is a {type(value).__name__}, not a text")
    return value


def _checked(record: Record) -> Record:
    if not record.post.strip():
        raise UserError("the post is empty")
    try:
        (record.post + record.explanation).encode("utf-8")
    except UnicodeEncodeError:
        raise UserError("the text holds half a character (a lone surrogate)") from None
    return record


@cache
def _questions() -> dict[str, list[tuple[Task, str]]]:
    asked: dict[str, list[tuple[Task, str]]] = {}
    for task in TASKS.values():
        for aspect in task.aspects or ("",):
            for wording in (task.question, task.completion_prefix):
                asked.setdefault(wording.format(aspect=aspect), []).append((task, aspect))
    return asked


def _task_of(question: str, file: SourceFile) -> tuple[Task, str]:
    askers = _questions().get(question, [])
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


def _finish(result: ReadResult, repair_mojibake: bool) -> ReadResult:
    taken: set[str] = set()
    for index, record in enumerate(result.records):
        spellings = chain([record.id], (f"{record.id}#{number}" for number in count(2)))
        unused = next(spelling for spelling in spellings if spelling not in taken)
        taken.add(unused)
        if unused != record.id:
            result.records[index] = replace(record, id=unused)
    if repair_mojibake:
        from mentallama_jax.imhi.cleaning import repair_mojibake as repaired

        for index, record in enumerate(result.records):
            post, explanation = repaired(record.post), repaired(record.explanation)
            result.records[index] = replace(record, post=post, explanation=explanation)
    return result
