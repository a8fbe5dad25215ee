"""`mentallama data`: check, build and convert records."""

import argparse
from typing import Any

_DESCRIPTION = """\
Look at IMHI data before training on it, and bring it into shape.
"""

_CHECK = """\
Report what is wrong or risky in data: rows that cannot be read, by file, row and reason.

PATHS are files or folders in any layout that training reads: the released CSV files, .jsonl and .parquet of records,
`sample` (the bundled sample), hub:owner/name. `:train`, `:val` or `:test` behind one takes only that split.
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = subparsers.add_parser(
        "data", help="check, build and convert records", description=_DESCRIPTION, formatter_class=raw
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser("check", help="what is wrong or risky in files", description=_CHECK, formatter_class=raw)
    check.add_argument("paths", metavar="PATHS", nargs="+", help="files, folders, `sample` or hub:owner/name")
    check.add_argument("--strict", action="store_true", help="exit with status 1 if a row cannot be read")
    check.set_defaults(run=run_check)


def run_check(options: argparse.Namespace) -> int:
    """Read everything; print the counts and the bad rows."""
    from collections import Counter

    from mentallama_jax.imhi.readers import read_records

    result = read_records(options.paths)
    rows = Counter((record.dataset, record.split) for record in result.records)
    for (dataset, split), count in rows.items():
        print(f"{dataset} {split}: {count} rows")
    print(f"{len(result.problems)} bad rows")
    for problem in result.problems:
        print(f"  {problem}")
    return 1 if options.strict and result.problems else 0
