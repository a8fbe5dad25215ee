"""The questions and posts that predictions are about, matched by the ids of rows."""

import re
from collections.abc import Mapping, Sequence

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.records import Record

_PART_OF_POOL = re.compile(r" \(\d+\)$")


def records_by_id(sources: Sequence[str]) -> dict[str, Record]:
    """The records of data sources, with or without gold.

    Raises:
        UserError: see `read_records`.
    """
    return {record.id: record for record in read_records(list(sources), need_labels=False).records}


def other_gold(rows: Sequence[Prediction], records: Mapping[str, Record]) -> list[str]:
    """Ids of rows whose gold label, data set or aspect is another than that of the record with their id."""
    found = ((row, _record_of(row, records)) for row in rows)
    return [
        row.id
        for row, record in found
        if record is not None
        and record.label
        and (record.dataset, record.aspect, record.label) != (row.dataset, row.aspect, row.label)
    ]


def posts_of(rows: Sequence[Prediction], records: Mapping[str, Record]) -> dict[str, str]:
    """Row id -> the text of its post.

    Raises:
        UserError: a row is in no record.
    """
    posts = {}
    for row in rows:
        record = _record_of(row, records)
        if record is None:
            raise UserError(f"row {shown(row.id)}: its post is not in --data, whose rows are matched by their ids")
        posts[row.id] = record.post
    return posts


def _record_of(row: Prediction, records: Mapping[str, Record]) -> Record | None:
    """The record that a row is about; rows that were pooled have the number of their part behind their id."""
    return records.get(row.id) or records.get(_PART_OF_POOL.sub("", row.id))
