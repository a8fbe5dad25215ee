"""A plan as a table for people and as JSON for programs."""

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mentallama_jax.planning.compilation import Compiled
from mentallama_jax.planning.cost import link_bytes
from mentallama_jax.planning.hlo import Program
from mentallama_jax.planning.plan import Plan
from mentallama_jax.planning.prices import Rent
from mentallama_jax.planning.topologies import Topology
from mentallama_jax.planning.verdict import Verdict, cost, fit, show_verdict, taken, time_and_money
from mentallama_jax.terminal import Console
from mentallama_jax.training.preflight import size

_RULE = (
    "model FLOPs: {each} for each weight of a matrix product and token, attention at {square} T x T; nothing "
    "recomputed; MFU over all positions, tokens/s over real ones"
)


def rule(plan: Plan) -> str:
    """How the figures are counted."""
    each = 6 if plan.config.adapter is None else "4 (they are frozen)"
    return _RULE.format(each=each, square="the whole of" if plan.classifies else "half of")


def warnings(plan: Plan) -> list[str]:
    """What the user should know before paying."""
    said, recipe, rows = [], plan.recipe, plan.config.training.micro_batch_rows
    shards = plan.mesh["data"] * plan.mesh["fsdp"]
    if not recipe.padded and shards > recipe.rows:
        said.append(
            f"an update of {recipe.examples:.0f} examples is only about {recipe.rows:.0f} packed rows, and {shards} "
            "devices want a row each: the others compute padding. Take fewer chips, or cut rows by mesh.tensor or "
            "mesh.sequence"
        )
    elif recipe.real_share(rows) < 0.9 and not recipe.padded:
        said.append(
            f"only {recipe.real_share(rows):.0%} of what is computed are real tokens: {recipe.rows:.0f} rows an update "
            f"fill {plan.micro_batches} micro-batches of {rows} badly; choose a training.micro_batch_rows that divides "
            "them better"
        )
    said += device_warnings(plan.compiled, plan.topology, plan.fits, remedies(plan))
    if plan.topology.is_gpu:
        said.append(
            "GPU figures are formulas, nothing was compiled: matrix products at half of the peak, parameters gathered "
            "by the ring rule, activations good to a factor of about 1.7; no cycles, no kernels, no layouts"
        )
    if plan.topology.slices > 1:
        said.append(
            "traffic between slices: gradients in float32, once an update, by the ring rule, at the published speed of "
            "the network; the compiler's text leaves it to the runtime"
        )
    return said


def device_warnings(compiled: Compiled, topology: Topology, fits: bool, changes: Sequence[str]) -> list[str]:
    """On the memory of a device and what a device is; `changes` are what would make it fit."""
    said = []
    if not fits:
        said += [f"does not fit: {change}" for change in changes]
    elif compiled.memory > 0.95 * topology.device_memory:
        said.append("less than 5 % of the memory is left; another version of the compiler may not fit it")
    if topology.family == "v4":
        said.append("the v4 compiler here has two devices a chip, with half of its memory each")
    return said


def remedies(plan: Plan) -> list[str]:
    """What to change so that it fits, the cheapest first."""
    shards = plan.mesh["data"] * plan.mesh["fsdp"]
    changes = []
    if plan.config.model.remat != "full":
        changes.append("model.remat=full")
    if plan.config.training.micro_batch_rows > shards:
        changes.append(f"training.micro_batch_rows={shards}, a row a device")
    changes.append("more chips, so that each holds less of the state, or a larger mesh.tensor")
    if plan.config.optimizer.first_moment_dtype == "float32":
        changes.append("optimizer.first_moment_dtype=bfloat16")
    return changes


def remat_name(remat: str | Sequence[str]) -> str:
    """A policy's name, or the tensors of a list joined by `+`."""
    return remat if isinstance(remat, str) else "+".join(remat) or "full"


def as_json(plan: Plan) -> dict[str, Any]:
    """Every figure of a plan; bytes, seconds, dollars; ranges as [lower, upper]. Unknown ones are null."""
    topology, compiled, program = plan.topology, plan.compiled, plan.compiled.program
    values: dict[str, Any] = {
        **topology_json(topology),
        "mesh": plan.mesh,
        "remat": remat_name(plan.config.model.remat),
        "micro_batch_rows": plan.config.training.micro_batch_rows,
        "micro_batches": plan.micro_batches,
        "row_length": plan.recipe.row_length,
        "recipe": {
            "source": plan.recipe.source,
            "training_rows": plan.recipe.count or None,
            "known_training_rows": plan.recipe.known or None,
            "updates": plan.recipe.updates,
            "examples": plan.recipe.examples,
            "packed_rows": plan.recipe.rows,
            "real_tokens": plan.recipe.tokens,
            "real_share": plan.recipe.real_share(plan.config.training.micro_batch_rows),
            "padded_over_packed": plan.padded_over_packed,
        },
        "fits": plan.fits,
        **compiled_json(compiled, topology),
        "warnings": warnings(plan),
        "rule": rule(plan),
    }
    if program is None or plan.time is None:
        return values
    return values | {
        **program_json(program),
        "model_flops_computed": plan.computed_flops,
        "model_flops_real": plan.model_flops,
        "seconds": {
            "compiled": plan.time.compiled,
            "kernels": plan.time.kernels,
            "links": plan.time.links,
            "network": plan.time.network,
            "update": list(plan.seconds),
        },
        "mfu": list(plan.utilisation),
        "real_tokens_per_second_per_chip": list(plan.tokens_per_second),
        **rent_json(plan.rent),
    }


def topology_json(topology: Topology) -> dict[str, Any]:
    """What a topology is."""
    return {
        "topology": topology.name,
        "compiler_topology": None if topology.is_gpu else topology.compiler_name,
        "slices": topology.slices,
        "chip": topology.chip.kind,
        "chips": topology.chips,
        "devices": topology.devices,
    }


def compiled_json(compiled: Compiled, topology: Topology) -> dict[str, Any]:
    """Memory in bytes, what the compiler complained about, and how long it took in seconds."""
    return {
        "memory": {
            "of_a_device": topology.device_memory,
            "arguments": compiled.arguments,
            "temporaries": compiled.temporaries,
            "code": compiled.code,
            "largest": [{"bytes": count, "name": name} for count, name in compiled.largest],
        },
        "problem": compiled.problem,
        "compile_seconds": {"lower": compiled.seconds[0], "compile": compiled.seconds[1], "cached": compiled.cached},
    }


def program_json(program: Program) -> dict[str, Any]:
    """What one device does: operations, cycles, bytes."""
    return {
        "matmul_flops": program.matmul_flops,
        "cycles": program.cycles,
        "cycles_by_category": program.categories,
        "collectives": [
            {
                "kind": one.kind,
                "axes": list(one.axes),
                "devices": one.group,
                "times": one.times,
                "result_bytes": one.result_bytes,
                "link_bytes": link_bytes(one),
                "written": one.written,
                "written_bytes": one.written_bytes,
            }
            for one in program.collectives
        ],
        "kernels": [{"name": k.name, "shape": list(k.shape), "launches": k.times} for k in program.kernels],
        "top": [{"name": one.name, "times": one.times, "cycles": one.cycles} for one in program.top],
    }


def rent_json(rent: Rent) -> dict[str, Any]:
    """Hours and dollars as [lower, upper], and the price behind them."""
    return {
        "hours": list(rent.hours),
        "chip_hours": list(rent.chip_hours),
        "dollars": list(rent.dollars),
        "price": {"chip_hour": rent.price.chip_hour, "source": rent.price.source},
    }


def verdict(plan: Plan, command: Sequence[str] = ()) -> Verdict:
    """What a plan comes to; `command` is the one that trains as planned."""
    lines = fit(plan.compiled, plan.topology, plan.fits)
    if plan.fits:
        each = "{:.2f} to {:.2f} s".format(*plan.seconds)
        lines |= time_and_money(f"{plan.recipe.updates:,} updates of {each}", plan.rent)
    lines["data"] = data_line(plan)
    return Verdict(_title(plan), lines, command if plan.fits else (), warnings(plan))


def data_line(plan: Plan) -> str:
    """How many training rows are planned for, of how many that are known, and how to count one's own."""
    recipe = plan.recipe
    if not recipe.count or not recipe.known:
        return recipe.source
    if recipe.assumed:
        return (
            f"assumed, {recipe.count:,} training rows: all that the paper counts; copies of it may have fewer. "
            "Count your own: --data reads those of the config; `mentallama data check SOURCE` counts those for --rows N"
        )
    return f"{recipe.count:,} training rows of the {recipe.known:,} that the paper counts ({recipe.source})"


def _title(plan: Plan) -> str:
    topology = plan.topology
    where = f"{topology.name}, {topology.slices} slices" if topology.slices > 1 else topology.name
    return f"{plan.config.model.source} on {where}: {topology.chips} chips, {topology.devices} devices"


def show(plan: Plan, console: Console, command: Sequence[str] = (), *, details: bool = False) -> None:
    """Print what a plan comes to, and on request every figure."""
    show_verdict(verdict(plan, command), console)
    if details:
        _show_details(plan, console)


def _show_details(plan: Plan, console: Console) -> None:
    topology, compiled, config = plan.topology, plan.compiled, plan.config
    table = Table(title=_title(plan), box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("what", style="bold")
    table.add_column("estimate")
    table.add_row("mesh", ", ".join(f"{axis} {count}" for axis, count in plan.mesh.items()))
    rows = config.training.micro_batch_rows
    table.add_row(
        "an update",
        f"{plan.recipe.examples:.0f} examples, {plan.recipe.rows:.1f} rows of {plan.recipe.row_length} "
        f"in {plan.micro_batches} micro-batch(es) of {rows}, remat {remat_name(config.model.remat)}; "
        f"{plan.recipe.real_share(rows):.1%} real tokens ({plan.recipe.source})",
    )
    add_memory(table, compiled, topology, plan.fits)
    if compiled.program is not None and plan.time is not None:
        _add_speed(plan, table)
    console.print(table)
    console.print(rule(plan), style="dim")


def add_memory(table: Table, compiled: Compiled, topology: Topology, fits: bool) -> None:
    """The rows on the memory of a device."""
    table.add_row(
        "memory of a device",
        f"{size(compiled.memory)} of {size(topology.device_memory)}: arguments {size(compiled.arguments)}, "
        f"temporaries {size(compiled.temporaries)}, code {size(compiled.code)}"
        + ("" if fits else f"\ndoes not fit: {compiled.problem}"),
    )
    for count, name in compiled.largest:
        table.add_row("", f"{size(count)}  {name}")


def add_program(table: Table, program: Program, least_bytes: float) -> None:
    """The rows on collectives that send at least so many bytes, cycles and kernels."""
    for one in program.collectives:
        if link_bytes(one) >= least_bytes:
            over = " x ".join(one.axes) or "nothing"
            table.add_row(
                f"{one.kind}, {over}",
                f"{one.times} times, {size(one.result_bytes)}, {size(link_bytes(one))} over links "
                f"(written {one.written} times, {size(one.written_bytes)})",
            )
    if program.cycles:
        shares = ", ".join(f"{name} {cycles / program.cycles:.0%}" for name, cycles in program.categories.items())
        table.add_row("cycles", f"{program.cycles:.3e}: {shares}")
    if program.kernels:
        kernels = ", ".join(f"{kernel.name} {kernel.times}" for kernel in program.kernels)
        table.add_row("kernels, not in cycles", f"{sum(k.times for k in program.kernels)} launches: {kernels}")


def add_rent(table: Table, what: str, work: str, rent: Rent) -> None:
    """The rows on hours and money of some work; seconds and cents where it is little."""
    paid = "{:,.1f} to {:,.1f} chip-hours".format(*rent.chip_hours)
    table.add_row(what, f"{work}, {taken(rent)}, {paid}")
    table.add_row("money", cost(rent))


def _add_speed(plan: Plan, table: Table) -> None:
    program, time = plan.compiled.program, plan.time
    assert program is not None
    assert time is not None
    table.add_row(
        "matrix products",
        f"{program.matmul_flops / 1e12:.1f} TFLOP run outside of kernels; the model needs "
        f"{plan.computed_flops / 1e12:.1f} with attention for all positions, "
        f"{plan.model_flops / 1e12:.1f} for real tokens",
    )
    add_program(table, program, least_bytes=1e6)
    table.add_row(
        "time of an update",
        f"{time.lower:.3f} to {time.upper:.3f} s: compiled {time.compiled:.3f}, kernels {time.kernels:.3f}, "
        f"links {time.links:.3f}, network {time.network:.3f}",
    )
    table.add_row("tokens/s/chip, real", "{:,.0f} to {:,.0f}".format(*plan.tokens_per_second))
    table.add_row("MFU", "{:.1%} to {:.1%}".format(*plan.utilisation))
    add_rent(table, "the recipe", f"{plan.recipe.updates} updates", plan.rent)
    if not plan.recipe.padded:
        paper = "" if plan.classifies else " as in the paper"
        table.add_row(
            f"padded to {plan.padded_length:,}{paper}",
            f"{plan.padded_over_packed:.1f} times the positions on the same chips",
        )
