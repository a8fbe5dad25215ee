"""What the actions of `mentallama data` share that write records: their options, how they write, what they say."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mentallama_jax.errors import UserError
from mentallama_jax.storage import local_path

if TYPE_CHECKING:
    from mentallama_jax.imhi.data_files.table_rows import Problem
    from mentallama_jax.imhi.records import Record

SHOWN_PROBLEMS = 10
"""Rows of a kind that are named; the others are counted."""


def add_writing(parser: argparse.ArgumentParser) -> None:
    """Add the options of writing records."""
    parser.add_argument(
        "--out", metavar="OUT", type=local_path, required=True, help="new FILE.jsonl, FILE.parquet or folder"
    )
    parser.add_argument("--repair", action="store_true", help="undo mojibake (UTF-8 read as MacRoman) where it can be")
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first row that cannot be read (default: leave out and count)"
    )


def weights_of(given: Sequence[str], option: str = "--weights") -> dict[str, float]:
    """The numbers of an option such as `SWMH=0.2 IRF=2`, by name.

    Raises:
        UserError: it is no such list.
    """
    weights = {}
    for text in given:
        name, _, number = text.partition("=")
        try:
            weights[name] = float(number)
        except ValueError:
            raise UserError(f"{option} {text}: expected NAME=NUMBER, such as SWMH=0.2 or train=0.8") from None
    return weights


def write_out(out: Path, records: Sequence["Record"]) -> None:
    """Write records in the format that `out` chooses, and say how many of each part."""
    from mentallama_jax.imhi.audit.leaks import posts_by_part
    from mentallama_jax.imhi.data_files.writers import write_records, write_release

    if out.suffix:
        write_records(out, records)
    else:
        write_release(out, records)
    for (dataset, split), posts in posts_by_part(records).items():
        rows = sum((record.dataset, record.split) == (dataset, split) for record in records)
        print(f"{dataset} {split or '(no split)'}: {rows} rows, {len(posts)} posts")
    print(f"{len(records)} rows written to {out}")


def say_problems(problems: Sequence["Problem"]) -> None:
    """Name the rows that were left out."""
    for problem in problems[:SHOWN_PROBLEMS]:
        print(f"left out: {problem}")
    if len(problems) > SHOWN_PROBLEMS:
        print("left out: ... (`mentallama data check --json` lists them all)")
    if problems:
        print(f"bad rows left out: {len(problems)}")
