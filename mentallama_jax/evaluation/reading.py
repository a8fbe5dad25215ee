"""Generated answers beside their gold: our predictions JSONL, `DATASET.csv` files, or what other programs wrote.

The forms of other programs are in `foreign_outputs`; here is the one place where it is decided who reads a file. What
cannot be scored is named and counted, never passed over without a word: files of a folder that are no data set,
rows whose gold states no label, requests that failed.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.foreign_outputs.delimited import header_of
from mentallama_jax.evaluation.foreign_outputs.gold_rows import GoldRows
from mentallama_jax.evaluation.foreign_outputs.output_forms import SUFFIXES
from mentallama_jax.evaluation.foreign_outputs.read_as import AS_THEY_SAY, ReadAs, dataset_of_name
from mentallama_jax.evaluation.foreign_outputs.row_mapping import read_foreign
from mentallama_jax.evaluation.odd_rows import gold_contradicted, remarks
from mentallama_jax.evaluation.system_predictions import LeftOut, Predictions
from mentallama_jax.foreign import parse_json, reading, shown, shown_cell
from mentallama_jax.imhi.predictions import Prediction, parse_prediction, prediction_lines, task_at
from mentallama_jax.imhi.tasks import Task, task_named
from mentallama_jax.imhi.wording import instruction_response
from mentallama_jax.storage import AnyPath

_CSV_COLUMNS = ("goldens", "generated_text")
_TABLES = (".csv", ".tsv")
_OWN = "predictions that `mentallama generate` wrote"
_OWN_KEYS = frozenset({"dataset", "post_id", "generated_text"})


def read_predictions(path: AnyPath, read_as: ReadAs = AS_THEY_SAY) -> Predictions:
    """Read a file of outputs, or a folder of files that are named after their data sets.

    Our own predictions `.jsonl` and a `DATASET.csv` (columns `goldens,generated_text`) are read as they are. Any other
    content, any with columns that are named, and a `DATASET.csv` that holds posts or prompts, is read by
    `foreign_outputs`. Of a folder, files and folders that are
    no outputs are passed over, and named in the result.

    Args:
        path: the file or folder.
        read_as: what the files do not say themselves.

    Raises:
        UserError: nothing there to read, a malformed or half-written file, a missing key or column, an unknown data
            set or aspect, an id that occurs twice, or no row whose gold states a label.
    """
    if path.is_dir():
        files, passed_over = _files_of(path, read_as)
        together = _together([_read_file(file, read_as) for file in files], passed_over)
        return replace(together, read_as=read_as.said(), given=(str(path),))
    if path.suffix.lower() == ".jsonl" or (path.is_file() and path.suffix.lower() in SUFFIXES):
        found = _read_file(path, read_as)
        _require_rows(path, found.rows, found.left_out)
        return replace(found, read_as=read_as.said(), given=(str(path),))
    what = "expected a .jsonl file or a folder of DATASET.csv files" if path.exists() else "no such file or folder"
    raise UserError(f"{path}: {what}")


def _read_file(path: AnyPath, read_as: ReadAs) -> Predictions:
    found = _read_form(path, read_as)
    odd = remarks(path, found.rows, read_as.dataset, found.posts_known)
    return replace(found, remarks=(*found.remarks, *odd))


def _read_form(path: AnyPath, read_as: ReadAs) -> Predictions:
    if path.suffix.lower() == ".jsonl" and set(read_as.columns) <= {"first"} and _is_own(path):
        return _read_jsonl(path, read_as)
    if _is_dataset_csv(path, read_as):
        # Its columns of gold and output are known, and it is named after its data set.
        task = read_as.dataset or dataset_of_name(path.stem) or task_at(path.stem, path)
        read_as = replace(read_as, columns=dict(zip(("gold", "text"), _CSV_COLUMNS, strict=True)), dataset=task)
    outputs = read_foreign(path, read_as)
    left_out = tuple(LeftOut(str(path), number, why, dataset) for number, dataset, why in outputs.left_out)
    known, form, ids = outputs.posts_known, outputs.form, outputs.ids_known
    file, odd = (_file(path),), tuple(f"{path}: {remark}" for remark in outputs.remarks)
    found = Predictions(tuple(outputs.rows), file, None, outputs.gold, known, left_out, forms=(form,), remarks=odd)
    return replace(found, ids_known=ids)


def _is_own(path: AnyPath) -> bool:
    """Whether a JSONL is our own, by its first line; one that is no object is left to the reader of these."""
    _, line = next(prediction_lines(path), (0, b""))
    try:
        first = parse_json(line, path, may_hold_posts=True)
    except UserError:
        return not line.lstrip().startswith(b"[{")
    if isinstance(first, list) and len(first) == 1:
        return False
    return not isinstance(first, dict) or first.keys() >= _OWN_KEYS


def _is_dataset_csv(path: AnyPath, read_as: ReadAs) -> bool:
    """Whether a file is one of the released layout, `DATASET.csv` with the columns `goldens,generated_text`."""
    if path.suffix.lower() != ".csv" or read_as.columns or read_as.gold is not None:
        return False
    columns = header_of(path, ",")
    names_itself = read_as.dataset is not None or dataset_of_name(path.stem) is not None
    return set(_CSV_COLUMNS) <= set(columns) and (names_itself or not {"dataset", "data_set"} & set(columns))


def _read_jsonl(path: AnyPath, read_as: ReadAs) -> Predictions:
    if read_as.dataset is not None:
        raise UserError(f"{path}: each of its lines says its data set; leave out --dataset")
    found: list[tuple[int, Prediction]] = []
    rows: list[Prediction] = []
    left_out: list[LeftOut] = []
    seen: dict[str, int] = {}
    for number, line in prediction_lines(path):
        place = f"{path}, line {number}"
        row = _whole(line, place)
        if row.id in seen:
            raise UserError(f"{place}: id {shown_cell(row.id)} is that of line {seen[row.id]} too; keep one of them")
        seen[row.id] = number
        found.append((number, row))
    first = _first_number(path, [row for _, row in found], read_as)
    unlike = []
    for number, row in found:
        if read_as.gold is not None:
            own = row.label
            try:
                row = _with_gold(row, read_as.gold, first)
            except UserError as error:
                left_out.append(LeftOut(str(path), number, str(error), row.dataset))
                continue
            if own in row.task.labels and own != row.label:
                unlike.append(row.id)
        if row.label in row.task.labels:
            rows.append(row)
        else:
            left_out.append(LeftOut(str(path), number, _no_label(row.label, row.task), row.dataset))
    meta = path.with_suffix(".meta.json")
    generation = _read_meta(meta) if meta.is_file() else None
    gold = "label of each row" if read_as.gold is None else f"{read_as.gold.name}, joined by id"
    form, odd = (f"{path}: {_OWN}",), tuple(f"{path}: {remark}" for remark in gold_contradicted(unlike, "label"))
    file = (_file(path),)
    return Predictions(tuple(rows), file, generation, gold, True, tuple(left_out), forms=form, remarks=odd)


def _first_number(path: AnyPath, rows: Sequence[Prediction], read_as: ReadAs) -> int:
    if read_as.gold is None:
        return 1
    try:
        return read_as.gold.first_number(((row.id, row.task) for row in rows), read_as.first)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _with_gold(row: Prediction, gold: GoldRows, first: int) -> Prediction:
    record = gold.find(row.id, row.task, first)
    return replace(row, label=record.label, goldens=instruction_response(record), post_id=record.post_id)


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


def _require_rows(path: object, rows: Sequence[Prediction], left_out: Sequence[LeftOut]) -> None:
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


def _files_of(folder: AnyPath, read_as: ReadAs) -> tuple[list[AnyPath], list[str]]:
    """The files of a folder that are named after data sets, and the names of what is passed over.

    Logs of lm-evaluation-harness are read where there are no tables.
    """
    files: dict[str, AnyPath] = {}
    logs: list[AnyPath] = []
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
        elif file.suffix.lower() not in _TABLES:
            is_log = file.name.startswith("samples_") and file.suffix.lower() == ".jsonl"
            if is_log:
                logs.append(file)
            else:
                passed_over.append(f"{shown(file.name)}: does not end in {_TABLES[0]}")
        else:
            try:
                task = dataset_of_name(file.stem) or read_as.dataset or task_named(file.stem)
            except UserError as error:
                passed_over.append(f"{shown(file.name)}: {str(error).partition(' (known')[0]}")
                continue
            if task.name in files:
                raise UserError(f"{file}: {task.name} is in {files[task.name].name} already; keep one of the two")
            files[task.name] = file
    if files:
        return list(files.values()), passed_over + [f"{shown(log.name)}: a log beside tables" for log in logs]
    if not logs:
        there = f"; passed over: {'; '.join(passed_over[:3])}" if passed_over else ""
        raise UserError(f"{folder}: holds no DATASET.csv; give such a folder, or the .jsonl that generate wrote{there}")
    return logs, passed_over


def _together(parts: Sequence[Predictions], passed_over: Sequence[str]) -> Predictions:
    """The files of one folder."""
    rows = tuple(row for part in parts for row in part.rows)
    left_out = tuple(row for part in parts for row in part.left_out)
    files = tuple(file for part in parts for file in part.files)
    _require_rows(files[0]["file"], rows, left_out)
    seen: set[str] = set()
    for part in parts:
        twice = next((row.id for row in part.rows if row.id in seen), None)
        if twice is not None:
            raise UserError(f"{part.files[0]['file']}: id {shown_cell(twice)} is in another file too; keep one of them")
        seen |= {row.id for row in part.rows}
    gold = "; ".join(dict.fromkeys(part.gold for part in parts))
    forms = tuple(form for part in parts for form in part.forms)
    known = all(part.posts_known for part in parts)
    odd = tuple(remark for part in parts for remark in part.remarks)
    together = Predictions(rows, files, None, gold, known, left_out, tuple(passed_over), forms, odd)
    return replace(together, ids_known=all(part.ids_known for part in parts))


def _file(path: AnyPath) -> dict[str, str]:
    return {"file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
