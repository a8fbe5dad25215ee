"""The plans of a search beside each other: the cheapest and the fastest in words, then all in a table."""

import math
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mentallama_jax.planning.plan import Plan
from mentallama_jax.planning.report import data_line, remat_name, warnings
from mentallama_jax.planning.verdict import cost, show_command, taken
from mentallama_jax.terminal import Console
from mentallama_jax.training.preflight import size

_SHOWN = 20
_COLUMNS = ("no.", "topology", "chips", "mesh", "rows x n", "remat", "memory", "s/update", "MFU", "hours", "dollars")
_FIGURES = ("chips", "memory", "s/update", "MFU", "hours", "dollars")


def show_ranking(plans: Sequence[Plan], commands: Sequence[Sequence[str]], console: Console) -> None:
    """Print which plans fit, the cheapest and the fastest with their commands, and all of them by price.

    Args:
        plans: of the search.
        commands: the one that trains as planned, for each plan.
        console: as wide as the table may be.
    """
    both = [(plan, command) for plan, command in zip(plans, commands, strict=True) if plan.fits]
    both.sort(key=lambda one: one[0].rent.dollars[1])
    ranked = [plan for plan, _ in both]
    console.print(f"{len(ranked)} of {len(plans)} compiled candidates fit.", style="bold")
    if not ranked:
        console.print("Take more chips or chips with more memory, or raise --limit.")
        return
    console.print(f"data: {data_line(ranked[0])}", highlight=False)
    fastest = min(range(len(ranked)), key=lambda number: ranked[number].seconds[1])
    if fastest == 0:
        _say("cheapest and fastest", 0, *both[0], console)
    else:
        _say("cheapest", 0, *both[0], console)
        _say("fastest", fastest, *both[fastest], console)
    console.print(_table(ranked))
    if len(ranked) > _SHOWN:
        console.print(f"and {len(ranked) - _SHOWN} dearer ones; --json has all", style="dim")


def _say(what: str, number: int, plan: Plan, command: Sequence[str], console: Console) -> None:
    console.print(
        f"{what} (no. {number + 1}): {plan.topology.name}, {taken(plan.rent)}, {cost(plan.rent)}", highlight=False
    )
    for warning in warnings(plan):
        console.print(f"warning: {warning}", style="yellow")
    show_command("run", command, console)


def _table(ranked: Sequence[Plan]) -> Table:
    table = Table(title="by price, the cheapest first", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in _COLUMNS:
        table.add_column(column, no_wrap=True, justify="right" if column in _FIGURES else "left")
    for number, plan in enumerate(ranked[:_SHOWN], start=1):
        cells = _cells(number, plan)
        table.add_row(*(cells[column] for column in _COLUMNS))
    return table


def _cells(number: int, plan: Plan) -> dict[str, str]:
    mesh = " ".join(f"{axis[:4]}{count}" for axis, count in plan.mesh.items() if count > 1)
    topology = plan.topology
    return {
        "no.": str(number),
        "topology": topology.name + (f" x{topology.slices}" if topology.slices > 1 else ""),
        "chips": str(topology.chips),
        "mesh": mesh or "one device",
        "rows x n": f"{plan.config.training.micro_batch_rows} x {plan.micro_batches}",
        "remat": remat_name(plan.config.model.remat),
        "memory": size(plan.compiled.memory),
        "s/update": _range(plan.seconds),
        "MFU": "{:.0%}-{:.0%}".format(*plan.utilisation),
        "hours": _range(plan.rent.hours),
        "dollars": _range(plan.rent.dollars),
    }


def _range(ends: Sequence[float]) -> str:
    """Both ends with as many decimals as tell the lower one to two digits, four at most."""
    low, high = ends
    decimals = 0 if low >= 10 else min(max(1 - math.floor(math.log10(low)), 1), 4) if low > 0 else 2
    return f"{low:,.{decimals}f}-{high:,.{decimals}f}"
