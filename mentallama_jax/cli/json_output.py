"""`--json`: one JSON object on standard output, and whatever is for people on standard error."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from mentallama_jax.foreign import reading

if TYPE_CHECKING:
    from mentallama_jax.terminal import Console


def add_json_option(parser: Any) -> None:
    """Add `--json` to a command that prints figures."""
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the figures as one JSON object on standard output, and the tables on standard error",
    )


def console_for(options: argparse.Namespace) -> "Console":
    """Where a command prints what people read: standard output, or standard error beside `--json`."""
    from mentallama_jax.terminal import Console

    return Console(stderr=options.json)


def print_json(options: argparse.Namespace, value: Any) -> None:
    """Print a value where `--json` was given; nothing otherwise.

    Raises:
        UserError: the value holds what JSON cannot.
    """
    if options.json:
        with reading("the figures", "JSON"):
            sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
