"""One canonical record per question about a post."""

import hashlib
import re
from dataclasses import dataclass

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown_cell
from mentallama_jax.imhi.tasks import TASKS, Task

_SPACES = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Record:
    """A post, a question about it and the gold answer, where there is one.

    Attributes:
        id: unique within a collection and stable between reads, such as `DR/train/17`.
        dataset: canonical name of the data set (a key of `TASKS`).
        post: the text, as read.
        label: canonical gold label (a key of the task's `sentences`); "" where there is no gold.
        explanation: gold explanation; may be empty.
        aspect: what the question is about, where the task has aspects; else "".
        split: "train", "val", "test" or "".
        source: where it was read from, as `path:row` (row 1 is the first data row).
        original_label: the human label where it is known to differ from the released one; else "".
    """

    id: str
    dataset: str
    post: str
    label: str = ""
    explanation: str = ""
    aspect: str = ""
    split: str = ""
    source: str = ""
    original_label: str = ""

    def __post_init__(self) -> None:
        task = TASKS.get(self.dataset)
        where = self.source or self.id
        if task is None:
            raise UserError(f"{where}: unknown data set {shown_cell(self.dataset, TASKS)} (known: {', '.join(TASKS)})")
        for label in (self.label, self.original_label):
            if label and label not in task.sentences:
                what = shown_cell(label, task.labels)
                raise UserError(f"{where}: {what} is not a label of {task.name} ({', '.join(task.labels)})")
        if self.aspect not in (task.aspects or ("",)):
            known = ", ".join(task.aspects) or "none"
            raise UserError(
                f"{where}: {shown_cell(self.aspect, task.aspects)} is not an aspect of {task.name} ({known})"
            )

    @property
    def task(self) -> Task:
        """The record's row in the table of data sets."""
        return TASKS[self.dataset]

    @property
    def post_id(self) -> str:
        """Sixteen hex digits that are equal for posts with equal text (case and white space aside)."""
        return post_id(self.post)


def post_id(post: str) -> str:
    """Identify a post by its text: questions about one post share it, in any data set and split."""
    folded = _SPACES.sub(" ", post).strip().casefold()
    return hashlib.sha256(folded.encode("utf-8", "surrogatepass")).hexdigest()[:16]
