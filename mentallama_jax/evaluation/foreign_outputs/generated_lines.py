"""JSON lines of generated texts, as scripts around vLLM and Hugging Face write them: any keys, one object a line."""

from collections.abc import Iterable
from typing import Any

from mentallama_jax.evaluation.foreign_outputs.output_table import OutputTable


def lines_table(rows: Iterable[tuple[int, dict[str, Any]]], problems: dict[int, str]) -> OutputTable:
    """The objects as rows, their keys as columns."""
    found = list(rows)
    columns = tuple(dict.fromkeys(key for _, row in found for key in row))
    return OutputTable("JSON lines of generated texts", columns, found, problems)
