"""The human evaluation of the release: a model's explanation of a DR label, marked by three annotators."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import parse_json, shown_cell
from mentallama_jax.imhi.data_files.table_rows import Problem, Table, shown_columns
from mentallama_jax.imhi.data_files.tables import read_table
from mentallama_jax.imhi.tasks import TASKS

CRITERIA = ("fluency", "completeness", "reliability", "overall")
ANNOTATORS = 3
HIGHEST_MARK = 3

_LONGEST_NAME = 60
_MOST_WORDS_OF_A_NAME = 5
_LABELS = {"0": "no", "1": "yes"}
_TASK = TASKS["DR"]


@dataclass(frozen=True, slots=True)
class Annotation:
    """A generated explanation and what people think of it.

    Attributes:
        id: stable between reads, such as `gpt3_data/17`.
        post: the text, as read.
        label: canonical gold label of DR.
        model: the model that wrote the explanation: its column's name.
        explanation: what the model wrote, as read.
        marks: criterion -> the marks of the three annotators, 0 to 3 each, in their order; None where one is missing.
    """

    id: str
    post: str
    label: str
    model: str
    explanation: str
    marks: Mapping[str, tuple[int | None, ...]]

    def row(self) -> dict[str, str]:
        """The row of the released file: column -> cell."""
        label = next(cell for cell, label in _LABELS.items() if label == self.label)
        marks = {criterion: str(list(marks)) for criterion, marks in self.marks.items()}
        return {"text": self.post, "label": label, self.model: self.explanation} | marks


def read_annotations(path: str | Path, *, strict: bool = False) -> tuple[list[Annotation], list[Problem]]:
    """Read a file of `human_evaluation/DR_annotation`: `text,label,<model>,fluency,completeness,reliability,overall`.

    Returns:
        The annotations, and the rows that could not be read.

    Raises:
        UserError: the file is missing or malformed, no row can be read, or, with `strict`, one cannot.
    """
    path = Path(path)
    table = read_table(path)
    model = _model_column(table, path)
    annotations = []
    problems = list(table.problems)
    for number, row in table.rows:
        try:
            annotations.append(_annotation(row, model, f"{path.stem}/{number}"))
        except UserError as error:
            problems.append(Problem(str(path), number, str(error)))
    problems.sort(key=lambda problem: problem.row)
    if problems and (strict or not annotations):
        raise UserError(str(problems[0]))
    return annotations, problems


def _model_column(table: Table, path: Path) -> str:
    known = ("text", "label", *CRITERIA)
    missing = [name for name in known if name not in table.columns]
    models = [name for name in table.columns if name not in known]
    if missing:
        raise UserError(f"{path}: the column {missing[0]} is missing (found: {shown_columns(table.columns)})")
    if len(models) != 1:
        raise UserError(f"{path}: expected one column with a model's explanations, found {shown_columns(models)}")
    if len(models[0]) > _LONGEST_NAME or len(models[0].split()) > _MOST_WORDS_OF_A_NAME:
        raise UserError(f"{path}: {shown_columns(models)} is no name of a model; is the header right?")
    return models[0]


def _annotation(row: Mapping[str, Any], model: str, name: str) -> Annotation:
    cells = {column: _text(row, column) for column in ("text", "label", model, *CRITERIA)}
    label = _LABELS.get(cells["label"].strip())
    if label is None:
        raise UserError(f"{shown_cell(cells['label'])} is not a label of {_TASK.name} here (0 is no, 1 is yes)")
    marks = {criterion: _marks(cells[criterion], criterion) for criterion in CRITERIA}
    return Annotation(name, cells["text"], label, model, cells[model], marks)


def _text(row: Mapping[str, Any], column: str) -> str:
    cell = row.get(column)
    if not isinstance(cell, str):
        raise UserError(f"{shown_columns([column])} is not a text")
    return cell


def _marks(cell: str, criterion: str) -> tuple[int | None, ...]:
    try:
        marks = parse_json(cell.replace("None", "null"), criterion, may_hold_posts=True)
    except UserError:
        marks = None
    marked = isinstance(marks, list) and len(marks) == ANNOTATORS
    given = [mark for mark in marks if mark is not None] if marked else []
    if not marked or any(type(mark) is not int or not 0 <= mark <= HIGHEST_MARK for mark in given):
        raise UserError(f"{criterion} is not a list of {ANNOTATORS} marks from 0 to {HIGHEST_MARK}")
    return tuple(marks)
