"""`mentallama generate` on several hosts: its options, how the hosts begin and end together, and what is said of it."""

import argparse
import atexit
from collections.abc import Callable
from typing import TYPE_CHECKING

from mentallama_jax.cli.process_options import add_processes, joined_processes, on_other_hosts, process_words
from mentallama_jax.errors import UserError

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from mentallama_jax.training.interruption import StopRequest

_OWN = {"model", "data", "out", "adapter", "tasks", "coordinator", "process", "run"}
"""Options in which hosts may differ: names of places, and which of them each is."""


def add_hosts(parser: argparse.ArgumentParser) -> None:
    """Add the options of several hosts."""
    add_processes(
        parser,
        "The same command on each; --out is a file of the first, the others write none. Asked to stop, all end with\n"
        "status 75; where one is lost or fails, the others end within 25 s with status 76 and a line that names it.\n"
        "The same commands again go on, on another number of hosts too.",
    )


def _refuse_one_host(options: argparse.Namespace) -> None:
    """Refuse what one host alone can do, before anything is read.

    Raises:
        UserError: a post of its own, or an option of encoder-decoders.
    """
    if options.post is not None:
        raise UserError("--post is answered by one host; several hosts answer --data")
    if options.beams > 1 or options.no_repeat_ngram or options.length_penalty != 1:
        raise UserError("--beams, --length-penalty and --no-repeat-ngram: encoder-decoders answer on one host")


def on_hosts(options: argparse.Namespace, generate: Callable[["StopRequest"], int]) -> int:
    """Generate together with the other hosts; the exit status."""
    from mentallama_jax.training.interruption import StopRequest, ignore_signals

    _refuse_one_host(options)
    with joined_processes(options), StopRequest() as stop:
        from mentallama_jax.parallel.processes import check_alike

        stop.where = "behind the answers that are being written"
        check_alike("command", repr(sorted((name, str(x)) for name, x in vars(options).items() if name not in _OWN)))
        status = generate(stop)
        atexit.register(ignore_signals)
        return status


def line_on_hosts(mesh: "Mesh | None") -> str:
    """How several hosts share the work; nothing of one."""
    import jax

    if mesh is None or jax.process_count() == 1:
        return ""
    axes = " ".join(f"{axis}={size}" for axis, size in mesh.shape.items() if axis != "sequence")
    return f"\nhosts: {jax.process_count()} with {mesh.size} devices, --mesh {axes}"


def how_to_go_on(options: argparse.Namespace, signal_name: str) -> str:
    """What is said once all hosts have stopped."""
    return (
        f"stopped by {signal_name}; finished rows are in {options.out}. To go on: the same command with "
        f"{' '.join(process_words(options))}{on_other_hosts(options)}"
    )
