"""The `mentallama` command: parse, build a config, make one call.

Each subcommand lives in a module of this package with `add_parser(subparsers)`, which is imported when that command is
asked for; what it runs is imported only when it runs, so that `--help` stays instant.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Any, NoReturn

from mentallama_jax import __version__
from mentallama_jax.cli.command_summaries import SUMMARIES
from mentallama_jax.cli.common_options import (
    add_short_options,
    as_config_keys,
    check_out,
    nearest,
    nearest_command,
    parser_of,
    short_usage,
    unknown_options,
)
from mentallama_jax.cli.options_once import OnceParser
from mentallama_jax.errors import UserError
from mentallama_jax.foreign import one_line

COMMANDS = (
    "data",
    "plan",
    "bench",
    "configs",
    "train",
    "transfer",
    "generate",
    "ask",
    "baseline",
    "evaluate",
    "compare",
    "agree",
    "probe",
    "report",
    "study",
    "export",
    "serve",
    "quickstart",
    "completion",
)

_EPILOG = """\
the usual order:
  mentallama quickstart                                    see the whole job on the bundled sample
  mentallama data check DATA                               what is wrong or risky in your files
  mentallama train configs/llama2-chat-7b.yaml             tune
  mentallama generate RUN --data DATA --out PREDICTIONS    answer test rows
  mentallama ask NAME --endpoint URL --data DATA --out PREDICTIONS   the same with ChatGPT or a local server
  mentallama baseline tfidf --train DATA --data DATA --out PREDICTIONS    what a model has to beat
  mentallama evaluate PREDICTIONS --out SCORES             score the answers, write a report
  mentallama compare PREDICTIONS OTHERS --out FOLDER       is one better than the other?
  mentallama probe fairness RUN --data DATA --out SCORES   change posts, and see what that does to labels
  mentallama report SCORES_A SCORES_B --out REPORT         several side by side, or training runs
  mentallama export RUN --out FOLDER                       a folder that transformers loads
  mentallama serve RUN                                     the model over HTTP: analyses of posts, OpenAI's API

-o, -d and -n are short for --out, --data and --max-rows. `mentallama completion bash` (zsh, fish) completes all others.

For research only: never for diagnosis, triage or decisions about a person.
"""


class _Parser(OnceParser):
    """A parser whose errors are a line of usage and one line, with the option that a wrong one was meant to be.

    A command that has commands below it, and is given no word at all, is asked what it can do: it shows its help.
    """

    _words: Sequence[str] | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None, **options: Any) -> Any:
        self._words = list(args or ())
        return super().parse_known_args(args, namespace, **options)

    def error(self, message: str) -> NoReturn:
        if self._words == [] and any(isinstance(action, argparse._SubParsersAction) for action in self._actions):
            self.print_help()
            self.exit(0)
        if "invalid choice" in message:
            message += nearest_command(self, self._words or ())
        if "required" in message and (unknown := unknown_options(self, self._words or ())):
            message = f"{message}; unrecognized: {' '.join(unknown)}{nearest(self, unknown)}"
        self.exit(2, f"{short_usage(self)}{self.prog}: error: {one_line(message)}\n")


def build_parser(words: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """The parser with every subcommand; of those that a command line does not name, the summary alone."""
    parser = _Parser(
        prog="mentallama",
        description="Tune, sample, evaluate and export LLaMA-2-family models on the IMHI benchmark.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mentallama-jax {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        if words is None or command in words or command not in SUMMARIES:
            importlib.import_module(f"mentallama_jax.cli.{command}_command").add_parser(subparsers)
        else:
            subparsers.add_parser(command, help=SUMMARIES[command])
    add_short_options(parser)
    return parser


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line; `key=value` may stand anywhere after the config, which argparse alone refuses."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser = build_parser(words)
    for word in words:
        if not _is_text(word):
            parser.error(f"an argument is not UTF-8: {word!r}")
    options, rest = parser.parse_known_args(words or ["--help"])
    if "overrides" in options and getattr(options, "tasks", None):  # a list of files takes what stands behind it
        rest += [word for word in options.tasks if "=" in word]
        options.tasks = [word for word in options.tasks if "=" not in word]
    changes = [word for word in rest if "=" in word and not word.startswith("-")] if "overrides" in options else []
    if unknown := [word for word in rest if word not in changes]:
        chosen = parser_of(parser, options)
        hint = nearest(chosen, unknown) or (as_config_keys(unknown) if "overrides" in options else "")
        chosen.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    if changes:
        options.overrides = [*options.overrides, *changes]
    check_out(parser, options)
    return options


def _is_text(word: str) -> bool:
    try:
        word.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in word


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status (0 done, 1 found problems, 2 user error, 130 interrupted)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that has no such letter shows its code
            stream.reconfigure(errors="backslashreplace")
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _without_loops_at_exit
    try:
        options = parse(arguments)
        from mentallama_jax.cli.absent_tpu import settings_without_tpu
        from mentallama_jax.cli.task_options import known_tasks

        os.environ.update(settings_without_tpu(os.environ))

        with known_tasks(options):
            status = int(options.run(options))
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except UserError as error:
        return _fail(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _close_stdout()
        return 141
    except Exception as error:
        from mentallama_jax.cli.surroundings import explain

        reason = explain(error)
        if reason is None:
            raise
        if isinstance(error, OSError) and not error.filename:
            _close_stdout()  # it may be what cannot be written
        return _fail(reason)


def _fail(reason: object) -> int:
    print(f"error: {one_line(reason)}", file=sys.stderr)
    return 2


def _close_stdout() -> None:
    """Let nothing be flushed at exit that cannot be written: Python would complain, and change the status."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        return


def _without_loops_at_exit(unraisable: Any) -> None:
    """Report what Python cannot raise, but not the event loops of libraries that are torn down at exit."""
    if not isinstance(unraisable.exc_value, RuntimeError) or "loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


if __name__ == "__main__":
    sys.exit(main())
