"""A model's answer to a question about a post, and its line in a predictions file. Generation writes it, scoring reads.

A predictions file is JSONL. These keys of a line are required: `id`, `dataset`, `post_id`, `label`, `generated_text`.
The others may be absent, as in files of older versions; keys that are not fields of `Prediction` are ignored.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import parse_json, reading, shown_cell
from mentallama_jax.imhi.labels.gold_response import REASONING
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS, Task, task_named
from mentallama_jax.imhi.wording import instruction_response
from mentallama_jax.storage import AnyPath

LabelLogProbabilities = Mapping[str, Mapping[str, float]]
"""Label -> `sum` and `mean` of the log-probabilities of its tokens, in nats."""

_REQUIRED = ("id", "dataset", "post_id", "label", "generated_text")
_TEXTS = (*_REQUIRED, "aspect", "split", "goldens", "finish", "decided_label")
_LISTS = ("examples", "samples", "samples_finish")
_WHERE_THERE = ("label_log_probabilities", "decided_label", "votes", *_LISTS)
"""Fields that a line has only where they say something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A question about a post, its gold response and what a model answered.

    Attributes:
        id: unique within the predictions.
        dataset: canonical name.
        aspect: what the question was about; "" where the task has no aspects, or it is not known.
        split: "train", "val", "test" or "".
        post_id: what the rows of one post share.
        label: canonical gold label; "" where the row has none.
        goldens: the gold response, with the explanation behind `Reasoning:`; "" where it is not known.
        prompt_truncated: tokens that the post lost to fit.
        generated_text: the answer, whole; may be empty.
        finish: "eos", "length" for an answer that reached the limit, "label" for a label chosen by its score,
            "content_filter" for an answer that an endpoint withheld, another word of an endpoint, or "".
        new_tokens: tokens that were written, end token included; where samples voted, those of all of them.
        label_log_probabilities: of each label of the task, where labels were scored or voted for.
        decided_label: the label that was settled otherwise than by reading the answer: by the sentence that it was made
            to begin with, or by votes; "" where the answer alone says.
        examples: ids of the few-shot examples in the prompt, in the order shown.
        votes: label -> how many samples gave it, where samples voted; those that state no label are in none.
        samples: every sample that voted, where they are kept.
        samples_finish: the `finish` of each of them; () where that is not known.
    """

    id: str
    dataset: str
    aspect: str = ""
    split: str = ""
    post_id: str
    label: str
    goldens: str = ""
    prompt_truncated: int = 0
    generated_text: str
    finish: str = ""
    new_tokens: int = 0
    label_log_probabilities: LabelLogProbabilities | None = None
    decided_label: str = ""
    examples: tuple[str, ...] = ()
    votes: Mapping[str, int] | None = None
    samples: tuple[str, ...] = ()
    samples_finish: tuple[str, ...] = ()

    @property
    def task(self) -> Task:
        """The row's entry in the table of data sets."""
        return TASKS[self.dataset]

    @property
    def explanation(self) -> str:
        """The gold explanation; "" where there is none."""
        return self.goldens.partition(REASONING)[2].strip()

    def to_json(self) -> dict[str, Any]:
        """The object of a line: every field in its order, without those of `_WHERE_THERE` that are empty."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if name not in _WHERE_THERE or value not in (None, "", ())
        }

    def to_line(self) -> str:
        """The line of a predictions file, line feed included.

        Raises:
            UserError: a number is not finite, or a text holds half of a surrogate pair.
        """
        with reading(f"prediction {shown_cell(self.id)}", "JSON", may_hold_posts=True):
            line = json.dumps(self.to_json(), ensure_ascii=False, allow_nan=False) + "\n"
            line.encode("utf-8")
        return line


def answer_to(record: Record, text: str) -> Prediction:
    """An answer to the question of a record, which brings all but how the answer came about."""
    return Prediction(
        id=record.id,
        dataset=record.dataset,
        aspect=record.aspect,
        split=record.split,
        post_id=record.post_id,
        label=record.label,
        goldens=instruction_response(record) if record.label else "",
        generated_text=text,
    )


def label_answer(record: Record, log_probabilities: Sequence[float], cut: int = 0) -> Prediction:
    """An answer that is the sentence of the likeliest label, the first of equals, with the figures of all.

    Args:
        record: what was asked.
        log_probabilities: of the labels of its task, in its order; nats.
        cut: tokens that the post lost to fit.
    """
    scores = dict(zip(record.task.labels, map(float, log_probabilities), strict=True))
    return replace(
        answer_to(record, record.task.sentences[max(scores, key=lambda label: scores[label])]),
        prompt_truncated=cut,
        finish="label",
        label_log_probabilities={label: {"sum": value, "mean": value} for label, value in scores.items()},
    )


def parse_prediction(line: bytes, place: object) -> Prediction:
    """Read one line of a predictions file.

    `label` is not compared with the labels of the data set: what to do with an odd one is for the caller to decide.

    Raises:
        UserError: begins with `place`: not a JSON object, a required key missing, a value of a wrong type, an unknown
            data set or aspect. It never quotes a long text.
    """
    row = parse_json(line, place, may_hold_posts=True)
    if not isinstance(row, dict):
        raise UserError(f"{place}: expected a JSON object, found {type(row).__name__}")
    missing = [key for key in _REQUIRED if key not in row]
    if missing:
        raise UserError(f"{place}: has no {', '.join(missing)}; expected a line that `mentallama generate` wrote")
    values: dict[str, Any] = {key: _text(row, key, place) for key in _TEXTS if key in row}
    task = task_at(values["dataset"], place)
    values |= {"dataset": task.name, "aspect": aspect_at(values.get("aspect", ""), task, place)}
    cut, new_tokens = (_count(row, key, place) if key in row else 0 for key in ("prompt_truncated", "new_tokens"))
    if (decided := values.get("decided_label")) and decided not in task.sentences:
        raise UserError(f"{place}: decided_label {shown_cell(decided, task.labels)} is no label of {task.name}")
    values |= {key: _list(row, key, place) for key in _LISTS if key in row}
    if (finishes := values.get("samples_finish")) and len(finishes) != len(values.get("samples", ())):
        raise UserError(f"{place}: samples_finish has another length than samples")
    return Prediction(
        **values,
        prompt_truncated=cut,
        new_tokens=new_tokens,
        label_log_probabilities=_log_probabilities(row, place),
        votes=_votes(row, place),
    )


def prediction_lines(path: AnyPath) -> Iterator[tuple[int, bytes]]:
    """The lines of a predictions file that are not blank, with their numbers from 1.

    Raises:
        UserError: no such file, or it cannot be read.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with reading(path, "JSONL", may_hold_posts=True), path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield number, line


def task_at(name: str, place: object) -> Task:
    """The data set with this name or alias.

    Raises:
        UserError: begins with `place`: there is none.
    """
    try:
        return task_named(name)
    except UserError as error:
        raise UserError(f"{place}: {error}") from None


def aspect_at(aspect: str, task: Task, place: object) -> str:
    """The aspect itself, where it is one of the task or empty.

    Raises:
        UserError: begins with `place`: it is neither.
    """
    if aspect and aspect not in task.aspects:
        known = ", ".join(task.aspects) or "none"
        raise UserError(f"{place}: {shown_cell(aspect, task.aspects)} is not an aspect of {task.name} ({known})")
    return aspect


def _text(row: Mapping[str, Any], key: str, place: object) -> str:
    value = row[key]
    if not isinstance(value, str):
        raise UserError(f"{place}: {key} is a {type(value).__name__}, not a text")
    return value


def _count(row: Mapping[str, Any], key: str, place: object) -> int:
    value = row[key]
    if type(value) is not int or value < 0:
        raise UserError(f"{place}: {key} is not a whole number from 0")
    return value


def _list(row: Mapping[str, Any], key: str, place: object) -> tuple[str, ...]:
    value = row[key]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise UserError(f"{place}: {key} is not a list of texts")
    return tuple(value)


def _votes(row: Mapping[str, Any], place: object) -> Mapping[str, int] | None:
    votes = row.get("votes")
    if votes is not None and not (
        isinstance(votes, dict) and all(type(count) is int and count >= 0 for count in votes.values())
    ):
        raise UserError(f"{place}: votes does not hold a whole number from 0 for each label")
    return votes


def _log_probabilities(row: Mapping[str, Any], place: object) -> LabelLogProbabilities | None:
    scores = row.get("label_log_probabilities")
    if scores is None:
        return None
    if not isinstance(scores, dict) or not all(isinstance(each, dict) for each in scores.values()):
        raise UserError(f"{place}: label_log_probabilities does not hold the `sum` and `mean` of each label")
    if not all(type(number) in (int, float) for each in scores.values() for number in each.values()):
        raise UserError(f"{place}: label_log_probabilities holds a value that is not a number")
    return scores
