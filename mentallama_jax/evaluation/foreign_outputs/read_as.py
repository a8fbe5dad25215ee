"""What a user says about files of outputs that do not say it themselves: columns, data set, gold."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.foreign_outputs.gold_rows import GoldRows
from mentallama_jax.imhi.data_files.column_roles import parse_roles
from mentallama_jax.imhi.tasks import TASKS, Task, task_named

ROLES = ("gold", "text", "id", "dataset", "aspect", "post_id", "filter")
"""What a column may be for; `filter` is no column, but the name of a filter in a log of lm-evaluation-harness."""

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


AS_THEY_SAY = ReadAs()


def parse_columns(text: str) -> dict[str, str]:
    """The columns of an option such as `gold=answer,text=output`.

    Raises:
        UserError: it is no such list, or it names a role that there is not, or one twice.
    """
    return parse_roles(text, ROLES)


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
