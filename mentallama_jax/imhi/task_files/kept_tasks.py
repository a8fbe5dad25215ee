"""The tasks of a run as a file of its folder, so that whoever opens the run finds their wording again."""

from collections.abc import Sequence
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.files import regular_file
from mentallama_jax.foreign import parse_json, reading
from mentallama_jax.imhi.task_files.task import Task
from mentallama_jax.imhi.task_files.task_reading import check
from mentallama_jax.storage import AnyPath, as_path

KEPT = "tasks.json"
"""The file's name in the folder of a run; a run of shipped tasks alone has none."""


def keeps_tasks(folder: str | AnyPath) -> bool:
    """Whether a folder keeps tasks."""
    return (as_path(folder) / KEPT).is_file()


def kept_tasks(folder: str | AnyPath) -> tuple[Task, ...]:
    """The tasks that are kept in a folder; none where it keeps none, or is no folder.

    Raises:
        UserError: the file is damaged.
    """
    path = as_path(folder) / KEPT
    if not keeps_tasks(folder):
        return ()
    values = parse_json(regular_file(path).read_bytes(), path)
    with reading(path, "list of tasks"):
        tasks = tuple(Task.of_json(each) for each in values["tasks"])
        for task in tasks:
            if not isinstance(task.sentences, dict):
                raise UserError(f"{path}: holds no tasks; the file is damaged")
            check(task, f"{path}, {task.name}")
    return tasks


def to_keep(tasks: Sequence[Task]) -> dict[str, Any]:
    """What the file holds."""
    return {"tasks": [task.to_json() for task in tasks]}
