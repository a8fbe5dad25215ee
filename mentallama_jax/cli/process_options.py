"""`--distributed` and its relatives: one command on several hosts."""

import argparse
from contextlib import AbstractContextManager, nullcontext

from mentallama_jax.errors import UserError

STOPPED = 75
"""Exit status of processes that were asked to stop and kept what was finished (EX_TEMPFAIL: run it again)."""
_NAMES = ("coordinator", "processes", "process")


def add_processes(parser: argparse.ArgumentParser, description: str) -> None:
    """Add the options, in a group of their own that begins with a description."""
    several = parser.add_argument_group("several processes, one a host", description)
    several.add_argument("--distributed", action="store_true", help="find the others: TPU pods, Slurm, Kubernetes")
    several.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0; with --processes and --process")
    several.add_argument("--processes", type=int, metavar="N", help="how many there are")
    several.add_argument("--process", type=int, metavar="I", help="which this one is, from 0")


def are_several(options: argparse.Namespace) -> bool:
    """Whether the command is to run on several hosts.

    Raises:
        UserError: the options contradict one another.
    """
    explicit = tuple(getattr(options, name) for name in _NAMES)
    if not options.distributed and explicit == (None, None, None):
        return False
    missing = [f"--{name}" for name, value in zip(_NAMES, explicit, strict=True) if value is None]
    if not options.distributed and missing:
        raise UserError(f"{' and '.join(missing)} missing: --coordinator, --processes and --process go together")
    if options.distributed and len(missing) < len(_NAMES):
        raise UserError("give either --distributed alone, or --coordinator, --processes and --process together")
    if not options.distributed and not 0 <= options.process < options.processes:
        raise UserError(
            f"--process {options.process}: must be from 0 to {options.processes - 1} (--processes less one)"
        )
    return True


def joined_processes(options: argparse.Namespace) -> AbstractContextManager[None]:
    """The context in which this process works with the others that the options speak of; nothing where it is alone.

    Raises:
        UserError: see `are_several` and `parallel.processes.joined`.
    """
    if not are_several(options):
        return nullcontext()
    from mentallama_jax.parallel.processes import joined

    return joined(options.coordinator, options.processes, options.process)


def on_other_hosts(options: argparse.Namespace) -> str:
    """What is said behind the command that goes on here, where the other hosts need one of their own."""
    return " (and so on the other hosts, each with its own --process)" if options.coordinator else ""


def process_words(options: argparse.Namespace) -> list[str]:
    """The words of the options as they were given."""
    if options.distributed:
        return ["--distributed"]
    return [word for name in _NAMES if options.coordinator for word in (f"--{name}", str(getattr(options, name)))]
