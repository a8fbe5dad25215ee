"""A plan of scoring as a table for people and as JSON for programs."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mentallama_jax.models.presets import PRESETS
from mentallama_jax.planning.report import (
    add_memory,
    add_program,
    add_rent,
    compiled_json,
    device_warnings,
    program_json,
    rent_json,
    topology_json,
)
from mentallama_jax.planning.scoring import FP32_PASSES, ScorePlan
from mentallama_jax.planning.verdict import Verdict, fit, show_verdict, time_and_money
from mentallama_jax.terminal import Console

RULE = (
    "pairs are packed into rows by their longer text; a pair beyond the room of a row is another program, which is not "
    "planned. Model FLOPs: 2 for each weight of a matrix product and place of a row, attention at the whole of T x T, "
    "the decoder's own at half. "
    f"fp32 throughout: attention kernels are taken to need {FP32_PASSES} products of bf16 for one; the compiler's "
    "cycles hold that already. From all communication hidden to none; without reading texts and weights"
)


def warnings(plan: ScorePlan) -> list[str]:
    """What the user should know before paying."""
    topology = plan.topology
    said = device_warnings(plan.compiled, topology, plan.fits, ["a smaller model, or chips with more memory"])
    if not topology.is_one_host:
        said.append(
            f"`evaluate` works on one host, which has at most {topology.chip.host} of these chips: score a part of the "
            "predictions on each host, and plan for one"
        )
    if plan.batches * plan.work.rows * plan.pairs_of_a_row > 2 * plan.pairs:
        said.append("more than half of the rows of its only batch are empty; take fewer chips")
    return said


def as_json(plan: ScorePlan) -> dict[str, Any]:
    """Every figure of a plan; bytes, seconds, dollars; ranges as [lower, upper]."""
    topology, compiled = plan.topology, plan.compiled
    values: dict[str, Any] = {
        **topology_json(topology),
        "model": plan.source,
        "model_type": plan.model.model_type,
        "dtype": "float32",
        "rows": plan.work.rows,
        "room": plan.work.room,
        "pairs": plan.pairs,
        "mean_tokens": plan.mean_tokens,
        "pairs_of_a_row": plan.pairs_of_a_row,
        "fits": plan.fits,
        **compiled_json(compiled, topology),
        "warnings": warnings(plan),
        "rule": RULE,
    }
    if compiled.program is None or plan.time is None:
        return values
    return values | {
        **program_json(compiled.program),
        "model_flops": plan.model_flops,
        "seconds": {
            "compiled": plan.time.compiled,
            "kernels": plan.time.kernels,
            "links": plan.time.links,
            "batch": list(plan.seconds),
        },
        "pairs_per_second": list(plan.pairs_per_second),
        "batches": plan.batches,
        **rent_json(plan.rent),
    }


def command(plan: ScorePlan) -> list[str]:
    """The words of the command that scores as planned; names of predictions and figures are to be filled in."""
    model = [] if plan.source in PRESETS else ["--bartscore-model", plan.source]
    return ["mentallama", "evaluate", "PREDICTIONS.jsonl", "--metrics", "bartscore", *model, "--out", "SCORES"]


def verdict(plan: ScorePlan) -> Verdict:
    """What a plan comes to."""
    lines = fit(plan.compiled, plan.topology, plan.fits)
    if plan.fits:
        each = "{:.3f} to {:.3f} s".format(*plan.seconds)
        lines |= time_and_money(f"{plan.pairs:,} pairs in {plan.batches:,} batches of {each}", plan.rent)
    return Verdict(_title(plan), lines, command(plan) if plan.fits else (), warnings(plan))


def _title(plan: ScorePlan) -> str:
    topology = plan.topology
    return f"pairs scored by {plan.source} on {topology.name}: {topology.chips} chips, {topology.devices} devices"


def show(plan: ScorePlan, console: Console, *, details: bool = False) -> None:
    """Print what a plan comes to, and on request every figure."""
    show_verdict(verdict(plan), console)
    if details:
        _show_details(plan, console)


def _show_details(plan: ScorePlan, console: Console) -> None:
    topology, work = plan.topology, plan.work
    table = Table(title=_title(plan), box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("what", style="bold")
    table.add_column("estimate")
    table.add_row(
        "a batch",
        f"{work.rows} rows of {work.room} tokens of sources and of targets; a row has {plan.pairs_of_a_row:.1f} pairs, "
        f"whose longer text has {plan.mean_tokens:g} tokens on average; float32, parameters on every device",
    )
    add_memory(table, plan.compiled, topology, plan.fits)
    program, time = plan.compiled.program, plan.time
    if program is not None and time is not None:
        table.add_row(
            "matrix products",
            f"{program.matmul_flops / 1e12:.2f} TFLOP run outside of kernels; the model needs "
            f"{plan.model_flops / 1e12:.2f} with attention",
        )
        add_program(table, program, least_bytes=1e6)
        table.add_row(
            "time of a batch",
            f"{time.lower:.3f} to {time.upper:.3f} s: compiled {time.compiled:.3f}, kernels {time.kernels:.3f}, "
            f"links {time.links:.3f}",
        )
        table.add_row("pairs/s", "{:,.0f} to {:,.0f}".format(*plan.pairs_per_second))
        add_rent(table, f"{plan.pairs:,} pairs", f"{plan.batches:,} batches", plan.rent)
    console.print(table)
    console.print(RULE, style="dim")
