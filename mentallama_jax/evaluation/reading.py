"""Generated answers beside their gold: our predictions JSONL, or a folder of `DATASET.csv` files.

What cannot be scored is named and counted, never passed over without a word: files of a folder that are no data set,
and rows whose gold states no label.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import parse_json, reading, shown, shown_cell
from mentallama_jax.imhi.data_files.table_rows import Problem, Table, shown_columns
from mentallama_jax.imhi.data_files.tables import read_table
from mentallama_jax.imhi.labels.gold_response import read_gold
from mentallama_jax.imhi.predictions import Prediction, aspect_at, parse_prediction, prediction_lines, task_at
from mentallama_jax.imhi.tasks import Task, task_named
from mentallama_jax.storage import AnyPath

_CSV_COLUMNS = ("goldens", "generated_text")
_SUFFIX = ".csv"


@dataclass(frozen=True, slots=True)
class LeftOut(Problem):
    """A row that is not scored; `row` is that of a CSV, or a line of a JSONL, from 1.

    Attributes:
        dataset: canonical name.
    """

    dataset: str


@dataclass(frozen=True, slots=True)
class Predictions:
    """All rows of one run of a model and where they come from.

    Attributes:
        rows: at least one; ids are unique. The `post_id` of a row is its own id where posts are not known.
        files: path as given and SHA-256 of each file read.
        generation: the signature that `mentallama generate` left beside its JSONL; None where there is none.
        gold: where the gold labels come from.
        posts_known: whether rows of one post are marked as such.
        left_out: rows whose gold states no label.
        passed_over: files and folders beside those read that are no predictions, each with the reason.
    """

    rows: tuple[Prediction, ...]
    files: tuple[dict[str, str], ...]
    generation: dict[str, Any] | None
    gold: str
    posts_known: bool
    left_out: tuple[LeftOut, ...] = ()
    passed_over: tuple[str, ...] = ()

    def provenance(self) -> dict[str, Any]:
        """What of this belongs beside the scores, as plain JSON values."""
        return {
            "predictions": list(self.files),
            "passed_over": list(self.passed_over),
            "left_out": [asdict(row) for row in self.left_out],
            "generation": self.generation,
            "gold": self.gold,
            "posts": "post_id" if self.posts_known else "not known: every row counts as a post of its own",
        }


def read_predictions(path: AnyPath) -> Predictions:
    """Read a predictions `.jsonl`, a `DATASET.csv` (columns `goldens,generated_text`), or a folder of such CSV files.

    A CSV's data set is its file name, in any case. Its optional columns `aspect` and `post_id` are used; others are
    not. Other files and folders of the folder are passed over, and named in the result.

    Raises:
        UserError: nothing there to read, a malformed or half-written file, a missing key or column, an unknown data
            set or aspect, an id that occurs twice, or no row whose gold states a label.
    """
    if path.suffix.lower() == ".jsonl":
        return _read_jsonl(path)
    if path.is_dir():
        files, passed_over = _files_of(path)
        return _read_csvs(files, passed_over)
    if path.is_file() and path.suffix.lower() == _SUFFIX:
        return _read_csvs([(path, task_at(path.stem, path))], [])
    what = "expected a .jsonl file or a folder of DATASET.csv files" if path.exists() else "no such file or folder"
    raise UserError(f"{path}: {what}")


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
        left_out=tuple(row for part in parts for row in part.left_out),
        passed_over=tuple(dict.fromkeys(name for part in parts for name in part.passed_over)),
    )


def _read_jsonl(path: AnyPath) -> Predictions:
    rows: list[Prediction] = []
    left_out: list[LeftOut] = []
    seen: dict[str, int] = {}
    for number, line in prediction_lines(path):
        place = f"{path}, line {number}"
        row = _whole(line, place)
        if row.id in seen:
            raise UserError(f"{place}: id {shown_cell(row.id)} is that of line {seen[row.id]} too; keep one of them")
        seen[row.id] = number
        if row.label in row.task.labels:
            rows.append(row)
        else:
            left_out.append(LeftOut(str(path), number, _no_label(row.label, row.task), row.dataset))
    _require_rows(path, rows, left_out)
    meta = path.with_suffix(".meta.json")
    generation = _read_meta(meta) if meta.is_file() else None
    return Predictions(tuple(rows), (_file(path),), generation, "label of each row", True, tuple(left_out))


def _whole(line: bytes, place: str) -> Prediction:
    try:
        return parse_prediction(line, place)
    except UserError:
        if line.endswith(b"\n") or _is_json(line):
            raise
    what = "is cut off, as an interrupted run leaves it; the same `mentallama generate` command finishes the file"
    raise UserError(f"{place}: {what}")


def _is_json(line: bytes) -> bool:
    try:
        parse_json(line, "the last line", may_hold_posts=True)
    except UserError:
        return False
    return True


def _no_label(label: str, task: Task) -> str:
    return (
        f"its gold {shown_cell(label, task.labels)} is not a label of {task.name}" if label else "it has no gold label"
    )


def _require_rows(path: AnyPath, rows: Sequence[Prediction], left_out: Sequence[LeftOut]) -> None:
    if rows:
        return
    if not left_out:
        raise UserError(f"{path}: holds no rows")
    first = left_out[0]
    raise UserError(f"{path}: none of its {len(left_out)} rows can be scored; row {first.row}: {first.reason}")


def _read_meta(path: AnyPath) -> dict[str, Any]:
    try:
        with reading(path, "JSON"):
            meta = parse_json(path.read_bytes(), path)
        if not isinstance(meta, dict):
            raise UserError(f"{path}: expected a JSON object, found {type(meta).__name__}")
    except UserError as error:
        raise UserError(f"{error}; delete it to score without the signature of the run") from None
    return meta


def _files_of(folder: AnyPath) -> tuple[list[tuple[AnyPath, Task]], list[str]]:
    """The `DATASET.csv` files of a folder with their data sets, and the names of what is passed over."""
    files: list[tuple[AnyPath, Task]] = []
    passed_over = []
    with reading(folder, "folder"):
        inside: list[AnyPath] = sorted(folder.iterdir(), key=str)
    for file in inside:
        if file.name.startswith("."):
            continue
        if file.is_dir():
            with reading(file, "folder"):
                next(iter(file.iterdir()), None)
            passed_over.append(f"{shown(file.name)}: a folder")
        elif file.suffix.lower() != _SUFFIX:
            passed_over.append(f"{shown(file.name)}: does not end in {_SUFFIX}")
        else:
            try:
                files.append((file, task_named(file.stem)))
            except UserError as error:
                passed_over.append(f"{shown(file.name)}: {str(error).partition(' (known')[0]}")
    if not files:
        there = f"; passed over: {'; '.join(passed_over[:3])}" if passed_over else ""
        raise UserError(f"{folder}: holds no DATASET.csv; give such a folder, or the .jsonl that generate wrote{there}")
    return files, passed_over


def _read_csvs(files: Sequence[tuple[AnyPath, Task]], passed_over: Sequence[str]) -> Predictions:
    rows: list[Prediction] = []
    left_out: list[LeftOut] = []
    of_task: dict[str, AnyPath] = {}
    grouped = []
    for file, task in files:
        if task.name in of_task:
            raise UserError(f"{file}: {task.name} is in {of_task[task.name].name} already; keep one of the two")
        of_task[task.name] = file
        table = _table(file)
        grouped.append("post_id" in table.columns)
        scored, odd = _csv_rows(table, task, file)
        rows += scored
        left_out += odd
    _require_rows(files[0][0], rows, left_out)
    signature = tuple(_file(file) for file, _ in files)
    gold = "the label that `goldens` begins with"
    return Predictions(tuple(rows), signature, None, gold, all(grouped), tuple(left_out), tuple(passed_over))


def _table(file: AnyPath) -> Table:
    with reading(file, "CSV", may_hold_posts=True):
        table = read_table(file)
    missing = [column for column in _CSV_COLUMNS if column not in table.columns]
    if missing:
        found = shown_columns(table.columns)
        raise UserError(f"{file}: has no column {', '.join(missing)} (found: {found})")
    if table.problems:
        raise UserError(str(table.problems[0]))
    return table


def _csv_rows(table: Table, task: Task, file: AnyPath) -> tuple[list[Prediction], list[LeftOut]]:
    rows = []
    left_out = []
    for number, row in table.rows:
        cells = {column: str(cell) for column, cell in row.items() if cell is not None}
        label = _gold_label(cells, task)
        if label is None:
            left_out.append(
                LeftOut(str(file), number, f"its gold does not begin with a label of {task.name}", task.name)
            )
        else:
            rows.append(_csv_row(cells, task, label, number, f"{file}, row {number}"))
    return rows, left_out


def _gold_label(cells: Mapping[str, str], task: Task) -> str | None:
    try:
        return read_gold(cells.get("goldens", ""), task)[0]
    except UserError:
        return None


def _csv_row(cells: Mapping[str, str], task: Task, label: str, number: int, place: str) -> Prediction:
    row_id = f"{task.name}/{number}"
    return Prediction(
        id=row_id,
        dataset=task.name,
        aspect=aspect_at(cells.get("aspect", ""), task, place),
        post_id=cells.get("post_id") or row_id,
        label=label,
        goldens=cells["goldens"],
        generated_text=cells.get("generated_text", ""),
    )


def _file(path: AnyPath) -> dict[str, str]:
    return {"file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
