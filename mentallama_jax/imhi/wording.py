"""The words of the benchmark: what is asked about a record, and how its gold answer reads. No chat, no tokens."""

from collections.abc import Callable

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.labels.gold_response import REASONING
from mentallama_jax.imhi.records import Record

Query = Callable[[Record], str]
"""What is asked about a record, the post included."""


def instruction_query(record: Record) -> str:
    """The query of the instruction format."""
    return f'Consider this post: "{record.post}" Question: {record.task.question.format(aspect=record.aspect)}'


def instruction_response(record: Record) -> str:
    """The gold response of the instruction format; the label sentence alone where there is no explanation.

    Raises:
        UserError: the record has no label.
    """
    need_label(record)
    return _with_reasoning(record.task.sentences[record.label], record.explanation)


def completion_query(record: Record) -> str:
    """The query of the completion format as the test files have it, ending in a blank."""
    return f"Post: {record.post}  Question: {record.task.completion_prefix.format(aspect=record.aspect)} "


def completion_response(record: Record) -> str:
    """The gold response of the completion format; the label alone where there is no explanation.

    Raises:
        UserError: the record has no label.
    """
    need_label(record)
    return _with_reasoning(f"{record.task.completion_words[record.label]}.", record.explanation)


def need_label(record: Record) -> None:
    """Refuse a record without a gold label.

    Raises:
        UserError: it has none.
    """
    if not record.label:
        raise UserError(f"{record.source or record.id}: has no label, so there is no gold answer to it")


def _with_reasoning(answer: str, explanation: str) -> str:
    return f"{answer} {REASONING} {explanation}" if explanation else answer
