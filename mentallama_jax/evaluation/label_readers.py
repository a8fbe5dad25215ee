"""Which label an output states: the ways to read it, chosen by name in one place.

A reader is a function of the output's text, the data set and the aspect asked about ("" where it is not known). It
returns a canonical label of the data set, or None where the output states none. A new way of reading is a new entry in
`READERS`, or a function that is passed instead of a name.
"""

from collections.abc import Callable, Mapping

from mentallama_jax.imhi.labels import Reading, read_label, read_label_by
from mentallama_jax.imhi.labels.upstream import read_as_upstream, upstream_label
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


class ReadingOnce:
    """A reader under its own name, which reads each output once, however many figures ask for its label."""

    def __init__(self, which: str | LabelReader) -> None:
        self.__name__, self._read = label_reader(which)
        self._kept: dict[tuple[str, str, str], Reading] = {}

    def __call__(self, text: str, task: Task, aspect: str) -> str | None:
        """The label of an output."""
        return self._reading(text, task, aspect).label

    def rule(self, row: Prediction) -> str:
        """Which rule decided the label of an answer, as `label_of` finds it."""
        if self.__name__ == RULES and row.decided_label:
            return "decided when it was answered"
        return self._reading(row.generated_text, row.task, row.aspect).rule

    def _reading(self, text: str, task: Task, aspect: str) -> Reading:
        key = (text, task.name, aspect)
        if key not in self._kept:
            if self.__name__ == RULES:
                self._kept[key] = read_label_by(text, task, aspect)
            else:
                rule = _upstream_rule(text, task) if self.__name__ == AS_UPSTREAM else self.__name__
                self._kept[key] = Reading(self._read(text, task, aspect), rule)
        return self._kept[key]


def _upstream_rule(text: str, task: Task) -> str:
    out_of_domain = read_as_upstream(text, task).out_of_domain
    return "default class, as no label is found" if out_of_domain else "first substring"
