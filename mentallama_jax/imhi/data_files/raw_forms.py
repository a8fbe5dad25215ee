"""Forms in which others keep questions and answers: tables, Alpaca, ShareGPT, messages; what of them is the post.

In the forms of instructions and conversations, the post and the question are taken apart by the wording of the
benchmark alone: `Consider this post: "..." Question: ...`, `Post: ...  Question: ...`, or an instruction that is the
question itself, with the post in `input`. Nothing else is guessed: any other instruction is refused with the reason.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.data_files.readers import question_of, split_query
from mentallama_jax.imhi.data_files.table_records import text_cell, word_cell
from mentallama_jax.imhi.tasks import Task

RawForm = Literal["table", "alpaca", "sharegpt", "messages"]

_INSTRUCTION = re.compile(r'\s*Consider this post:\s*"(.*)"\s*Question:\s*(.*)', re.DOTALL)
_COMPLETION = re.compile(r"\s*Post:\s*(.*)\s\s*Question:\s*(.*)", re.DOTALL)
_QUOTED = re.compile(r'\s*(?:Consider this post:\s*"(.*)"|Post:\s+(.*))\s*', re.DOTALL)
_ASKING = re.compile(r"\s*(?:Question:\s*)?(.*?)\s*", re.DOTALL)
_FROM = {"human": "user", "user": "user", "system": "system"} | dict.fromkeys(
    ("gpt", "assistant", "chatgpt", "bot", "model", "bing", "bard"), "assistant"
)


@dataclass(frozen=True, slots=True)
class RawRow:
    """What a row of any form says.

    Attributes:
        post: the text.
        gold: a label, or a gold response.
        is_response: whether `gold` is a response, a label sentence with reasons behind it.
        aspect: what the question is about; "" where the question does not say.
    """

    post: str
    gold: str
    is_response: bool
    aspect: str = ""


def form_of(columns: Collection[str]) -> RawForm | None:
    """The form of a table with these columns; None where it is none."""
    if "post" in columns and ("label" in columns or "output" in columns):
        return "table"
    if "instruction" in columns and "output" in columns:
        return "alpaca"
    if "conversations" in columns:
        return "sharegpt"
    return "messages" if "messages" in columns else None


def raw_row(row: Mapping[str, Any], form: RawForm, task: Task) -> RawRow:
    """The post and the gold of a row.

    Raises:
        UserError: they cannot be told by the wording of `task`, or a text is missing; never quotes it.
    """
    if form == "table":
        if "label" in row or "output" not in row:
            return RawRow(word_cell(row, "post"), word_cell(row, "label"), is_response=False)
        return RawRow(word_cell(row, "post"), word_cell(row, "output"), is_response=True)
    if form == "alpaca":
        asked = text_cell(row, "instruction")
        post, aspect = _of_alpaca(asked, word_cell(row, "input"), task)
        return RawRow(post, gold_of(row, form), is_response=True, aspect=aspect)
    question = _turns(row, form)[0]
    post, aspect = _of_query(question, task)
    return RawRow(post, gold_of(row, form), is_response=True, aspect=aspect)


def gold_of(row: Mapping[str, Any], form: RawForm) -> str:
    """The label or the gold response of a row, as it stands there.

    Raises:
        UserError: there is none, or it is no text.
    """
    if form == "table":
        return word_cell(row, "label" if "label" in row or "output" not in row else "output")
    return text_cell(row, "output") if form == "alpaca" else _turns(row, form)[1]


def _of_alpaca(instruction: str, given: str, task: Task) -> tuple[str, str]:
    if not given.strip():
        return _of_query(instruction, task)
    asked = _ASKING.fullmatch(instruction)
    askers = question_of(asked[1]) if asked else []
    if askers:
        quoted = _QUOTED.fullmatch(given)
        return next(filter(None, quoted.groups()), "") if quoted else given, _aspect(askers, task)
    for query in (given, f"{instruction} {given}"):
        if _INSTRUCTION.fullmatch(query) or _COMPLETION.fullmatch(query):
            return _of_query(query, task)
    raise UserError(
        f"neither its instruction is a question of {task.name}, nor do instruction and input hold post and question in "
        "the benchmark's wording; if input is the post alone, give --columns post=input"
    )


def _of_query(query: str, task: Task) -> tuple[str, str]:
    try:
        post, question = split_query(query)
        if not question_of(question):
            raise UserError("no data set asks it")
    except UserError:
        found = _INSTRUCTION.fullmatch(query) or _COMPLETION.fullmatch(query)
        if found is None:
            raise UserError(
                "it cannot be split into post and question: it is neither "
                '`Consider this post: "..." Question: ...` nor `Post: ...  Question: ...`'
            ) from None
        post, question = found[1], found[2].strip()
    return post, _aspect(question_of(question), task)


def _aspect(askers: list[tuple[Task, str]], task: Task) -> str:
    if not askers:
        raise UserError("no data set asks its question")
    for asker, aspect in askers:
        if asker.name == task.name:
            return aspect
    raise UserError(f"its question is that of {' or '.join(asker.name for asker, _ in askers)}, not of {task.name}")


def _turns(row: Mapping[str, Any], form: RawForm) -> tuple[str, str]:
    """The one question and the one answer of a conversation."""
    column = "conversations" if form == "sharegpt" else "messages"
    turns = [_turn(message) for message in _messages(row.get(column), column)]
    if turns and turns[0][0] == "system":
        turns = turns[1:]
    roles = [role for role, _ in turns]
    if roles != ["user", "assistant"]:
        raise UserError(
            f"its conversation has {roles.count('user')} questions and {roles.count('assistant')} answers; a question "
            "with its answer behind it was expected"
        )
    return turns[0][1], turns[1][1]


def _messages(cell: Any, column: str) -> list[Any]:
    if cell is None:
        raise UserError(f"{column} is missing")
    if isinstance(cell, dict) and cell and all(isinstance(values, list) for values in cell.values()):
        # Some programs give a list of objects as an object of lists.
        if len({len(values) for values in cell.values()}) != 1:
            raise UserError(f"{column} holds lists of different lengths")
        return [dict(zip(cell, values, strict=True)) for values in zip(*cell.values(), strict=True)]
    if not isinstance(cell, list):
        raise UserError(f"{column} must be a list of messages")
    return cell


def _turn(message: Any) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise UserError("a message of its conversation is no object")
    named = message.get("from", message.get("role"))
    role = _FROM.get(named.strip().lower()) if isinstance(named, str) else None
    if role is None:
        raise UserError("a message of its conversation is neither of a user, an assistant nor the system")
    text = message.get("value", message.get("content"))
    if isinstance(text, list) and text and all(isinstance(part, dict) and part.get("type") == "text" for part in text):
        parts = [part.get("text") for part in text]
        text = "".join(parts) if all(isinstance(part, str) for part in parts) else None
    if not isinstance(text, str):
        raise UserError("a message of its conversation has no text")
    return role, text
