"""Rows of outputs before anything is known of the benchmark, whatever form they come in."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.data_files.json_values import JsonRows
from mentallama_jax.imhi.data_files.table_rows import MOST_COLUMNS

FINISH_REASON = "finish_reason"
"""The column that says how an output ended, as OpenAI, vLLM and others name it: `stop`, `length`, or something else."""


@dataclass(frozen=True, slots=True)
class OutputTable:
    """The rows of one file.

    Attributes:
        form: what the file is, for the signature.
        columns: names of all columns.
        rows: number from 1, and column -> cell as JSON has it.
        problems: number of a row that cannot be read -> why.
        roles: role -> column where the form itself says what a column is for.
        first: what the number of the first row is where ids are row numbers; None where the form does not say.
        label_scores: number of a row -> text of each choice -> sum of log-probabilities, in nats.
        lost: the cells that are known of rows among the problems, such as the id of a request that failed.
    """

    form: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[int, Mapping[str, Any]]]
    problems: dict[int, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    first: int | None = None
    label_scores: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    lost: Sequence[Mapping[str, Any]] = ()


def objects(rows: JsonRows, problems: dict[int, str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows that are objects, or an array that holds one; others are put among the problems."""
    for number, value in rows:
        one = value[0] if isinstance(value, list) and len(value) == 1 else value
        if not isinstance(one, dict):
            problems[number] = f"it is a JSON {type(value).__name__}, not an object"
        elif len(one) > MOST_COLUMNS:
            problems[number] = f"it has {len(one):,} keys; a row of outputs has at most {MOST_COLUMNS}"
        else:
            yield number, one


def answer_in(value: Any) -> str:
    """The text of an answer, wherever programs put it: a text, the last message of a conversation, parts, one of one.

    Raises:
        UserError: there are several, or it is something else; never quotes it.
    """
    for _ in range(8):
        if value is None:
            return ""
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            value = _in_list(value)
        elif isinstance(value, dict):
            keys = [key for key in ("text", "content", "message", "generated_text") if key in value]
            if not keys:
                raise UserError("its output is an object without a text")
            value = value[keys[0]]
        else:
            raise UserError(f"its output is a {type(value).__name__}, not a text")
    raise UserError("its output is nested too deeply")


def _in_list(value: list[Any]) -> Any:
    messages = [part for part in value if isinstance(part, dict) and "role" in part]
    if value and len(messages) == len(value):
        if messages[-1]["role"] != "assistant":
            raise UserError("its conversation does not end with a message of the assistant")
        return messages[-1].get("content")
    parts = [part for part in value if isinstance(part, dict) and part.get("type") in ("text", "output_text")]
    if value and len(parts) == len(value):
        return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))
    if len(value) != 1:
        raise UserError(f"it has {len(value)} outputs; keep one of them")
    return value[0]
