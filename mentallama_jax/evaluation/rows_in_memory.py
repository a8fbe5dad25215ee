"""Outputs that are in memory already, such as the rows of a data frame, read as those of a file of another program."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.foreign_outputs.output_table import OutputTable
from mentallama_jax.evaluation.foreign_outputs.read_as import AS_THEY_SAY, ReadAs
from mentallama_jax.evaluation.foreign_outputs.row_mapping import read_output_rows
from mentallama_jax.evaluation.odd_rows import remarks
from mentallama_jax.evaluation.system_predictions import LeftOut, Predictions

NAME = "rows in memory"


def predictions_of_rows(rows: Iterable[Mapping[str, Any]], read_as: ReadAs = AS_THEY_SAY) -> Predictions:
    """Read rows of columns, each a mapping from the name of a column to its cell.

    Args:
        rows: of one system.
        read_as: what the rows do not say themselves: columns, data set, gold.

    Raises:
        UserError: no rows, one that is no mapping, columns that cannot be told, or no row whose gold states a label.
    """
    numbered: list[tuple[int, dict[str, Any]]] = []
    digest = hashlib.sha256()
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise UserError(f"{NAME}: row {number} is no mapping of columns to cells, but {type(row).__name__}")
        numbered.append((number, {str(key): _cell(value) for key, value in row.items()}))
        digest.update(json.dumps(numbered[-1][1], sort_keys=True, default=str).encode())
    if not numbered:
        raise UserError(f"{NAME}: there are none")
    if "filter" in read_as.columns:
        raise UserError(f"{NAME}: no log of lm-evaluation-harness, so a filter says nothing of them")
    columns = tuple(dict.fromkeys(key for _, row in numbered for key in row))
    found = read_output_rows(OutputTable(NAME, columns, numbered), Path(NAME), read_as)
    left_out = tuple(LeftOut(NAME, number, why, dataset) for number, dataset, why in found.left_out)
    if not found.rows:
        raise UserError(f"{NAME}: none can be scored; row {left_out[0].row}: {left_out[0].reason}")
    file = {"file": NAME, "sha256": digest.hexdigest()}
    odd = (*found.remarks, *remarks(Path(NAME), found.rows, read_as.dataset, found.posts_known))
    return Predictions(
        rows=tuple(found.rows),
        files=(file,),
        generation=None,
        gold=found.gold,
        posts_known=found.posts_known,
        left_out=left_out,
        forms=(found.form,),
        remarks=odd,
        read_as=read_as.said(),
    )


def _cell(value: Any) -> Any:
    """A cell as JSON has it: data frames hold numbers of other types, and no value as a number that is none."""
    if hasattr(value, "item") and not isinstance(value, str | bytes):
        value = value.item()
    return None if isinstance(value, float) and value != value else value
