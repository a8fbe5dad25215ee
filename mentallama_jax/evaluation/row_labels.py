"""Which label was read from each row, and by which rule: a table to look at, without any text of posts or outputs."""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from mentallama_jax.evaluation.label_readers import RULES, ReadingOnce, label_of
from mentallama_jax.files import atomic_open
from mentallama_jax.foreign import reading
from mentallama_jax.imhi.predictions import Prediction

LABELS_BY_ROW = "labels_by_row.csv"
COLUMNS = ("id", "dataset", "aspect", "gold", "read", "right", "rule")
"""`read` is empty where no label was read; `right` is 1 or 0; `rule` is the stage of the reader that decided."""
READ_COLUMNS = ("id", "dataset", "aspect", "read", "rule")
"""The same of rows without gold."""
_ID = re.compile(r"\S{1,100}(?: \(\d+\))?")
"""What is written as an id: a word, with the number of the part where parts are pooled. Others may be texts."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_labels(folder: Path, rows: Sequence[Prediction], reader: ReadingOnce) -> Path:
    """Write `LABELS_BY_ROW` into a folder, a line a row in their order; return its path."""
    path = folder / LABELS_BY_ROW
    with atomic_open(path) as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_lines(rows, reader))
    return path


def write_read_labels(path: Path, rows: Sequence[Prediction]) -> Counter[str]:
    """Write the label that each output states, of rows without gold, by the rules; return how often each was read.

    A label is counted as `DATASET: label`, one that is not read as `DATASET: none`.
    """
    reader = ReadingOnce(RULES)
    counts: Counter[str] = Counter()
    with atomic_open(path) as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(READ_COLUMNS)
        for number, row in enumerate(rows, start=1):
            label = label_of(row, reader)
            counts[f"{row.dataset}: {label or 'none'}"] += 1
            writer.writerow((_shown_id(row, number), row.dataset, row.aspect, label or "", reader.rule(row)))
    return counts


def first_unlike(folder: Path, rows: Sequence[Prediction]) -> str | None:
    """The id of the first row that is not as `write_labels` found it: other, or with another gold label; None if none.

    Raises:
        UserError: there is no such table, or it cannot be read.
    """
    with reading(folder / LABELS_BY_ROW, "CSV"), (folder / LABELS_BY_ROW).open(newline="", encoding="utf-8") as stream:
        before = [(line["id"], line["dataset"], line["aspect"], line["gold"]) for line in csv.DictReader(stream)]
    now = [(_shown_id(row, number), row.dataset, row.aspect, row.label) for number, row in enumerate(rows, start=1)]
    unlike = (other or this for this, other in zip_longest(now, before) if this != other)
    return next((id_ for id_, *_ in unlike), None)


def _shown_id(row: Prediction, number: int) -> str:
    # Spreadsheets compute what begins like a formula; ids come from files of others.
    id_ = row.id if _ID.fullmatch(row.id) else f"row {number}"
    return f"'{id_}" if id_.startswith(_FORMULA) else id_


def _lines(rows: Sequence[Prediction], reader: ReadingOnce) -> Iterator[tuple[str, ...]]:
    for number, row in enumerate(rows, start=1):
        label = label_of(row, reader)
        right = str(int(label == row.label))
        yield _shown_id(row, number), row.dataset, row.aspect, row.label, label or "", right, reader.rule(row)
