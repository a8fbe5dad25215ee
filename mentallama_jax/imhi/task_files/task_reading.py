"""Reads the YAML file of a task, strictly: a misspelt key is refused with the nearest known one.

The keys are explained in `imhi/README.md`. One's own files and the ten shipped ones are read alike, but for
`english`, which only shipped files have.
"""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from string import Formatter
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.imhi.task_files.distinction import check_labels
from mentallama_jax.imhi.task_files.task import EnglishReading, Task
from mentallama_jax.strict_yaml import parse_yaml

_KEYS = (
    "name",
    "aliases",
    "kind",
    "source",
    "language",
    "licence",
    "sizes",
    "held_out",
    "question",
    "aspects",
    "completion_prefix",
    "labels",
    "high_risk",
    "answer_leads",
    "raw_table",
)
_NEEDED = ("name", "language", "question", "labels")
_LABEL_KEYS = ("sentence", "completion", "aliases")
_ENGLISH_KEYS = ("nouns", "adjectives", "exists", "denied", "names", "topic", "disorders", "keys")
_SPLITS = ("train", "val", "test")
COLUMNS = ("post", "label", "aspect", "explanation", "split", "id")
"""Our names of the columns of a raw table."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
_RESERVED = frozenset({"all", "sample", "train", "val", "valid", "validation", "dev", "test", "expert"})
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,4}")
_LONGEST_LABEL, _LONGEST_TEXT = 80, 600
_MOST_LABELS, _MOST_ASPECTS = 100, 50


def parse_task(content: bytes, place: object, *, shipped: bool = False) -> Task:
    """The task that a YAML file describes.

    Args:
        content: of the file.
        place: what to name in errors.
        shipped: the file is one of the package's own, and may hold `english`.

    Raises:
        UserError: begins with `place`: not YAML, a key that is missing, unknown or of a wrong kind, or labels that
            reading an answer could not distinguish.
    """
    keys = _Keys(parse_yaml(content, place), place, "", (*_KEYS, "english") if shipped else _KEYS)
    keys.need(*_NEEDED)
    name = keys.text("name", _LONGEST_LABEL)
    if not _NAME.fullmatch(name) or name.lower() in _RESERVED:
        raise UserError(
            f"{place}: name is {shown(name)}; give 1 to 40 of A-Z, a-z, 0-9, - and _, with a letter first, and no word "
            "that means a split"
        )
    labels = keys.section("labels")
    sections = {label: labels.section(label, _LABEL_KEYS) for label in labels.names()}
    for section in sections.values():
        section.need("sentence")
    sentences = {label: section.text("sentence") for label, section in sections.items()}
    raw, risk = keys.section("raw_table", ("columns", "labels")), keys.section("high_risk", ("labels", "reason"))
    question = keys.text("question")
    task = Task(
        name=name,
        kind=keys.text("kind", default=""),
        source=keys.text("source", default=""),
        question=question,
        sentences=sentences,
        completion_prefix=keys.text("completion_prefix", default=question),
        completion_words={label: section.text("completion", default=label) for label, section in sections.items()},
        sizes=_sizes(keys.section("sizes", _SPLITS)),
        label_aliases={
            label: found for label, section in sections.items() if (found := section.texts("aliases", _LONGEST_LABEL))
        },
        aliases=keys.texts("aliases", _LONGEST_LABEL),
        aspects=keys.texts("aspects", _LONGEST_LABEL),
        high_risk=risk.texts("labels"),
        high_risk_reason=risk.text("reason", default=""),
        held_out=keys.flag("held_out"),
        language=keys.text("language"),
        licence=keys.text("licence", default=""),
        columns=raw.section("columns", COLUMNS).mapping(),
        raw_labels=raw.section("labels").mapping(),
        answer_leads=keys.texts("answer_leads", _LONGEST_LABEL),
        english=_english(keys.section("english", _ENGLISH_KEYS)) if shipped else None,
    )
    check(task, place)
    return task


def check(task: Task, place: object) -> None:
    """Refuse a task whose parts do not go together.

    Raises:
        UserError: begins with `place`, and names the key.
    """
    if not 2 <= len(task.sentences) <= _MOST_LABELS:
        raise UserError(f"{place}: labels: {len(task.sentences)} are there; give 2 to {_MOST_LABELS}")
    if not _LANGUAGE.fullmatch(task.language):
        raise UserError(f"{place}: language is {shown(task.language)}; give a code such as en, de or zh-Hans, or und")
    for label in task.sentences:
        if len(label) > _LONGEST_LABEL or label != " ".join(label.split()) or not label:
            raise UserError(f"{place}: labels: {shown(label)} is no name; give a short one without blanks around it")
    if len(task.aspects) > _MOST_ASPECTS:
        raise UserError(f"{place}: aspects: {len(task.aspects)} are more than {_MOST_ASPECTS}")
    _refuse_repeats(task.aspects, "aspects", place)
    _refuse_repeats((task.name, *task.aliases), "name and aliases", place)
    _check_placeholders(task, place)
    for key, label in (
        *(("high_risk.labels", label) for label in task.high_risk),
        *(("raw_table.labels", label) for label in task.raw_labels.values()),
    ):
        if label not in task.sentences:
            raise UserError(f"{place}: {key}: {shown(label)} is not one of the labels ({', '.join(task.labels)})")
    check_labels(task, place)


class _Keys:
    """A mapping of a file whose keys are asked for by name."""

    def __init__(self, value: Any, place: object, section: str, known: tuple[str, ...] | None) -> None:
        self._place, self._section = place, section
        if not isinstance(value, Mapping):
            what = f"{section} has to be a mapping" if section else "expected keys such as `name:` and `labels:`"
            raise UserError(f"{place}: {what}")
        self._values = value
        if known is not None:
            for key in value:
                self._refuse_unknown(key, known)

    def _refuse_unknown(self, key: str, known: tuple[str, ...]) -> None:
        if key in known:
            return
        near = get_close_matches(key, known, n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]}?" if near else f" (known: {', '.join(known)})"
        if key == "english":
            hint = "; only shipped tasks have it: others are read by their sentences and aliases"
        raise UserError(f"{self._place}: unknown key {shown(self._named(key))}{hint}")

    def need(self, *keys: str) -> None:
        missing = [self._named(key) for key in keys if self._values.get(key) is None]
        if missing:
            raise UserError(f"{self._place}: {', '.join(missing)} is missing")

    def names(self) -> tuple[str, ...]:
        return tuple(self._values)

    def section(self, key: str, known: tuple[str, ...] | None = None) -> "_Keys":
        value = self._values.get(key)
        return _Keys({} if value is None else value, self._place, self._named(key), known)

    def text(self, key: str, longest: int = _LONGEST_TEXT, default: str | None = None) -> str:
        value = self._values.get(key)
        if value is None and default is not None:
            return default
        return self._text(value, key, longest)

    def texts(self, key: str, longest: int = _LONGEST_TEXT) -> tuple[str, ...]:
        value = self._values.get(key)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise UserError(f"{self._place}: {self._named(key)} has to be a list, such as [one, two]")
        return tuple(self._text(each, key, longest) for each in value)

    def flag(self, key: str) -> bool:
        value = self._values.get(key, False)
        if not isinstance(value, bool):
            raise UserError(f"{self._place}: {self._named(key)} has to be true or false")
        return value

    def mapping(self) -> dict[str, str]:
        return {key: self._text(value, key, _LONGEST_LABEL) for key, value in self._values.items()}

    def count(self, key: str) -> int:
        value = self._values.get(key)
        if type(value) is not int or not 0 <= value < 10**12:
            raise UserError(f"{self._place}: {self._named(key)} has to be a number of rows")
        return value

    def __bool__(self) -> bool:
        return bool(self._values)

    def _named(self, key: str) -> str:
        return f"{self._section}.{key}" if self._section else key

    def _text(self, value: Any, key: str, longest: int) -> str:
        named = self._named(key)
        if isinstance(value, bool | int | float):
            raise UserError(f"{self._place}: {named} is {value}; put quotes around it, as it has to be a text")
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{self._place}: {named} has to be a text, and not empty")
        if len(value) > longest or "\n" in value or "\t" in value:
            raise UserError(f"{self._place}: {named} has to be one line of at most {longest} characters")
        return value.strip()


def _sizes(section: _Keys) -> tuple[int, int, int] | None:
    return (section.count("train"), section.count("val"), section.count("test")) if section else None


def _english(section: _Keys) -> EnglishReading:
    texts = {key: section.text(key, 2000, "") for key in ("nouns", "adjectives", "denied", "topic", "keys")}
    names = section.section("names")
    return EnglishReading(
        exists=section.flag("exists"),
        disorders=section.flag("disorders"),
        names={label: names.text(label, 2000) for label in names.names()},
        **texts,
    )


def _refuse_repeats(names: tuple[str, ...], what: str, place: object) -> None:
    folded = [name.casefold() for name in names]
    for index, name in enumerate(folded):
        if name in folded[:index]:
            raise UserError(f"{place}: {what}: {shown(names[index])} stands twice")


def _check_placeholders(task: Task, place: object) -> None:
    for key, text in (("question", task.question), ("completion_prefix", task.completion_prefix)):
        try:
            found = set(_placeholders(text))
        except ValueError:
            found = {"{"}
        if found - {"aspect"}:
            raise UserError(f"{place}: {key}: braces may only hold {{aspect}}")
        if found and not task.aspects:
            raise UserError(f"{place}: {key} holds {{aspect}}, but no aspects are given")
    if task.aspects and "{aspect}" not in task.question:
        raise UserError(f"{place}: aspects are given, but the question does not hold {{aspect}}")


def _placeholders(text: str) -> Iterator[str]:
    for _, name, form, conversion in Formatter().parse(text):
        if name is not None:
            yield name if not form and not conversion else "{"
