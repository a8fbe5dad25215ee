"""Questions in other words, and the records that ask them."""

import string
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.probes.probe_tables import packaged_table, table_of_file
from mentallama_jax.foreign import shown
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS, Task

Rewordings = Mapping[str, tuple[str, ...]]
"""Question of a task -> other wordings of it."""


@dataclass(frozen=True, slots=True)
class RewordedRecord(Record):
    """A record whose question is asked in other words.

    Attributes:
        question: the words; may hold `{aspect}`.
    """

    question: str = ""

    @property
    def task(self) -> Task:
        """The task of the record, with the other question."""
        prefix = f'The answer to the question "{self.question}" is'
        return replace(TASKS[self.dataset], question=self.question, completion_prefix=prefix)


def reworded(record: Record, question: str) -> RewordedRecord:
    """The record with another question."""
    values = {field.name: getattr(record, field.name) for field in fields(Record)}
    return RewordedRecord(**values, question=question)


@cache
def packaged_rewordings() -> Rewordings:
    """The table that comes with the package, `rewordings.yaml`."""
    return _rewordings(packaged_table("rewordings.yaml"), "rewordings.yaml")


def read_rewordings(path: Path) -> Rewordings:
    """A table in a file of the layout of `rewordings.yaml`.

    Raises:
        UserError: no such file, not YAML, or not such a table; it names the key.
    """
    return _rewordings(table_of_file(path), path)


def _rewordings(value: Any, place: object) -> Rewordings:
    if not isinstance(value, dict) or not value:
        raise UserError(f"{place}: expected questions of the benchmark with a list of rewordings each")
    known = {task.question for task in TASKS.values()}
    for question, given in value.items():
        if question not in known:
            raise UserError(f"{place}: {shown(question)} is no question of the benchmark")
        if not isinstance(given, list) or not given or not all(isinstance(text, str) and text for text in given):
            raise UserError(f"{place}: {shown(question)}: expected a list of questions")
        for text in given:
            if _holes(text, place) != _holes(question, place):
                raise UserError(f"{place}: {shown(text)}: must hold {{aspect}} where the question of the task does")
    if len({len(given) for given in value.values()}) > 1:
        raise UserError(f"{place}: every question needs the same number of rewordings")
    return {question: tuple(given) for question, given in value.items()}


def _holes(text: str, place: object) -> set[str]:
    """What stands between braces, formats and conversions included."""
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError:
        raise UserError(f"{place}: {shown(text)}: a brace stands alone; write {{{{ or }}}} for one") from None
    return {f"{name}{form}{conversion or ''}" for _, name, form, conversion in parts if name is not None}
