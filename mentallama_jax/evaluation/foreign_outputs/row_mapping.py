"""From rows of columns to predictions: data set, gold label and post of each row, or the reason why it has none."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.foreign_outputs.output_forms import read_output_table
from mentallama_jax.evaluation.foreign_outputs.output_table import FINISH_REASON, OutputTable, answer_in
from mentallama_jax.evaluation.foreign_outputs.read_as import ReadAs, dataset_of_name
from mentallama_jax.evaluation.foreign_outputs.roles import find_roles
from mentallama_jax.evaluation.odd_rows import gold_contradicted
from mentallama_jax.foreign import holds_half_pair, shown, shown_cell
from mentallama_jax.imhi.data_files.build import match_aspect, match_label
from mentallama_jax.imhi.data_files.readers import question_of, split_query
from mentallama_jax.imhi.data_files.table_records import name_cell, word_cell
from mentallama_jax.imhi.labels import read_label
from mentallama_jax.imhi.labels.gold_response import REASONING, read_gold
from mentallama_jax.imhi.predictions import Prediction, answer_to
from mentallama_jax.imhi.records import post_id
from mentallama_jax.imhi.tasks import Task, task_named
from mentallama_jax.storage import AnyPath

_FINISHES: Mapping[str, str] = {"stop": "eos", "length": "length"}
_NUMBERS_SHOWN = 5
_TRUTHS = frozenset({"0", "1", "0.0", "1.0", "true", "false"})


@dataclass(frozen=True, slots=True)
class ForeignRows:
    """The rows of a file.

    Attributes:
        rows: those that can be scored.
        left_out: number, data set ("" where it is not known) and reason of the others.
        form: what was read, and how, in one line.
        gold: where the gold comes from.
        posts_known: whether every row is known to be of a post.
        remarks: what looks odd of them.
        ids_known: whether the file has ids, or rows those of the gold that they are joined to; else they are numbered.
    """

    rows: list[Prediction]
    left_out: list[tuple[int, str, str]]
    form: str
    gold: str
    posts_known: bool
    remarks: tuple[str, ...] = ()
    ids_known: bool = True


def read_foreign(path: AnyPath, read_as: ReadAs) -> ForeignRows:
    """Read a file of outputs in any form that `output_forms` knows.

    Raises:
        UserError: it cannot be read, its columns cannot be told, an id stands twice, or nothing says the data set.
    """
    return read_output_rows(read_output_table(path, read_as.columns.get("filter")), path, read_as)


def read_output_rows(table: OutputTable, path: AnyPath, read_as: ReadAs) -> ForeignRows:
    """The predictions of a table; `path` names it in errors.

    Raises:
        UserError: as `read_foreign`.
    """
    return _Mapping(path, table, find_roles(table, read_as, path), read_as).read()


@dataclass(slots=True)
class _Mapping:
    path: AnyPath
    table: OutputTable
    roles: Mapping[str, str]
    read_as: ReadAs
    first: int = 1
    of_name: Task | None = None
    notes: Counter[str] = field(default_factory=Counter)
    known_posts: int = 0
    unlike: list[str] = field(default_factory=list)
    """Ids of rows whose own gold is another than that of the gold they are joined to."""

    def read(self) -> ForeignRows:
        self.of_name = dataset_of_name(self.path.stem)
        self.first = self._first_number()
        self._refuse_other_numbers()
        rows: list[Prediction] = []
        left_out = [(number, "", reason) for number, reason in self.table.problems.items()]
        seen: dict[str, int] = {}
        for number, cells in self.table.rows:
            task = None
            try:
                task = self._task(cells)
                row = self._row(number, cells, task)
            except UserError as error:
                left_out.append((number, task.name if task else "", str(error)))
                continue
            if row.id in seen:
                what = f"row {number}: id {shown_cell(row.id)} is that of row {seen[row.id]} too; keep one of them"
                several = [name for name in self.table.columns if name.strip().lower() in ("model", "system")]
                hint = f", or give each {shown(several[0])} a file of its own" if several else ""
                raise UserError(f"{self.path}, {what}{hint}")
            seen[row.id] = number
            rows.append(row)
        gold = f"column {shown(self.roles['gold'])}" if self.read_as.gold is None else self._joined_gold()
        odd = tuple(gold_contradicted(self.unlike, self.roles.get("gold", "")))
        posts_known, ids_known = self.known_posts == len(rows), "id" in self.roles or self.read_as.gold is not None
        return ForeignRows(rows, sorted(left_out), self._form(), gold, posts_known, odd, ids_known)

    def _refuse_other_numbers(self) -> None:
        """Refuse a column whose numbers are classes counted otherwise: with a 2 among them, 1 is no yes.

        Raises:
            UserError: names the numbers.
        """
        for role in ("gold", "text"):
            found: dict[str, set[str]] = {}
            words = 0
            for _, cells in self.table.rows:
                with suppress(UserError):
                    task, cell = self._task(cells), self._cell(cells, role).removesuffix(".0")
                    if not cell.lstrip("-").isdecimal():
                        words += 1
                    elif task is not None and task.is_yes_no:
                        found.setdefault(task.name, set()).add(cell)
            for name, numbers in found.items():
                if not numbers <= {"0", "1"} and (role == "gold" or not words):
                    listed = ", ".join(sorted(numbers)[:_NUMBERS_SHOWN])
                    what = f"column {shown(self.roles[role])} holds the numbers {listed}"
                    raise UserError(f"{self.path}: {what}, and those of {name} are 1 for yes and 0 for no; give names")

    def _first_number(self) -> int:
        """What row numbers count from in the ids, those of failed rows among them; it matters to a join alone.

        Raises:
            UserError: they may count from 0 or from 1.
        """
        if self.read_as.gold is None or "id" not in self.roles:
            return 1
        if self.read_as.first is None and self.roles["id"] == self.table.roles.get("id") == "doc_id":
            return self.table.first or 0
        ids = [self._asked(cells) for cells in [*(cells for _, cells in self.table.rows), *self.table.lost]]
        try:
            return self.read_as.gold.first_number(ids, self.read_as.first)
        except UserError as error:
            raise UserError(f"{self.path}: {error}") from None

    def _asked(self, cells: Mapping[str, Any]) -> tuple[str, Task | None]:
        """The id of a row, and the data set that its number is of; "" and None where they cannot be read."""
        id_, task = "", None
        with suppress(UserError):
            id_ = self._cell(cells, "id")
        with suppress(UserError):
            task = self._task(cells)
        return id_, task

    def _joined_gold(self) -> str:
        assert self.read_as.gold is not None
        if "id" not in self.roles:
            return f"{self.read_as.gold.name}, joined by post (column {shown(self.roles['post'])})"
        counted = f"row numbers count from {self.first}"
        return f"{self.read_as.gold.name}, joined by id (column {shown(self.roles['id'])}; {counted})"

    def _form(self) -> str:
        columns = ", ".join(f"{role}={shown(name)}" for role, name in self.roles.items())
        notes = "".join(f"; {note} ({count:,} rows)" for note, count in sorted(self.notes.items()))
        return f"{self.path}: {self.table.form}; columns {columns}{notes}"

    def _cell(self, cells: Mapping[str, Any], role: str) -> str:
        column = self.roles.get(role)
        if column is None:
            return ""
        value = cells.get(column)
        return str(value).lower() if isinstance(value, bool) else word_cell(cells, column).strip()

    def _task(self, cells: Mapping[str, Any]) -> Task | None:
        if self.read_as.dataset is not None:
            return self.read_as.dataset
        if "dataset" in self.roles:
            return task_named(self._cell(cells, "dataset"))
        return self.of_name

    def _row(self, number: int, cells: Mapping[str, Any], task: Task | None) -> Prediction:
        text = self._text(cells)
        if self.read_as.gold is not None:
            return self._joined(number, cells, task, text)
        post, asked = self._post(cells)
        if task is None and len(asked) == 1:
            task = asked[0][0]
        if task is None:
            raise UserError("nothing says its data set; give --dataset NAME, or --columns dataset=COLUMN")
        aspects = _aspects_asked(asked, task)
        cell = self._cell(cells, "aspect") or (aspects[0] if aspects else "")
        aspect = match_aspect(cell, task) if cell else ""
        label, goldens = self._gold(cells, task, aspect)
        row_id = self._row_id(number, cells, task)
        given_post = self._post_id(cells) or (post_id(post) if post else "")
        self.known_posts += bool(given_post)
        return self._prediction(
            number,
            cells,
            Prediction(
                id=row_id,
                dataset=task.name,
                aspect=aspect,
                post_id=given_post or row_id,
                label=label,
                goldens=goldens,
                generated_text=self._answer(text, task, aspect),
            ),
        )

    def _joined(self, number: int, cells: Mapping[str, Any], task: Task | None, text: str) -> Prediction:
        assert self.read_as.gold is not None
        # A file that is only named after a data set may hold rows of others, by full ids.
        said = self.read_as.dataset is not None or "dataset" in self.roles
        id_ = self._cell(cells, "id")
        if id_:
            record = self.read_as.gold.find(id_, task if said or id_.isdecimal() else None, self.first)
        elif "id" in self.roles:
            raise UserError("it has no id")
        else:
            record = self.read_as.gold.find_post(*self._about(cells, task))
        self.known_posts += 1
        with suppress(UserError):
            if self._gold(cells, record.task, record.aspect)[0] != record.label:
                self.unlike.append(record.id)
        return self._prediction(number, cells, answer_to(record, self._answer(text, record.task, record.aspect)))

    def _about(self, cells: Mapping[str, Any], task: Task | None) -> tuple[str, list[tuple[Task, str]]]:
        """The post of a row without an id, and the data sets and aspects that it may be of."""
        post, asked = self._post(cells)
        if not post:
            raise UserError("it has no post")
        if task is None:
            return post_id(post), asked
        aspects: Sequence[str] = _aspects_asked(asked, task)
        if not asked:
            cell = self._cell(cells, "aspect")
            aspects = [match_aspect(cell, task)] if cell or not task.aspects else task.aspects
        return post_id(post), [(task, aspect) for aspect in aspects]

    def _prediction(self, number: int, cells: Mapping[str, Any], row: Prediction) -> Prediction:
        """The row with how it ended, and with log-probabilities of its labels where choices are exactly these."""
        row = replace(row, finish=_FINISHES.get(str(cells.get(FINISH_REASON)), ""))
        choices = self.table.label_scores.get(number)
        if not choices:
            return row
        try:
            named = {match_label(text, row.task): {"sum": score} for text, score in choices.items()}
        except UserError:
            return row
        if set(named) != set(row.task.labels) or len(named) != len(choices):
            return row
        return replace(row, finish="label", label_log_probabilities=named)

    def _text(self, cells: Mapping[str, Any]) -> str:
        column = self.roles["text"]
        if column not in cells:
            raise UserError("it has no output")
        value = cells[column]
        text = str(value).lower() if isinstance(value, bool) else _number(value)
        text = answer_in(value) if text is None else text
        if holds_half_pair(text):
            raise UserError("its output holds half a character (a lone surrogate)")
        prompt = cells.get(self.roles.get("prompt", ""))
        if isinstance(prompt, str) and prompt and text.startswith(prompt):
            self.notes["the prompt was taken off the head of outputs"] += 1
            text = text[len(prompt) :]
        return text

    def _answer(self, text: str, task: Task, aspect: str) -> str:
        """The output; a bare 1 or 0, or another name of a label, becomes the label where nothing else can be read."""
        word = text.strip()
        if word and len(word) < 60 and read_label(word, task, aspect) is None:
            try:
                label = match_label(word.removesuffix(".0"), task)
            except UserError:
                return text
            numeric = word.lower() in _TRUTHS
            self.notes["outputs 1 and 0 read as yes and no" if numeric else "other names of labels read"] += 1
            return label
        return text

    def _gold(self, cells: Mapping[str, Any], task: Task, aspect: str) -> tuple[str, str]:
        """The label of a gold cell, and the cell itself where it is a gold response."""
        cell = self._cell(cells, "gold")
        if not cell:
            raise UserError("it has no gold label")
        word = cell.removesuffix(".0")
        try:
            return match_label(word, task), gold_text(cell, task)
        except UserError as error:
            if cell.replace(".", "").lstrip("-").isdigit():
                raise
            refused = error
        try:
            return read_gold(cell, task, aspect)[0], gold_text(cell, task)
        except UserError:
            if len(cell.split()) <= 3 and REASONING not in cell:
                raise refused from None
            raise UserError(f"its gold does not begin with a label of {task.name}") from None

    def _row_id(self, number: int, cells: Mapping[str, Any], task: Task) -> str:
        given = name_cell(cells, self.roles["id"]) if "id" in self.roles else ""
        if not given or given.isdecimal():
            return f"{task.name}/{given or number}"
        return given

    def _post_id(self, cells: Mapping[str, Any]) -> str:
        return name_cell(cells, self.roles["post_id"]) if "post_id" in self.roles else ""

    def _post(self, cells: Mapping[str, Any]) -> tuple[str, list[tuple[Task, str]]]:
        """The post of a row, and the questions about it that its query may be; "" and none where it is not known."""
        column = self.roles.get("post")
        value = cells.get(column) if column else None
        if not isinstance(value, str) or not value.strip():
            return "", []
        try:
            post, question = split_query(value)
        except UserError:
            return ("", []) if column is not None and column.endswith("query") else (value, [])
        return post, question_of(question)


def _aspects_asked(asked: Sequence[tuple[Task, str]], task: Task) -> list[str]:
    """The aspects of a data set that a question may be about; none where no question is known.

    Raises:
        UserError: the question is that of other data sets.
    """
    aspects = [aspect for of, aspect in asked if of.name == task.name]
    if asked and not aspects:
        raise UserError(f"its question is that of {' or '.join(of.name for of, _ in asked)}, not of {task.name}")
    return aspects


def gold_text(cell: str, task: Task) -> str:
    """A gold cell as a text that outputs can be compared with; "" where it is no more than the name of a label."""
    head, _, explanation = cell.partition(REASONING)
    if explanation.strip() or _even(head) in {_even(text) for text in task.sentences.values()}:
        return cell
    try:
        match_label(head.strip().removesuffix(".0"), task)
    except UserError:
        return cell
    return ""


def _even(text: str) -> str:
    return text.strip().rstrip(".").casefold()


def _number(value: Any) -> str | None:
    if isinstance(value, int | float):
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return None
