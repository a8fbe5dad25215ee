"""The options of storing keys, values and weights in int8 while answering, of `generate` and `plan --generate`."""

import argparse
from typing import Any

INT8_OPTIONS = ("cache_dtype", "weights")


def add_int8_options(parser: argparse.ArgumentParser, before: str = "") -> None:
    """Add them; `before` stands before each help."""
    parser.add_argument(
        "--cache-dtype",
        choices=("int8",),
        help=f"{before}keep keys and values in int8, which halves the cache (default: as --dtype)",
    )
    parser.add_argument(
        "--weights",
        choices=("int8",),
        help=f"{before}keep the projections' weights in int8, which halves them (default: as --dtype)",
    )


def int8_of(options: argparse.Namespace) -> dict[str, Any]:
    """What of them is asked for, by the names that the engine and its planning know."""
    return {"int8_cache": options.cache_dtype is not None, "int8_weights": options.weights is not None}
