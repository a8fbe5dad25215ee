"""What a classifier reads: a post, an explanation without its label sentence, or a whole response."""

import re
from functools import lru_cache
from typing import Literal

from mentallama_jax.imhi.labels.gold_response import explanation_in
from mentallama_jax.imhi.labels.unwrapping import visible
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import Task
from mentallama_jax.imhi.wording import instruction_response

_FULL_STOPS = ".。।۔"

ClassInput = Literal["post", "explanation", "response"]


def record_text(record: Record, what: ClassInput, *, ask: bool = False) -> str:
    """The text of a record that a classifier learns from; "" where there is none. For `ask` see `with_question`."""
    if what == "post":
        text = record.post
    elif what == "explanation":
        text = without_label_sentences(record.explanation, record.task)
    else:
        text = instruction_response(record) if record.explanation else ""
    return with_question(text, record.task, record.aspect, ask=ask)


def output_text(row: Prediction, what: ClassInput, *, ask: bool = False) -> str:
    """The text of an output that a classifier reads, without reasoning traces; "" where the output has none.

    For `ask` see `with_question`.

    Raises:
        ValueError: an output holds no post.
    """
    if what == "post":
        raise ValueError("an output holds no post")
    text = visible(row.generated_text).strip()
    if what == "explanation":
        text = without_label_sentences(explanation_in(text, row.task), row.task)
    return with_question(text, row.task, row.aspect, ask=ask)


def with_question(text: str, task: Task, aspect: str, *, ask: bool = False) -> str:
    """The text behind the question, where the task asks several about a post; else the text as it is.

    With `ask` the question stands before every text: one classifier of several data sets has to know which one it is.
    """
    return f"{task.question.format(aspect=aspect)} {text}" if text and (ask or task.aspects) else text


def without_label_sentences(text: str, task: Task) -> str:
    """The text without the label sentences of the task, wherever they stand."""
    return _label_sentences(task).sub(" ", text).strip()


@lru_cache(64)
def _label_sentences(task: Task) -> re.Pattern[str]:
    bare = sorted((sentence.rstrip(_FULL_STOPS) for sentence in task.sentences.values()), key=len, reverse=True)
    # Blanks are looked at from their first one only, so that many of them take no square of the time.
    return re.compile(rf"(?<!\s)\s*\b(?:{'|'.join(map(re.escape, bare))})(?:[{_FULL_STOPS}]|(?!\w))\s*", re.IGNORECASE)
