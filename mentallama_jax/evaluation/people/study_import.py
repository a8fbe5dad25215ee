"""Reads the filled files of a study back, beside its key, and checks that they belong to it."""

import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.people.human_marks import SCALE, HumanMarks, MarkedAnswer
from mentallama_jax.evaluation.people.study_export import FORMAT, KEY
from mentallama_jax.foreign import parse_json, reading, shown_cell
from mentallama_jax.imhi.data_files.table_rows import shown_columns
from mentallama_jax.imhi.data_files.tables import read_table
from mentallama_jax.imhi.predictions import Prediction, parse_prediction

_COLUMNS = ("study", "item", "annotator", "answer")
_NAME = re.compile(r"[\w.@-]{1,40}")
_COMPARED = 80
_ALIKE = 0.7

ItemMarks = dict[str, dict[str, float | None]]
"""Item -> criterion -> mark."""


@dataclass(frozen=True, slots=True)
class StudyKey:
    """The key of a study: what stands behind each item.

    Attributes:
        study: its key.
        criteria: what is marked.
        items: item -> system, post and answer.
    """

    study: str
    criteria: tuple[str, ...]
    items: Mapping[str, tuple[str, str, Prediction]]


def holds_study(place: Path) -> bool:
    """Whether a place is the folder of a study."""
    return (place / KEY).is_file()


def read_study(files: Sequence[Path], key_file: Path) -> HumanMarks:
    """Read filled files; items that nobody marked, and files without a mark, are left out and said.

    Args:
        files: one an annotator.
        key_file: the key.json.

    Raises:
        UserError: begins with the file, the row and the column: a mark out of range, a row of another study or of no
            item, an item twice, an answer that is not that of its item, an annotator whose marks are in two files; or
            nothing is marked.
    """
    key = read_key(key_file)
    found: dict[str, ItemMarks] = {}
    of_annotator: dict[str, Path] = {}
    notes = []
    for file in files:
        annotator, marks = _filled(file, key)
        if annotator in of_annotator:
            raise UserError(f"{file}: annotator {annotator} is that of {of_annotator[annotator]} too; keep one of them")
        of_annotator[annotator] = file
        if not any(mark is not None for of_item in marks.values() for mark in of_item.values()):
            notes.append(f"{file}: holds no marks yet; left out")
            continue
        if len(marks) < len(key.items):
            notes.append(
                f"{file}: lacks {len(key.items) - len(marks)} of {len(key.items)} items; they count as missing"
            )
        found[annotator] = marks
    if not found:
        places = ", ".join(map(str, files))
        raise UserError(f"{places}: no file holds a mark of this study yet; each annotator fills one in")
    annotators = sorted(found, key=lambda name: (len(name), name))
    rows = []
    for item, (system, post, answer) in key.items.items():
        marks_of = {
            criterion: tuple(found[name].get(item, {}).get(criterion) for name in annotators)
            for criterion in key.criteria
        }
        if any(mark is not None for given in marks_of.values() for mark in given):
            rows.append(MarkedAnswer(answer, system, post, marks_of))
    if len(rows) < len(key.items):
        notes.append(f"{len(key.items) - len(rows)} of {len(key.items)} items have no mark of anybody; left out")
    digests = tuple(
        {"file": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()} for file in [*files, key_file]
    )
    return HumanMarks(tuple(rows), key.criteria, tuple(annotators), digests, study=key.study, notes=tuple(notes))


def read_key(path: Path) -> StudyKey:
    """Read the key of a study.

    Raises:
        UserError: no such file, or not a key that `mentallama data annotate` wrote.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; it is written by `mentallama data annotate` as {KEY}")
    with reading(path, "key of a study", may_hold_posts=True):
        value = parse_json(path.read_bytes(), path, may_hold_posts=True)
        if value["format"] != FORMAT:
            raise UserError(f"{path}: has format {shown_cell(value['format'])}; this version reads {FORMAT}")
        items = {
            str(name): (str(each["system"]), str(each["post"]), _answer(each["answer"], path))
            for name, each in value["items"].items()
        }
        return StudyKey(str(value["study"]), tuple(map(str, value["criteria"])), items)


def _answer(value: Any, path: Path) -> Prediction:
    return parse_prediction(json.dumps(value).encode(), path)


def _filled(file: Path, key: StudyKey) -> tuple[str, ItemMarks]:
    """The annotator of a filled file, and the marks."""
    with reading(file, "table", may_hold_posts=True):
        table = read_table(file)
    missing = [name for name in (*_COLUMNS, *key.criteria) if name not in table.columns]
    if missing:
        hint = "; save it with commas between columns" if any(";" in name for name in table.columns) else ""
        found = shown_columns(table.columns)
        raise UserError(f"{file}: the column {missing[0]} is missing{hint or f' (found: {found})'}")
    if table.problems:
        raise UserError(str(table.problems[0]))
    annotators: dict[str, int] = {}
    marks: ItemMarks = {}
    rows: dict[str, int] = {}
    for number, row in table.rows:
        if not any(str(cell).strip() for cell in row.values() if cell is not None):
            continue  # spreadsheet programs leave empty rows at the end
        place = f"{file}, row {number}"
        item = _cell(row, "item")
        _check(row, item, key, place)
        if item in rows:
            raise UserError(f"{place}: item {shown_cell(item)} is that of row {rows[item]} too; keep one of them")
        rows[item] = number
        annotator = _cell(row, "annotator")
        if not _NAME.fullmatch(annotator):
            raise UserError(f"{place}, annotator: {shown_cell(annotator)} is no number or name of an annotator")
        annotators.setdefault(annotator, number)
        marks[item] = {criterion: _mark(row, criterion, place) for criterion in key.criteria}
    if len(annotators) > 1:
        first, second = list(annotators)[:2]
        what = f"row {annotators[second]} is of annotator {shown_cell(second)}"
        raise UserError(f"{file}: {what}, the rows before of {shown_cell(first)}; give each annotator a file")
    return next(iter(annotators), file.stem), marks


def _check(row: Mapping[str, Any], item: str, key: StudyKey, place: str) -> None:
    """Refuse a row that is not of the study.

    Raises:
        UserError: it is of another study or of no item, or its answer is not that of its item.
    """
    study = _cell(row, "study")
    if study != key.study:
        raise UserError(f"{place}: is of study {shown_cell(study)}, the key of {key.study}; give the key of that study")
    if item not in key.items:
        raise UserError(f"{place}: {shown_cell(item)} is no item of study {key.study}; was the column item changed?")
    wanted, found = (_letters(text) for text in (key.items[item][2].generated_text, _cell(row, "answer")))
    if wanted != found and difflib.SequenceMatcher(None, wanted, found, autojunk=False).ratio() < _ALIKE:
        raise UserError(
            f"{place}: the answer is not that of item {item}, as after a sort of some columns alone; undo the sort"
        )


def _letters(text: str) -> str:
    """The beginning without what programs change: case, blanks, quotation marks, characters beyond ASCII."""
    return "".join(letter for letter in text if letter.isascii() and letter.isalnum()).casefold()[:_COMPARED]


def _cell(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def _mark(row: Mapping[str, Any], criterion: str, place: str) -> float | None:
    cell = _cell(row, criterion)
    if not cell:
        return None
    low, high = (int(end) for end in SCALE)
    text = cell.removesuffix(".0").removesuffix(",0")
    if not (text.isascii() and text.isdigit() and low <= int(text[:9]) <= high):
        raise UserError(f"{place}, {criterion}: {shown_cell(cell)} is not a whole number from {low} to {high}")
    return float(text)
