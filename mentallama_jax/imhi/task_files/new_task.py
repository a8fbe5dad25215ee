"""A commented template of a task file, from a table of posts and labels: it loads as it is, for people to edit."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown_cell
from mentallama_jax.imhi.data_files.build import match_label
from mentallama_jax.imhi.data_files.table_records import word_cell
from mentallama_jax.imhi.data_files.table_rows import Problem, Table, shown_columns
from mentallama_jax.imhi.data_files.tables import read_table
from mentallama_jax.imhi.task_files.plain_text import loose, sentences_of
from mentallama_jax.imhi.task_files.task import ENGLISH, Task
from mentallama_jax.imhi.task_files.task_reading import parse_task
from mentallama_jax.imhi.tasks import TASKS, own_tasks
from mentallama_jax.storage import AnyPath

_MOST_VALUES = 50
_LONGEST_VALUE, _MOST_WORDS = 60, 6
_FEW_ROWS = 8
_LOOKED_AT = 300
_USUAL_POSTS = ("post", "text", "body", "content", "message", "tweet")
_TRUTHS = {"1": "yes", "true": "yes", "0": "no", "false": "no", "yes": "yes", "no": "no"}
_SCRIPTS = {
    "GREEK": "el",
    "DEVANAGARI": "hi",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "CJK": "zh",
    "HANGUL": "ko",
    "ARABIC": "ar",
    "HEBREW": "he",
    "CYRILLIC": "ru",
    "THAI": "th",
    "BENGALI": "bn",
    "TAMIL": "ta",
}
_ENGLISH_WORDS = frozenset({"the", "and", "to", "of", "i", "my", "is", "it", "in", "that", "was", "for", "not"})
_ENGLISH_SHARE = 0.08


@dataclass(frozen=True, slots=True)
class NewTask:
    """A template.

    Attributes:
        text: of the file.
        task: what it says.
        counts: canonical label -> rows.
        without: rows without a label.
        problems: of rows that cannot be read.
    """

    text: str
    task: Task
    counts: Mapping[str, int]
    without: int
    problems: Sequence[Problem]


def new_task(
    path: AnyPath,
    *,
    label_column: str,
    post_column: str = "",
    aspect_column: str = "",
    name: str = "",
    language: str = "",
) -> NewTask:
    """Make a template of the labels that a table holds.

    Args:
        path: the table, see `tables.read_table`.
        label_column: whose values are the labels.
        post_column: of the posts; by default one with a usual name, else that with the longest texts.
        aspect_column: what a row asks about, where several questions are asked about a post.
        name: of the task; by default made of the file's.
        language: code such as `de`; by default guessed from the posts.

    Raises:
        UserError: a missing column, a column that holds too many values to be labels, or a name that is taken.
    """
    table = read_table(path)
    for column in filter(None, (label_column, post_column, aspect_column)):
        if column not in table.columns:
            raise UserError(f"{path}: there is no column {shown_cell(column)} (found: {shown_columns(table.columns)})")
    post_column = post_column or _post_column(table, {label_column, aspect_column}, path)
    posts = [str(row.get(post_column) or "") for _, row in table.rows[:_LOOKED_AT]]
    language = language or _language(posts)
    values, spellings = _values(table, label_column, "labels", path)
    aspects = list(_values(table, aspect_column, "aspects", path)[0]) if aspect_column else []
    labels, raw = _labels(values, language)
    columns = {"post": post_column, "label": label_column} | ({"aspect": aspect_column} if aspect_column else {})
    draft = _Draft(_name(name, path), language, labels, raw, aspects, columns, path.name)
    place = f"template of {path}"
    named = {value: raw.get(value) or (value if value in labels else value.lower()) for value in spellings}
    raw |= _unread(
        parse_task(draft.text().encode(), place), {named[value]: cells for value, cells in spellings.items()}
    )
    text = draft.text()
    task = parse_task(text.encode(), place)
    with own_tasks([task]):  # refuses a name that another task has
        pass
    filled = sum(values.values())
    return NewTask(text, task, labels, len(table.rows) - filled, table.problems)


@dataclass(frozen=True, slots=True)
class _Draft:
    name: str
    language: str
    labels: Mapping[str, int]
    raw: Mapping[str, str]
    aspects: Sequence[str]
    columns: Mapping[str, str]
    file: str

    def text(self) -> str:
        return "\n".join([*self._head(), *self._questions(), *self._labels(), *self._tail()]) + "\n"

    def _head(self) -> Iterable[str]:
        yield f"# A task of your own, drafted from {_comment(self.file)}. It loads as it is; read and mend each line."
        yield "# What a model learns to write, and what is read from its answers, stands here: mend it before tuning."
        yield f"name: {self.name}  # in --dataset, in files and in tables"
        yield "# aliases: [another-name]  # other names that files of this data set go by"
        yield "kind: detection  # what is detected, in a few words"
        yield f"source: {_quoted(self.file)}  # where the posts come from"
        yield f"language: {self.language}  # a guess; of question and sentences: en, de, zh-Hans, ...; und if mixed"
        yield "# licence: who may use the posts, and for what"

    def _questions(self) -> Iterable[str]:
        asked = "What does this post show about {aspect}?" if self.aspects else "What does this post show?"
        yield ""
        yield "# What is asked about a post, in the language of the task."
        yield f"question: {_quoted(asked)}"
        if self.aspects:
            yield f"aspects: [{', '.join(map(_quoted, self.aspects))}]  # each post is asked about one, a row each"
        start = "About {aspect}, this post shows" if self.aspects else "This post shows"
        yield f"completion_prefix: {_quoted(start)}  # what the completion format has continued by `completion`"

    def _labels(self) -> Iterable[str]:
        yield ""
        yield "# A label is read from an answer by its sentence, its name, its completion and its aliases, which no two"
        yield "# labels may share. Give each label a whole sentence in the language of the task."
        yield "labels:"
        for label, count in self.labels.items():
            yield f"  {_quoted(label)}:  # {count:,} rows"
            yield f"    sentence: {_quoted(_sentence(label, self.labels, self.language))}"
            yield f"    completion: {_quoted(label)}"
            yield "    # aliases: [another word for it]"

    def _tail(self) -> Iterable[str]:
        first = _quoted(next(iter(self.labels)))
        if self.language.split("-")[0] != ENGLISH:
            yield "# answer_leads: [Answer, The answer is]  # words of your language that introduce an answer"
        yield ""
        yield "# Labels of posts that must not be missed, as somebody may be in danger; their recall is reported first."
        yield "# high_risk:"
        yield f"#   labels: [{first}]"
        yield "#   reason: why these"
        yield ""
        yield "# What the raw table calls its columns and labels; `mentallama data build` reads it by this."
        yield "raw_table:"
        columns = ", ".join(f"{ours}: {_quoted(theirs)}" for ours, theirs in self.columns.items())
        yield f"  columns: {{{columns}}}"
        if self.raw:
            cells = ", ".join(f"{_quoted(cell)}: {_quoted(label)}" for cell, label in self.raw.items())
            yield f"  labels: {{{cells}}}"


def _post_column(table: Table, others: set[str], path: AnyPath) -> str:
    free = [column for column in table.columns if column not in others]
    usual = [column for column in free if column.lower() in _USUAL_POSTS]
    if usual:
        return usual[0]
    rows = [row for _, row in table.rows[:_LOOKED_AT]]
    lengths = {column: sum(len(row[column]) for row in rows if isinstance(row.get(column), str)) for column in free}
    if not lengths or not max(lengths.values()):
        raise UserError(f"{path}: no column holds texts; name that of the posts with --post-column")
    return max(lengths, key=lengths.__getitem__)


def _unread(task: Task, cells: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Cell -> label, for those of a label's cells that `data build` would not read as the label."""
    found = {}
    for label, spellings in cells.items():
        for cell in spellings:
            try:
                known = match_label(cell, task)
            except UserError:
                known = ""
            if known != label:
                found[cell] = label
    return found


def _values(table: Table, column: str, what: str, path: AnyPath) -> tuple[Counter[str], dict[str, list[str]]]:
    """Value of a column -> rows, most frequent first, and value -> its spellings.

    Values that differ by case and the like are one.
    """
    counts: Counter[str] = Counter()
    spelt: dict[str, Counter[str]] = {}
    for number, row in table.rows:
        try:
            cell = " ".join(word_cell(row, column).split())
        except UserError as error:
            raise UserError(f"{path}, row {number}: {error}") from None
        if cell:
            key = loose(cell) or cell
            counts[key] += 1
            spelt.setdefault(key, Counter())[cell] += 1
            if len(cell) > _LONGEST_VALUE or len(cell.split()) > _MOST_WORDS:
                raise UserError(
                    f"{path}, row {number}: the column {shown_cell(column)} holds a text of {len(cell)} characters "
                    f"and {len(cell.split())} words; {what} are short names"
                )
    rows = sum(counts.values())
    if len(counts) > _MOST_VALUES or (rows >= _FEW_ROWS and 2 * len(counts) > rows):
        raise UserError(
            f"{path}: the column {shown_cell(column)} holds {len(counts):,} different values in {rows:,} rows, too "
            f"many to be {what} (at most {_MOST_VALUES}, and each more than once); name another column"
        )
    if len(counts) < 2:
        raise UserError(f"{path}: the column {shown_cell(column)} holds {len(counts)} value; {what} are two or more")
    value_of = {key: spelt[key].most_common(1)[0][0] for key, _ in counts.most_common()}
    return Counter({value: counts[key] for key, value in value_of.items()}), {
        value: list(spelt[key]) for key, value in value_of.items()
    }


def _labels(values: Counter[str], language: str) -> tuple[dict[str, int], dict[str, str]]:
    """Canonical label -> rows, and cell -> label where the cell is no name for one."""
    if {value.lower() for value in values} <= set(_TRUTHS) and len(values) == 2:
        truths = {value: _TRUTHS[value.lower()] for value in values}
        if len(set(truths.values())) == 2:
            counts = {truths[value]: count for value, count in values.items()}
            raw = {value: label for value, label in truths.items() if value.lower() != label}
            return {label: counts[label] for label in ("yes", "no")}, raw
    labels: dict[str, int] = {}
    raw = {}
    for number, (value, count) in enumerate(values.items(), start=1):
        label = value
        if not _is_name(value, language):
            label = f"class {value}" if re.fullmatch(r"[\w.]{1,8}", value, re.ASCII) else f"class {number}"
            raw[value] = label
        labels[label] = count
    return labels, raw


def _is_name(value: str, language: str) -> bool:
    found = sentences_of(value, language)
    plain = len(found) == 1 and not found[0].asks and not found[0].goes_on
    return plain and value.isprintable() and any(map(str.isalpha, value)) and "reasoning:" not in value.casefold()


def _sentence(label: str, labels: Iterable[str], language: str) -> str:
    if language.split("-")[0] != ENGLISH:
        return label if label[-1] in ".。।۔" else f"{label}."
    if set(labels) == {"yes", "no"}:
        return "Yes, the post shows this." if label == "yes" else "No, the post does not show this."
    return f"This post shows {label.rstrip('.')}."


def _name(given: str, path: AnyPath) -> str:
    name = given or re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem).strip("-_")[:32]
    if given:
        return name
    if not name or not name[0].isalpha():
        name = f"task-{name}".strip("-")
    return f"{name}-task" if TASKS.named(name) or name.lower() in ("all", "sample", "train", "val", "test") else name


def _language(posts: Sequence[str]) -> str:
    """A guess: by script, else English where its commonest words are common, else `und`."""
    scripts: Counter[str] = Counter()
    for character in "".join(posts)[:20_000]:
        if character.isalpha():
            scripts[unicodedata.name(character, "?").split()[0]] += 1
    if not scripts:
        return "und"
    # Japanese is written in Chinese characters too.
    script = "HIRAGANA" if scripts["HIRAGANA"] * 10 > scripts.total() else scripts.most_common(1)[0][0]
    if script != "LATIN":
        return _SCRIPTS.get(script, "und")
    words = re.findall(r"[^\W\d_]+", " ".join(posts).lower())
    share = sum(word in _ENGLISH_WORDS for word in words) / max(1, len(words))
    return ENGLISH if share >= _ENGLISH_SHARE else "und"


def _quoted(text: Any) -> str:
    return "'" + str(text).replace("'", "''") + "'"


def _comment(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
