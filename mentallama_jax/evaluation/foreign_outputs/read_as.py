"""What a user says about files of outputs that do not say it themselves: columns, data set, gold."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.foreign_outputs.gold_rows import GoldRows, gold_rows
from mentallama_jax.foreign import shown
from mentallama_jax.imhi.data_files.column_roles import parse_roles
from mentallama_jax.imhi.tasks import TASKS, Task, task_named

ROLES = ("gold", "text", "id", "dataset", "aspect", "post_id", "filter", "first")
"""What a column may be for. Two are no columns: `filter` is the name of a filter in a log of lm-evaluation-harness, and
`first` what ids count from that are row numbers, 0 or 1."""

_WORD = re.compile(r"[A-Za-z0-9]+")
_LONGEST_ALIAS = 4  # words


@dataclass(frozen=True, slots=True)
class ReadAs:
    """How files of outputs are to be read.

    Attributes:
        columns: role -> name of a column; see `ROLES`.
        dataset: of all rows; None where the files say it.
        gold: gold rows that outputs are joined to by id; None where the outputs hold their gold.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    dataset: Task | None = None
    gold: GoldRows | None = None

    def __post_init__(self) -> None:
        said = self.columns.get("first")
        if said is not None and said not in ("0", "1"):
            raise UserError(f"--columns first={shown(said)}: row numbers count from 0 or from 1")
        if said is not None and self.gold is None:
            raise UserError("--columns first=0 or first=1 goes with --gold, whose rows are found by their numbers")

    def said(self) -> dict[str, Any]:
        """The same as plain values of JSON, gold by the name of its source; `said_before` takes them."""
        return {
            "columns": dict(self.columns),
            "dataset": self.dataset and self.dataset.name,
            "gold": self.gold and self.gold.name,
        }

    @property
    def named(self) -> dict[str, str]:
        """Role -> column, of the columns that are named."""
        return {role: name for role, name in self.columns.items() if role not in ("filter", "first")}

    @property
    def first(self) -> int | None:
        """What row numbers count from; None where it is not said."""
        return int(self.columns["first"]) if "first" in self.columns else None


AS_THEY_SAY = ReadAs()


def parse_columns(text: str) -> dict[str, str]:
    """The columns of an option such as `gold=answer,text=output`.

    Raises:
        UserError: it is no such list, or it names a role that there is not, or one twice.
    """
    return parse_roles(text, ROLES)


def said_before(said: Mapping[str, Any], gold: GoldRows | None = None) -> ReadAs:
    """What `ReadAs.said` wrote; gold rows that are given take the place of those of the source that it names.

    Raises:
        UserError: an unknown data set, or gold that cannot be read.
    """
    if gold is None and said["gold"] is not None:
        gold = gold_rows(said["gold"])
    return ReadAs(said["columns"], task_named(said["dataset"]) if said["dataset"] else None, gold)


def dataset_of_name(name: str) -> Task | None:
    """The data set that a file's name tells, such as DR of `DR_llama3`; None where it tells none, or several."""
    try:
        return task_named(name)
    except UserError:
        pass
    words = [word.lower() for word in _WORD.findall(name)]
    parts = {
        "".join(words[start:end])
        for start in range(len(words))
        for end in range(start + 1, min(start + _LONGEST_ALIAS, len(words)) + 1)
    }
    found = {
        task.name: task
        for task in TASKS.values()
        for alias in (task.name, *task.aliases)
        if "".join(_WORD.findall(alias)).lower() in parts
    }
    return next(iter(found.values())) if len(found) == 1 else None
