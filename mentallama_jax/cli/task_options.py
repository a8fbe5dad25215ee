"""`--tasks`: tasks of one's own, known to all that a command does."""

import argparse
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from mentallama_jax.storage import expanded


def add_tasks(parser: argparse.ArgumentParser, *, run: str = "") -> None:
    """Add the option.

    Args:
        parser: of the command.
        run: the option that may name a run directory, whose tasks are known without being named again.
    """
    found = "; those of a run are known already" if run else ""
    parser.add_argument(
        "--tasks",
        type=expanded,
        metavar="FILE",
        nargs="+",
        action="extend",
        default=[],
        help=f"task files of your own, as `mentallama data new-task` writes them, or a run that keeps some{found}",
    )
    parser.set_defaults(option_of_run=run)


@contextmanager
def known_tasks(options: argparse.Namespace) -> Iterator[None]:
    """Let the tasks that the options name be known inside the block, and those of the run that they name."""
    files, run = _files(options), _keeping_run(options)
    if not files and not run:
        yield
        return
    from mentallama_jax.imhi.tasks import own_tasks

    with own_tasks([run] if run else []), own_tasks(files):
        yield


def named_tasks(options: argparse.Namespace) -> list[str]:
    """The words that name the tasks known to this command to another one."""
    run = _keeping_run(options)
    words = [*([run] if run else []), *_files(options)]
    return ["--tasks", *words] if words else []


def next_evaluation(options: argparse.Namespace) -> str:
    """The line that says how the predictions of a command are scored, with the tasks that it knew."""
    return "next: " + shlex.join(["mentallama", "evaluate", str(options.out), *named_tasks(options), "--out", "SCORES"])


def _files(options: argparse.Namespace) -> list[str]:
    return list(map(str, getattr(options, "tasks", [])))


def _keeping_run(options: argparse.Namespace) -> str:
    """The run or export that an option names and that keeps tasks; "" for none."""
    run = getattr(options, getattr(options, "option_of_run", "") or "tasks", None)
    if not isinstance(run, str) or run.startswith(("package:", "hub:")):
        return ""
    from mentallama_jax.imhi.task_files.kept_tasks import keeps_tasks

    return run if keeps_tasks(run) else ""
