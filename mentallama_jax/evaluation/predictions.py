"""Generated answers beside their gold: our predictions JSONL, or a folder of `DATASET.csv` files."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.files import read_jsonl
from mentallama_jax.foreign import shown_cell
from mentallama_jax.imhi.gold import read_gold
from mentallama_jax.imhi.tables import read_table, shown_columns
from mentallama_jax.imhi.tasks import Task, task_named
from mentallama_jax.storage import AnyPath

_JSONL_KEYS = ("id", "dataset", "post_id", "label", "generated_text")
_CSV_COLUMNS = ("goldens", "generated_text")


@dataclass(frozen=True, slots=True)
class Prediction:
    """One question about a post, its gold label and what a model answered.

    Attributes:
        id: unique within the predictions.
        dataset: canonical name.
        aspect: what the question was about; "" where the task has no aspects, or it is not known.
        post: what rows of one post share; the row's own id where posts are not known.
        gold: canonical gold label.
        text: the answer, whole; may be empty.
    """

    id: str
    dataset: str
    aspect: str
    post: str
    gold: str
    text: str


@dataclass(frozen=True, slots=True)
class Predictions:
    """All rows of one run of a model and where they come from.

    Attributes:
        rows: at least one; ids are unique.
        files: path as given and SHA-256 of each file read.
        generation: the signature that `mentallama generate` left beside its JSONL; None where there is none.
        gold: where the gold labels come from.
        posts_known: whether rows of one post are marked as such.
    """

    rows: tuple[Prediction, ...]
    files: tuple[dict[str, str], ...]
    generation: dict[str, Any] | None
    gold: str
    posts_known: bool


def read_predictions(path: AnyPath) -> Predictions:
    """Read a predictions `.jsonl`, a `DATASET.csv` (columns `goldens,generated_text`), or a folder of such CSV files.

    A CSV's data set is its file name. Its optional columns `aspect` and `post_id` are used; others are not.

    Raises:
        UserError: nothing there to read, a malformed or half-written file, a missing key or column, an unknown data
            set, label or aspect, or an id that occurs twice.
    """
    if path.suffix.lower() == ".jsonl":
        return _read_jsonl(path)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix == ".csv" and not file.name.startswith("."))
        if not files:
            raise UserError(f"{path}: holds no DATASET.csv; give such a folder, or the .jsonl that generate wrote")
    elif path.is_file() and path.suffix.lower() == ".csv":
        files = [path]
    else:
        what = "expected a .jsonl file or a folder of DATASET.csv files" if path.exists() else "no such file or folder"
        raise UserError(f"{path}: {what}")
    return _read_csvs(files)


def pool(parts: Sequence[Predictions]) -> Predictions:
    """All rows of several predictions as one: seeds of a recipe, or parts of a benchmark. A post stays one post.

    Ids get the number of their part, as seeds answer the same rows. `generation` becomes `{"pooled": [...]}`.
    """
    if len(parts) == 1:
        return parts[0]
    return Predictions(
        rows=tuple(
            replace(row, id=f"{row.id} ({number})") for number, part in enumerate(parts, start=1) for row in part.rows
        ),
        files=tuple(file for part in parts for file in part.files),
        generation={"pooled": [part.generation for part in parts]} if any(part.generation for part in parts) else None,
        gold="; ".join(dict.fromkeys(part.gold for part in parts)),
        posts_known=all(part.posts_known for part in parts),
    )


def _read_jsonl(path: AnyPath) -> Predictions:
    rows = _unique(_jsonl_rows(path), path)
    if not rows:
        raise UserError(f"{path}: holds no rows")
    meta = path.with_suffix(".meta.json")
    generation = _read_meta(meta) if meta.is_file() else None
    return Predictions(rows, (_file(path),), generation, "label of each row", posts_known=True)


def _jsonl_rows(path: AnyPath) -> Iterator[Prediction]:
    if path.is_file():
        _refuse_half_line(path)
    for number, row in enumerate(read_jsonl(path), start=1):
        where = f"{path}, row {number}"
        missing = [key for key in _JSONL_KEYS if key not in row]
        if missing:
            raise UserError(f"{where}: has no {', '.join(missing)}; expected a line that `mentallama generate` wrote")
        texts = {key: _text(row, key, where) for key in _JSONL_KEYS}
        task = _task(texts["dataset"], where)
        if not texts["label"]:
            raise UserError(
                f"{where}: has no gold label: its post was answered without one, so there is nothing to score"
            )
        if texts["label"] not in task.labels:
            raise UserError(
                f"{where}: {shown_cell(texts['label'])} is not a label of {task.name} ({', '.join(task.labels)})"
            )
        aspect = _aspect(row, task, where)
        yield Prediction(texts["id"], task.name, aspect, texts["post_id"], texts["label"], texts["generated_text"])


def _refuse_half_line(path: AnyPath) -> None:
    content = path.read_bytes()
    last = content[content.rfind(b"\n") + 1 :]
    try:
        json.loads(last or b"{}")
    except ValueError:
        line = content.count(b"\n") + 1
        what = "is cut off, as an interrupted run leaves it; the same `mentallama generate` command finishes the file"
        raise UserError(f"{path}, line {line}: {what}") from None


def _read_meta(path: AnyPath) -> dict[str, Any]:
    try:
        meta = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); delete it to score without the signature of the run") from None
    if not isinstance(meta, dict):
        raise UserError(f"{path}: expected a JSON object; delete it to score without the signature of the run")
    return meta


def _read_csvs(files: list[AnyPath]) -> Predictions:
    rows: list[Prediction] = []
    of_task: dict[str, AnyPath] = {}
    grouped = []
    for file in files:
        task = _task(file.stem, str(file))
        if task.name in of_task:
            raise UserError(f"{file}: {task.name} is in {of_task[task.name].name} already; keep one of the two")
        of_task[task.name] = file
        table = read_table(file)
        missing = [column for column in _CSV_COLUMNS if column not in table.columns]
        if missing:
            found = shown_columns(table.columns)
            raise UserError(f"{file}: has no column {', '.join(missing)} (found: {found})")
        if table.problems:
            raise UserError(str(table.problems[0]))
        grouped.append("post_id" in table.columns)
        rows.extend(_csv_row(row, task, f"{task.name}/{number}", f"{file}, row {number}") for number, row in table.rows)
    signature = tuple(_file(file) for file in files)
    return Predictions(tuple(rows), signature, None, "the label that `goldens` begins with", all(grouped))


def _csv_row(row: Mapping[str, Any], task: Task, row_id: str, where: str) -> Prediction:
    try:
        gold, _ = read_gold(row["goldens"], task)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return Prediction(
        row_id, task.name, _aspect(row, task, where), row.get("post_id") or row_id, gold, row["generated_text"]
    )


def _unique(rows: Iterator[Prediction], path: AnyPath) -> tuple[Prediction, ...]:
    seen: dict[str, int] = {}
    kept = []
    for number, row in enumerate(rows, start=1):
        if row.id in seen:
            raise UserError(
                f"{path}, row {number}: id {shown_cell(row.id)} is that of row {seen[row.id]} too; keep one of them"
            )
        seen[row.id] = number
        kept.append(row)
    return tuple(kept)


def _task(name: str, where: str) -> Task:
    try:
        return task_named(name)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _aspect(row: Mapping[str, Any], task: Task, where: str) -> str:
    aspect = row.get("aspect") or ""
    if aspect and aspect not in task.aspects:
        raise UserError(
            f"{where}: {shown_cell(aspect)} is not an aspect of {task.name} ({', '.join(task.aspects) or 'none'})"
        )
    return str(aspect)


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row[key]
    if not isinstance(value, str):
        raise UserError(f"{where}: {key} is a {type(value).__name__}, not a text")
    return value


def _file(path: AnyPath) -> dict[str, str]:
    return {"file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
