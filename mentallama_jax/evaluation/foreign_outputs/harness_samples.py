"""Logs by sample of lm-evaluation-harness 0.4: `samples_TASK_DATE.jsonl`, one line a document and filter.

A generated answer is its filtered response. Of a multiple choice the answer is the likeliest continuation, as the
harness chooses it, and the target is an index into the continuations or one of them.
"""

import math
from collections.abc import Iterable
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.foreign_outputs.output_table import OutputTable, answer_in
from mentallama_jax.foreign import shown
from mentallama_jax.storage import AnyPath

KEYS = frozenset({"doc_id", "doc", "arguments", "resps", "filtered_resps"})
_DOC = "doc."
_FROM_DOC = {
    "id": ("id",),
    "dataset": ("dataset",),
    "aspect": ("aspect",),
    "post_id": ("post_id",),
    "post": ("post", "query"),
}


def harness_table(
    rows: Iterable[tuple[int, dict[str, Any]]], problems: dict[int, str], path: AnyPath, wanted: str | None
) -> OutputTable:
    """The documents of a log.

    Args:
        rows: its objects.
        problems: is given the rows that cannot be read.
        path: for messages.
        wanted: the filter whose responses are scored; None where there is one only.

    Raises:
        UserError: there are several filters and none is wanted, or the wanted one is not there.
    """
    found: list[tuple[int, dict[str, Any]]] = []
    lost = []
    scores: dict[int, dict[str, float]] = {}
    filters: dict[str, None] = {}
    for number, sample in rows:
        name = sample.get("filter", "none")
        if not sample.keys() >= KEYS or not isinstance(name, str):
            problems[number] = "it is no line of a sample log"
            continue
        filters[name] = None
        if wanted is not None and name != wanted:
            continue
        try:
            cells, choices = _cells(sample)
        except UserError as error:
            problems[number] = str(error)
            lost.append(_documented(sample))
            continue
        found.append((number, cells))
        if choices:
            scores[number] = choices
    listed = ", ".join(shown(name) for name in list(filters)[:8])
    if wanted is None and len(filters) > 1:
        raise UserError(f"{path}: holds the responses of the filters {listed}; choose by --columns filter=NAME")
    if wanted is not None and wanted not in filters:
        raise UserError(f"{path}: has no filter {shown(wanted)} (found: {listed or 'none'})")
    columns = tuple(dict.fromkeys(key for _, cells in found for key in cells))
    roles = {"text": "filtered_resps", "gold": "target", "id": "doc_id"}
    for role, names in _FROM_DOC.items():
        in_doc = [f"{_DOC}{name}" for name in names if f"{_DOC}{name}" in columns]
        roles |= {role: in_doc[0]} if in_doc else {}
    kind = "multiple choice" if scores else "generated"
    return OutputTable(f"lm-evaluation-harness samples, {kind}", columns, found, problems, roles, 0, scores, lost)


def _cells(sample: dict[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    cells = _documented(sample)
    responses = sample["filtered_resps"]
    choices = _choices(sample)
    if not choices:
        return cells | {"filtered_resps": answer_in(responses), "resps": sample["resps"]}, {}
    scores = _scores(responses, choices)
    target = cells["target"]
    if isinstance(target, int | str) and str(target).isdecimal() and int(target) < len(choices):
        cells["target"] = choices[int(target)].strip()
    best = max(range(len(choices)), key=lambda place: scores[place])
    return cells | {"filtered_resps": choices[best].strip()}, dict(zip(map(str.strip, choices), scores, strict=True))


def _documented(sample: dict[str, Any]) -> dict[str, Any]:
    """What a line says of its document, whatever became of the answer."""
    doc = sample["doc"] if isinstance(sample["doc"], dict) else {}
    cells = {f"{_DOC}{key}": value for key, value in doc.items()}
    return cells | {"doc_id": sample["doc_id"], "target": sample.get("target")}


def _choices(sample: dict[str, Any]) -> list[str]:
    """The continuations that were scored; none where the answer was generated."""
    arguments = sample["arguments"]
    pairs = list(arguments.values()) if isinstance(arguments, dict) else arguments
    if not isinstance(pairs, list):
        raise UserError("its arguments are no list")
    found = []
    for pair in pairs:
        parts = list(pair.values()) if isinstance(pair, dict) else pair
        if not isinstance(parts, list) or len(parts) < 2 or not isinstance(parts[1], str):
            return []
        # Without a context: scored besides, for mutual information.
        found += [parts[1]] if parts[0] != "" else []
    return found


def _scores(responses: Any, choices: list[str]) -> list[float]:
    found = []
    for response in responses if isinstance(responses, list) else []:
        value = response[0] if isinstance(response, list) and response else response
        try:
            found.append(float(value))
        except (TypeError, ValueError, OverflowError):
            raise UserError("the log-likelihood of a choice is no number") from None
    found = found[: len(choices)]
    if len(found) < len(choices) or not all(map(math.isfinite, found)):
        raise UserError("it has no finite log-likelihood for each of its choices")
    return found
