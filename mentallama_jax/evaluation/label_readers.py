"""Which label an output states: the ways to read it, chosen by name in one place.

A reader is a function of the output's text, the data set and the aspect asked about ("" where it is not known). It
returns a canonical label of the data set, or None where the output states none. A new way of reading is a new entry in
`READERS`, or a function that is passed instead of a name.
"""

from collections.abc import Callable, Mapping

from mentallama_jax.imhi.labels import read_label
from mentallama_jax.imhi.labels.upstream import upstream_label
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import Task

LabelReader = Callable[[str, Task, str], str | None]

RULES = "templates+words"
AS_UPSTREAM = "as-upstream"
CLASSIFIER = "classifier"
"""Names the reader that is made of models, see `jobs.classified_outputs`; it is none of `READERS`."""


def _as_upstream(text: str, task: Task, aspect: str) -> str:
    return upstream_label(text, task)


READERS: Mapping[str, LabelReader] = {RULES: read_label, AS_UPSTREAM: _as_upstream}
"""`templates+words` reads the whole output; `as-upstream` is the released rule scorer, default class and all."""


def label_reader(which: str | LabelReader) -> tuple[str, LabelReader]:
    """The name of a reader and the reader itself, given either.

    Raises:
        KeyError: no reader has this name.
    """
    if isinstance(which, str):
        return which, READERS[which]
    return getattr(which, "__name__", type(which).__name__), which


def label_of(row: Prediction, which: str | LabelReader) -> str | None:
    """The label of an answer: the one that was decided when it was made, else what the reader finds in its text.

    Votes, and a sentence that the answer was made to begin with, settle a label whatever the explanation goes on to
    say. That holds for the rules, which are to find what the answer states; other readers read the text all the same.
    """
    name, read = label_reader(which)
    if name == RULES and row.decided_label:
        return row.decided_label
    return read(row.generated_text, row.task, row.aspect)


def reading_once(which: str | LabelReader) -> LabelReader:
    """The same reader under the same name, which reads each output once, however many figures ask for its label."""
    name, read = label_reader(which)
    kept: dict[tuple[str, str, str], str | None] = {}

    def read_once(text: str, task: Task, aspect: str) -> str | None:
        key = (text, task.name, aspect)
        if key not in kept:
            kept[key] = read(text, task, aspect)
        return kept[key]

    read_once.__name__ = name
    return read_once
