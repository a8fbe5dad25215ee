"""Joins the predictions of several classifiers into those of one system, on the rows that the study asks about."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mentallama_jax.config.study_config import ScoringSection
from mentallama_jax.errors import UserError
from mentallama_jax.files import write_json, write_jsonl
from mentallama_jax.foreign import parse_json, reading
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.mixture import choose_rows
from mentallama_jax.imhi.predictions import parse_prediction, prediction_lines


def gather(files: Sequence[Path], out: Path, data: Sequence[str], asked: ScoringSection) -> None:
    """Write the predictions of the rows that are asked about, in their order, and how they were made beside them.

    Args:
        files: predictions, each with a `.meta.json` beside it.
        out: ends in `.jsonl`.
        data: the sources of the rows.
        asked: which of the rows are asked about.

    Raises:
        UserError: none of the rows is answered, or a file cannot be read.
    """
    found = {}
    for path in files:
        for number, line in prediction_lines(path):
            row = parse_prediction(line, f"{path}, line {number}")
            found[row.id] = row
    records = [record for record in read_records(data).records if record.label]
    chosen = choose_rows(records, asked.datasets, asked.max_rows, asked.seed)
    rows = [found[record.id] for record in chosen if record.id in found]
    if not rows:
        raise UserError(f"{files[0]}: answers none of the rows of {', '.join(data)}; let objective.test name them")
    write_json(out.with_suffix(".meta.json"), {"mode": "classifiers", "parts": [_part(path) for path in files]})
    write_jsonl(out, (row.to_json() for row in rows))


def _part(path: Path) -> dict[str, Any]:
    beside = path.with_suffix(".meta.json")
    with reading(beside, "JSON"):
        meta = parse_json(beside.read_bytes(), beside)
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "generation": meta}
