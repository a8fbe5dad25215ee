"""`mentallama data build`: its help, what maps columns and labels, and what it says of the rest."""

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from mentallama_jax.errors import UserError
from mentallama_jax.storage import expanded

if TYPE_CHECKING:
    from mentallama_jax.imhi.data_files.build import BuildResult

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

Columns for nothing, labels without a meaning with their rows, and the reasons why rows were left out are listed.
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


def add_mapping(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what columns and labels mean."""
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


def labels_of(given: str) -> dict[str, str]:
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


def say_build(result: "BuildResult") -> None:
    """Print what was read as what, and what could not be mapped."""
    from mentallama_jax.imhi.data_files.table_rows import shown_columns

    for form in dict.fromkeys(result.forms):
        print(f"read as: {'posts and labels' if form == 'table' else form}")
    if result.unused:
        print(f"columns that are for nothing: {shown_columns(result.unused)}")
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
