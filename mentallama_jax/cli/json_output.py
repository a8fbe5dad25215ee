"""`--json`: one JSON object on standard output, and whatever people read on standard error."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from mentallama_jax.foreign import parse_json, reading


def add_json_option(parser: Any) -> None:
    """Add `--json` to a command that prints figures."""
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the figures as one JSON object on standard output, and the tables on standard error",
    )


@contextmanager
def figures_printed(options: argparse.Namespace) -> Iterator[Callable[[Any], None]]:
    """Around all that a command prints: where `--json` was given, only the figures go to standard output.

    The value of the context is told the figures, or the JSON file that holds them.

    Raises:
        UserError: the figures hold what JSON cannot.
    """
    found: list[Any] = []
    if not options.json:
        yield found.append
        return
    with redirect_stdout(sys.stderr):
        yield found.append
    for value in found:
        figures = parse_json(value.read_bytes(), value) if isinstance(value, Path) else value
        with reading("the figures", "JSON"):
            sys.stdout.write(json.dumps(figures, ensure_ascii=False, allow_nan=False) + "\n")
