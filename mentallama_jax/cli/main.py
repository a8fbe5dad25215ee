"""The `mentallama` command: parse, build a config, make one call.

Each subcommand lives in a module of this package with `add_parser(subparsers)`; what it runs is imported
only when it runs, so that `--help` stays instant.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

from mentallama_jax import __version__
from mentallama_jax.errors import UserError

COMMANDS = ("data", "plan", "bench", "train", "generate", "evaluate", "export", "quickstart")

_EPILOG = """\
the usual order:
  mentallama quickstart                                    see the whole job on the bundled sample
  mentallama data check DATA                               what is wrong or risky in your files
  mentallama train configs/llama2-chat-7b.yaml             tune
  mentallama generate RUN --data DATA --out PREDICTIONS    answer test rows
  mentallama evaluate PREDICTIONS --out SCORES             score the answers
  mentallama export RUN --out FOLDER                       a folder that transformers loads

For research only: never for diagnosis, triage or decisions about a person.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser with every subcommand."""
    parser = argparse.ArgumentParser(
        prog="mentallama",
        description="Tune, sample, evaluate and export LLaMA-2-family models on the IMHI benchmark.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mentallama-jax {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        importlib.import_module(f"mentallama_jax.cli.{command}").add_parser(subparsers)
    return parser


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line; `key=value` may stand anywhere after the config, which argparse alone refuses."""
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    changes = [word for word in rest if "=" in word and not word.startswith("-")] if "overrides" in options else []
    if unknown := [word for word in rest if word not in changes]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if changes:
        options.overrides = [*options.overrides, *changes]
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status (0 done, 1 found problems, 2 user error, 130 interrupted)."""
    try:
        options = parse(arguments)
        return int(options.run(options))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except OSError as error:
        # No space left, a folder without permission, an unreadable disk: the message names the path.
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
