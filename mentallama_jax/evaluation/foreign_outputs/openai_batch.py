"""Output of OpenAI's batch API, and of servers that write the same: `custom_id` and the body of each response."""

from collections.abc import Iterable
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.foreign_outputs.output_table import FINISH_REASON, OutputTable, answer_in
from mentallama_jax.foreign import shown_cell

KEYS = frozenset({"custom_id", "response"})


def batch_table(rows: Iterable[tuple[int, dict[str, Any]]], problems: dict[int, str]) -> OutputTable:
    """The answers of a batch; requests that failed are put among the problems."""
    found: list[tuple[int, dict[str, Any]]] = []
    lost = []
    for number, line in rows:
        try:
            if not line.keys() >= KEYS:
                raise UserError("it is no line of a batch's output")
            answer = {"output": _answer(line), FINISH_REASON: _finish(line["response"]["body"])}
            found.append((number, {"custom_id": line["custom_id"], **answer}))
        except UserError as error:
            problems[number] = str(error)
            lost.append({"custom_id": line.get("custom_id")})
    roles = {"id": "custom_id", "text": "output"}
    return OutputTable("OpenAI batch output", ("custom_id", "output", FINISH_REASON), found, problems, roles, lost=lost)


def _answer(line: dict[str, Any]) -> str:
    response = line["response"]
    if line.get("error") or not isinstance(response, dict):
        error = line["error"] if isinstance(line.get("error"), dict) else {}
        raise UserError(f"its request failed ({shown_cell(error.get('code') or 'no response')})")
    status, body = response.get("status_code", 200), response.get("body")
    if status != 200 or not isinstance(body, dict):
        raise UserError(f"its request failed (status {shown_cell(status)})")
    if body.get("error"):
        raise UserError("its request failed (the body holds an error)")
    if isinstance(body.get("output"), list):
        return _of_items(body["output"], whole=body.get("status") != "incomplete")
    choices = body.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise UserError("its response has no choices")
    if len(choices) != 1:
        raise UserError(f"its response has {len(choices)} choices; keep one of them")
    message = choices[0].get("message", choices[0])
    if isinstance(message, dict) and message.get("content") is None and isinstance(message.get("refusal"), str):
        return str(message["refusal"])
    return answer_in(message)


def _finish(body: dict[str, Any]) -> str:
    """How the answer of a body that `_answer` has read ended; "" where it does not say."""
    if isinstance(body.get("output"), list):
        return {"completed": "stop", "incomplete": "length"}.get(str(body.get("status")), "")
    return str(body["choices"][0].get(FINISH_REASON) or "")


def _of_items(items: list[Any], *, whole: bool) -> str:
    """The answer of the responses API: the message among other items, "" where thinking used up all of its tokens."""
    messages = [item for item in items if isinstance(item, dict) and item.get("type") == "message"]
    if not messages and not whole:
        return ""
    return answer_in([_without_refusals(message.get("content")) for message in messages])


def _without_refusals(parts: Any) -> Any:
    """The parts of a message, with a refusal as the text that it is."""
    if not isinstance(parts, list):
        return parts
    return [
        {"type": "output_text", "text": part.get("refusal")}
        if isinstance(part, dict) and part.get("type") == "refusal"
        else part
        for part in parts
    ]
