"""`mentallama data build`: its help, what maps columns and labels, and what it says of the rest."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mentallama_jax.cli.data_writing import add_writing, say_problems, weights_of, write_out
from mentallama_jax.cli.task_options import add_tasks
from mentallama_jax.errors import UserError
from mentallama_jax.storage import expanded

if TYPE_CHECKING:
    from mentallama_jax.imhi.data_files.build import BuildResult
    from mentallama_jax.imhi.records import Record

BUILD = """\
Make records of a raw table of posts and labels, by rule: the question, the label sentence and the completion wording
are those of the data set. RAW is a .csv, .json, .jsonl or .parquet, or hub:owner/name[@revision] (all its splits;
`:train`, `:val` or `:test` behind it takes one), in one of these forms, which its columns tell:

  posts          post, label; explanation, aspect (MultiWD and IRF ask about one: a row each), split and id if there
  Alpaca         instruction, input, output
  ShareGPT       conversations, a list of {from, value}
  messages       messages, a list of {role, content}

Labels are matched by name, without regard to case: the label itself, its sentence, or a common other name
(`SuicideWatch`, `stressed`); yes/no sets also take 1/0 and true/false. --labels gives other cells a meaning; it is
asked first. In instructions and conversations, post and question are told by the benchmark's wording: `Consider this
post: "..." Question: ...`, `Post: ...  Question: ...`, or the question as instruction and the post as input. What they
do not tell is not guessed: such rows are left out and counted. Where input is the post, whatever the instruction is,
give --columns post=input.

Columns that are not used, labels without a meaning with their rows, and the reasons why rows were left out are listed.
"""

BUILD_EPILOG = """\
examples:
  mentallama data build posts.csv --dataset DR --split train --out data/dr.jsonl
  mentallama data build mine.csv --dataset SAD --split test --out data/sad       a folder in the released layout
  mentallama data build spiritual.csv --dataset MultiWD --aspect spiritual --split val --out data/spiritual.parquet
  mentallama data build other.csv --dataset DR --columns post=text,label=class --labels 2=yes,1=no --out data/b.jsonl
  mentallama data build alpaca.json --dataset DR --columns post=input --out data/alpaca.jsonl
  mentallama data build hub:owner/name:train --dataset SAD --columns post=text --labels names.yaml --out data/hub.jsonl

names.yaml holds a pair a line, such as `"3": financial problem` or `"Health, Fatigue": health issues`.
"""

_MOST_REASONS = 8


def add_build(parser: argparse.ArgumentParser) -> None:
    """Add the options of the action."""
    parser.add_argument("raw", type=expanded, metavar="RAW", help="the table, a file or hub:owner/name")
    parser.add_argument("--dataset", metavar="NAME", required=True, help="whose question is asked, such as DR or SAD")
    parser.add_argument("--split", metavar="SPLIT", default="", help="train, val or test, for rows that do not say")
    parser.add_argument("--aspect", metavar="ASPECT", default="", help="of MultiWD or IRF, for rows that do not say")
    _add_mapping(parser)
    parser.add_argument(
        "--shares",
        metavar="NAME=W",
        nargs="+",
        default=[],
        help="divide rows that do not say their split, such as train=0.8 val=0.1 test=0.1; a post is in one part only",
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of that division (default: 0)")
    add_writing(parser)
    add_tasks(parser)
    parser.set_defaults(run=run_build)


def _add_mapping(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--columns",
        metavar="ROLE=COLUMN",
        default="",
        help="columns with other names, a list with commas between, such as post=text,label=class,id=nr",
    )
    parser.add_argument(
        "--labels",
        metavar="CELL=LABEL",
        type=expanded,
        default="",
        help="what cells of the label column mean, such as 1=yes,0=no, or a FILE.yaml of such pairs",
    )


def run_build(options: argparse.Namespace) -> int:
    """Make records of a raw table and write them."""
    from mentallama_jax.imhi.data_files.build import ROLES, build_records
    from mentallama_jax.imhi.data_files.column_roles import parse_roles
    from mentallama_jax.imhi.data_files.writers import check_new

    check_new(options.out)
    result = build_records(
        options.raw,
        options.dataset,
        options.split,
        aspect=options.aspect,
        columns=parse_roles(options.columns, ROLES),
        labels=_labels_of(options.labels),
        repair_mojibake=options.repair,
        strict=options.strict,
    )
    say_problems(result.problems)
    _say_build(result)
    write_out(options.out, _divided(result.records, options))
    return 0


def _divided(records: "Sequence[Record]", options: argparse.Namespace) -> "Sequence[Record]":
    """The records with the splits that --shares gives to those without one, in their order."""
    from dataclasses import replace

    from mentallama_jax.imhi.data_files.sources import split_named
    from mentallama_jax.imhi.mixture import split_by_post

    if not options.shares:
        return records
    if options.split:
        raise UserError("--split and --shares are two ways to say the split of rows; give one")
    shares = {split_named(name): share for name, share in weights_of(options.shares, "--shares").items()}
    parts = split_by_post((record for record in records if not record.split), shares, options.seed)
    for name, part in parts.items():
        if shares[name] and not part:
            print(f"warning: {name} gets no row, as a post is in one part only and there are too few", file=sys.stderr)
    split_of = {record.id: name for name, part in parts.items() for record in part}
    return [record if record.split else replace(record, split=split_of[record.id]) for record in records]


def _labels_of(given: str) -> dict[str, str]:
    """The mapping that --labels gives: a list of pairs, or a YAML file of them.

    Raises:
        UserError: it is neither.
    """
    from mentallama_jax.files import regular_file
    from mentallama_jax.imhi.data_files.label_mapping import parse_mapping
    from mentallama_jax.strict_yaml import parse_yaml

    path = Path(given)
    if path.suffix.lower() not in (".yaml", ".yml"):
        return parse_mapping(given)
    regular_file(path)
    pairs = parse_yaml(path.read_bytes(), path)
    if not isinstance(pairs, dict) or not all(isinstance(label, str) for label in pairs.values()):
        raise UserError(f"{path}: expected a pair a line, `CELL: LABEL`, where LABEL is a text")
    return {str(cell): label for cell, label in pairs.items()}


def _say_build(result: "BuildResult") -> None:
    """Print what was read as what, and what could not be mapped."""
    from mentallama_jax.imhi.data_files.table_rows import shown_columns

    for form in dict.fromkeys(result.forms):
        print(f"read as: {'posts and labels' if form == 'table' else form}")
    if result.unused:
        print(f"columns that are not used: {shown_columns(result.unused)}")
    if result.unmapped:
        unmapped = Counter(result.unmapped).most_common()
        listed = ", ".join(f"{cell} ({rows:,} rows)" for cell, rows in unmapped[:_MOST_REASONS])
        more = f" and {len(unmapped) - _MOST_REASONS:,} more" if len(unmapped) > _MOST_REASONS else ""
        print(f"labels without a meaning, see --labels: {listed}{more}")
    reasons = Counter(problem.reason for problem in result.problems).most_common()
    for reason, rows in reasons[:_MOST_REASONS] if len(result.problems) > 1 else []:
        print(f"  {rows:,} rows: {reason}")
    if len(reasons) > _MOST_REASONS:
        print(f"  and {len(reasons) - _MOST_REASONS:,} other reasons")
