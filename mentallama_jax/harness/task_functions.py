"""What the tasks of `task_folder` compute, without jax: documents, and whether an answer states the gold label."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mentallama_jax.imhi.labels import read_label
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.task_files.kept_tasks import kept_tasks
from mentallama_jax.imhi.tasks import TASKS, own_tasks
from mentallama_jax.imhi.wording import instruction_query, instruction_response

_KNOWN = ExitStack()
"""Holds what is known until the process ends."""


def know_tasks(folder: Path) -> None:
    """Let the tasks that a folder keeps be known for the rest of the process."""
    _KNOWN.enter_context(own_tasks(kept_tasks(folder)))


def document(record: Record) -> dict[str, Any]:
    """A record as a document of a task; `gold` is the place of its label among the choices."""
    return {
        "id": record.id,
        "dataset": record.dataset,
        "aspect": record.aspect,
        "post_id": record.post_id,
        "query": instruction_query(record),
        "label": record.label,
        "gold": record.task.labels.index(record.label),
        "response": instruction_response(record),
    }


def documents(file: Path, name: str) -> Any:
    """The documents of a data set in a file that `task_folder.write_tasks` wrote, as the harness takes them."""
    from datasets import Dataset, DatasetDict

    with file.open(encoding="utf-8") as stream:
        rows = [row for row in map(json.loads, stream) if row["dataset"] == name]
    return DatasetDict({"test": Dataset.from_list(rows)})


def answer_scores(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """`acc`: whether the answer states the gold label; `unparsed`: whether it states none (it is wrong then)."""
    label = read_label(results[0], TASKS[doc["dataset"]], doc["aspect"])
    return {"acc": float(label == doc["label"]), "unparsed": float(label is None)}
