"""What a plan comes to, in a few lines: does it fit, how long, how much money, and the command to run."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.table import Table

from mentallama_jax.config import RunConfig
from mentallama_jax.planning.compilation import Compiled
from mentallama_jax.planning.prices import Rent
from mentallama_jax.planning.topologies import Topology
from mentallama_jax.terminal import Console
from mentallama_jax.training.preflight import size

_FEW_HOURS, _FEW_DOLLARS = 0.1, 10
_CHOSEN = (("training", "micro_batch_rows"), ("model", "remat"), *(("mesh", axis) for axis in ("data", "fsdp")),
           *(("mesh", axis) for axis in ("tensor", "sequence")))  # fmt: skip
"""The keys that a plan may choose, by section and name."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is printed first.

    Attributes:
        title: what is done where.
        lines: a word, and what is said of it.
        command: the words of the command that does what was planned; none where it does not fit.
        warnings: what the user should know before paying.
    """

    title: str
    lines: Mapping[str, str]
    command: Sequence[str] = ()
    warnings: Sequence[str] = field(default=())


def fit(compiled: Compiled, topology: Topology, fits: bool) -> dict[str, str]:
    """Whether it fits into the memory of a device."""
    need = f"{size(compiled.memory)} of {size(topology.device_memory)} on each {_device(topology)}"
    if fits:
        return {"fits": f"yes, {need}"}
    return {
        "fits": f"NO: {need}" if compiled.memory else f"NO: a {_device(topology)} has {size(topology.device_memory)}"
    }


def _device(topology: Topology) -> str:
    if topology.is_gpu:
        return "GPU"
    return "chip" if topology.devices == topology.chips else "core"


def time_and_money(work: str, rent: Rent) -> dict[str, str]:
    """Hours and money of some work."""
    return {"time": f"{taken(rent)} for {work}", "money": cost(rent)}


def taken(rent: Rent) -> str:
    """The hours of a rent; seconds where it is little."""
    if rent.hours[1] < _FEW_HOURS:
        return "{:.1f} to {:.1f} seconds".format(*rent.seconds)
    return "{:.2f} to {:.2f} hours".format(*rent.hours)


def cost(rent: Rent) -> str:
    """The money of a rent, with cents where it is little, and the price behind it."""
    digits = 2 if rent.dollars[1] < _FEW_DOLLARS else 0
    return (
        f"${rent.dollars[0]:,.{digits}f} to ${rent.dollars[1]:,.{digits}f} at ${rent.price.chip_hour:.2f} a chip-hour "
        f"({rent.price.source})"
    )


def chosen_keys(planned: RunConfig, given: RunConfig, topology: Topology) -> list[str]:
    """The `key=value` words that turn the config that was given into the one that was planned.

    `model.remat=auto` stays on GPUs: the choice of formulas is worse than that of the compiler when the run begins.
    """
    words = []
    for section, name in _CHOSEN:
        there, here = (getattr(getattr(config, section), name) for config in (planned, given))
        if there == here or (name == "remat" and here == "auto" and topology.is_gpu):
            continue
        words.append(f"{section}.{name}={_as_yaml(there)}")
    return words


def _as_yaml(value: object) -> str:
    if value is None:
        return "null"
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)


def show_verdict(verdict: Verdict, console: Console) -> None:
    """Print it; the command can be copied at any width."""
    console.print(verdict.title, style="bold")
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="bold", no_wrap=True)
    lines.add_column(overflow="fold")
    for word, text in verdict.lines.items():
        lines.add_row(word, text)
    console.print(lines)
    for warning in verdict.warnings:
        console.print(f"warning: {warning}", style="yellow")
    if verdict.command:
        show_command("run", verdict.command, console)


def show_command(what: str, words: Sequence[str], console: Console) -> None:
    """Print a command over as many lines as the width asks for, each but the last ended by a backslash."""
    console.print(f"{what}:", style="bold")
    for line in folded(words, console.width):
        console.print(line, highlight=False, soft_wrap=True)


def folded(words: Sequence[str], width: int) -> list[str]:
    """The lines of a command; a word that is longer than the width has a line of its own."""
    lines, line = [], "  "
    for word in map(shlex.quote, words):
        if line.strip() and len(line) + len(word) + 3 > width:
            lines.append(f"{line.rstrip()} \\")
            line = "      "
        line += f"{word} "
    return [*lines, line.rstrip()]
