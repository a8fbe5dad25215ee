"""Records to JSONL or Parquet, so that reading them back gives equal records, and to the released CSV layouts."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Literal

from mentallama_jax.errors import UserError
from mentallama_jax.files import atomic_folder, atomic_open, write_jsonl
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.wording import completion_query, completion_response, instruction_query, instruction_response

_NEEDS_QUOTES = re.compile(r'[",\r\n]')


def check_new(out: Path) -> None:
    """Refuse a place that records cannot be written to: it is not the business of a converter to replace data.

    Raises:
        UserError: something is there, or the name has another ending than those of records.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out}: exists already; choose another name or remove it first")
    if out.suffix.lower() not in (".jsonl", ".parquet", ""):
        raise UserError(f"{out}: give a name that ends in .jsonl or .parquet, or one without an ending for a folder")


def write_records(path: str | Path, records: Sequence[Record]) -> None:
    """Write records, every key of each, atomically; the suffix `.jsonl` or `.parquet` chooses the format.

    Ids must be unique for the round trip to be lossless: readers rename a repeated id.

    Raises:
        UserError: another suffix, or no records.
    """
    path = Path(path)
    if not records:
        raise UserError(f"{path}: there are no records to write")
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        write_jsonl(path, (asdict(record) for record in records))
    elif suffix == ".parquet":
        _write_parquet(path, records)
    else:
        raise UserError(f"{path}: records are written to a file that ends in .jsonl or .parquet")


def write_queries(path: str | Path, records: Sequence[Record], layout: Literal["instruction", "completion"]) -> None:
    """Write records as the released test files have them: CSV with the columns `query,gpt-3.5-turbo`, atomically.

    `layout` chooses the wording. The data set, where the question does not tell it, and the split are in the names of
    file and folder alone, as in the release; ids are lost.

    Raises:
        UserError: no records, one without a label, or one with a NUL character, which no CSV can hold.
    """
    path = Path(path)
    if not records:
        raise UserError(f"{path}: there are no records to write")
    instruction = layout == "instruction"
    query = instruction_query if instruction else completion_query
    response = instruction_response if instruction else completion_response
    for record in records:
        _check_for_csv(record)
    _write_csv(path, ("query", "gpt-3.5-turbo"), ((query(record), response(record)) for record in records))


def write_release(folder: str | Path, records: Sequence[Record]) -> None:
    """Write records as a folder in the layout of the release, in both wordings; all of it or nothing.

    `train_data/{instruction_data,complete_data}/DATASET/{train,val}.csv`, completion in the columns
    `post,question,response`, and `test_data/test_{instruction,complete}/DATASET.csv`. Ids are lost.

    Raises:
        UserError: no records, one without a split or a label, one with a NUL character, or the folder exists and is
            not empty.
    """
    if not records:
        raise UserError(f"{folder}: there are no records to write")
    parts: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        where = record.source or record.id
        if not record.split:
            raise UserError(f"{where}: has no split, by which the release names its files; write a .jsonl instead")
        _check_for_csv(record)
        parts.setdefault((record.dataset, record.split), []).append(record)
    with atomic_folder(Path(folder)) as new:
        for (dataset, split), rows in parts.items():
            if split == "test":
                write_queries(new / "test_data" / "test_instruction" / f"{dataset}.csv", rows, "instruction")
                write_queries(new / "test_data" / "test_complete" / f"{dataset}.csv", rows, "completion")
            else:
                write_queries(new / "train_data" / "instruction_data" / dataset / f"{split}.csv", rows, "instruction")
                _write_parts(new / "train_data" / "complete_data" / dataset / f"{split}.csv", rows)


def _check_for_csv(record: Record) -> None:
    where = record.source or record.id
    if not record.label:
        raise UserError(f"{where}: has no label, and the released layouts need one; write a .jsonl instead")
    if "\0" in record.post + record.explanation:
        raise UserError(f"{where}: holds a NUL character, which no CSV can hold; write a .jsonl instead")


def _write_parts(path: Path, records: Sequence[Record]) -> None:
    """The completion format as the released training files have it: the query in two cells."""
    middle = " Question: "
    rows = []
    for record in records:
        post, _, prefix = completion_query(record).rpartition(f" {middle}")
        rows.append((post, f"{middle}{prefix}", completion_response(record)))
    _write_csv(path, ("post", "question", "response"), rows)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with atomic_open(path) as stream:
        for row in (columns, *rows):
            stream.write(",".join(map(_cell, row)) + "\n")


def _cell(text: str) -> str:
    # csv.writer of Python 3.11 leaves a lone carriage return unquoted, which strict readers take for a line's end.
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text


def _write_parquet(path: Path, records: Sequence[Record]) -> None:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([(key.name, pyarrow.string()) for key in fields(Record)])
    table = pyarrow.Table.from_pylist([asdict(record) for record in records], schema=schema)
    with atomic_open(path, "wb") as stream:
        pyarrow.parquet.write_table(table, stream)
