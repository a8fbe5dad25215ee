"""A plan of answering as a table for people and as JSON for programs."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from mentallama_jax.planning.answering import AnswerPlan
from mentallama_jax.planning.cost import HOP_SECONDS, StepTime
from mentallama_jax.planning.hlo import Program
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
from mentallama_jax.planning.verdict import Verdict, fit, show_verdict, time_and_money
from mentallama_jax.terminal import Console
from mentallama_jax.training.preflight import size

RULE = (
    "every prompt and answer at full length; a slot whose answer ends earlier takes the next prompt. Model FLOPs: 2 "
    "for each weight of a matrix product and token, attention at half of T x T. From computation, memory and links all "
    "hidden behind the longest, to none hidden (of memory what is copied beside other work, as the rest is in the "
    f"cycles) and {HOP_SECONDS * 1e6:g} us for each step of a ring"
)


def warnings(plan: AnswerPlan) -> list[str]:
    """What the user should know before paying."""
    topology = plan.topology
    said = device_warnings(plan.compiled, topology, plan.fits, remedies(plan))
    if plan.mesh["fsdp"] > 1:
        said.append(
            f"along fsdp {plan.mesh['fsdp']} each device gathers the weights for every batch and holds them whole, "
            f"{size(plan.bytes.read - plan.bytes.cache)}; a larger mesh.tensor reads them where they are"
        )
    if topology.is_gpu:
        said.append(
            "GPU figures are formulas, nothing was compiled: matrix products at half of the peak, memory at its full "
            "published bandwidth, activations of one layer; a decode step is never faster than its memory"
        )
    return said


def remedies(plan: AnswerPlan) -> list[str]:
    """What to change so that it fits, the cheapest first."""
    changes = []
    if plan.answers.rows > plan.mesh["data"] * plan.mesh["fsdp"]:
        changes.append("a smaller --batch-size")
    if plan.config.model.compute_dtype == "float32":
        changes.append("model.compute_dtype=bfloat16")
    changes += [word for word, asked in _int8(plan).items() if not asked]
    changes.append("a larger mesh.tensor or mesh.fsdp, on more chips")
    changes.append("shorter --prompt and --new-tokens")
    return changes


def as_json(plan: AnswerPlan) -> dict[str, Any]:
    """Every figure of a plan; bytes, seconds, dollars; ranges as [lower, upper]."""
    topology, compiled = plan.topology, plan.compiled
    values: dict[str, Any] = {
        **topology_json(topology),
        "mesh": plan.mesh,
        "dtype": plan.config.model.compute_dtype,
        "int8": [name for name, asked in _int8(plan).items() if asked],
        "batch_size": plan.answers.rows,
        "prompt": plan.answers.prompt,
        "new_tokens": plan.answers.new_tokens,
        "drafts": plan.answers.drafts,
        "posts": plan.posts,
        "fits": plan.fits,
        **compiled_json(compiled, topology),
        "weight_bytes": plan.bytes.weights,
        "cache_bytes": plan.bytes.cache,
        "bytes_read_per_step": plan.bytes.read,
        "warnings": warnings(plan),
        "rule": RULE,
    }
    if compiled.program is None or compiled.loop is None or plan.prefill is None or plan.token is None:
        return values
    return values | {
        "prefill": {
            "tokens": plan.pack,
            **program_json(compiled.program),
            "model_flops": plan.prefill_flops,
            "seconds": _time_json(plan.prefill),
        },
        "decode_step": {
            **program_json(compiled.loop),
            "model_flops": plan.token_flops,
            "seconds": _time_json(plan.token),
        },
        "batch_seconds": list(plan.seconds),
        "new_tokens_per_second_per_chip": list(plan.tokens_per_second),
        "batches": plan.batches,
        **rent_json(plan.rent),
    }


def _time_json(time: StepTime) -> dict[str, Any]:
    return {
        "compiled": time.compiled,
        "kernels": time.kernels,
        "memory": time.memory,
        "copied": time.copied,
        "links": time.links,
        "latency": time.latency,
        "total": [time.lower, time.upper],
    }


def command(plan: AnswerPlan) -> list[str]:
    """The words of the command that answers as planned, on each host; names are to be filled in."""
    sizes = [f"{axis}={plan.mesh[axis]}" for axis in ("data", "fsdp", "tensor")]
    numbers = ["--batch-size", str(plan.answers.rows), "--max-new-tokens", str(plan.answers.new_tokens)]
    return [
        "mentallama",
        "generate",
        "MODEL",
        "--data",
        "DATA",
        "--out",
        "PREDICTIONS.jsonl",
        "--mesh",
        *sizes,
        *numbers,
        *([] if plan.topology.is_one_host else ["--distributed"]),
        *(word for option, asked in _int8(plan).items() if asked for word in option.split()),
        *(["--drafts", str(plan.answers.drafts)] if plan.answers.drafts else []),
    ]


def _int8(plan: AnswerPlan) -> dict[str, bool]:
    """The options of `generate` that keep something in int8, and whether they are planned with."""
    return {"--weights int8": plan.answers.int8_weights, "--cache-dtype int8": plan.answers.int8_cache}


def verdict(plan: AnswerPlan) -> Verdict:
    """What a plan comes to."""
    lines = fit(plan.compiled, plan.topology, plan.fits)
    if plan.fits:
        each = "{:.2f} to {:.2f} s".format(*plan.seconds)
        lines |= time_and_money(f"{plan.posts:,} posts in {plan.batches:,} batches of {each}", plan.rent)
    return Verdict(_title(plan), lines, command(plan) if plan.fits else (), warnings(plan))


def _title(plan: AnswerPlan) -> str:
    topology = plan.topology
    return (
        f"answers of {plan.config.model.source} on {topology.name}: {topology.chips} chips, {topology.devices} devices"
    )


def show(plan: AnswerPlan, console: Console, *, details: bool = False) -> None:
    """Print what a plan comes to, and on request every figure."""
    show_verdict(verdict(plan), console)
    if details:
        _show_details(plan, console)


def _show_details(plan: AnswerPlan, console: Console) -> None:
    topology, answers = plan.topology, plan.answers
    table = Table(title=_title(plan), box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("what", style="bold")
    table.add_column("estimate")
    table.add_row(
        "a batch",
        f"{answers.rows} prompts of {answers.prompt} tokens, {answers.new_tokens} new ones each; weights and cache in "
        f"{plan.config.model.compute_dtype}{''.join(f', {name}' for name, asked in _int8(plan).items() if asked)}",
    )
    if answers.drafts:
        table.add_row("drafts", f"{answers.drafts} tokens of each row a step, none of which is counted as right")
    add_memory(table, plan.compiled, topology, plan.fits)
    table.add_row("of it", f"weights {size(plan.bytes.weights)}, in the cache {size(plan.bytes.cache)} of full answers")
    if plan.prefill is not None and plan.token is not None:
        _add_speed(plan, table, plan.prefill, plan.token)
    console.print(table)
    console.print(RULE, style="dim")


def _add_speed(plan: AnswerPlan, table: Table, prefill: StepTime, token: StepTime) -> None:
    assert plan.compiled.program is not None
    assert plan.compiled.loop is not None
    _add_part(table, f"prefill, {plan.pack:,} tokens", plan.compiled.program, plan.prefill_flops, prefill)
    _add_part(table, "decode step", plan.compiled.loop, plan.token_flops, token)
    table.add_row(
        "memory bound of a step",
        f"{size(plan.bytes.read)} read, {1e3 * token.memory:.2f} ms at "
        f"{plan.topology.chip.memory_bandwidth / 1e9:,.0f} GB/s a chip; no step is faster, unless all stays on it",
    )
    table.add_section()
    table.add_row("time of a batch", "{:.2f} to {:.2f} s".format(*plan.seconds))
    table.add_row("new tokens/s/chip", "{:,.0f} to {:,.0f}".format(*plan.tokens_per_second))
    add_rent(table, f"{plan.posts:,} posts", f"{plan.batches:,} batches", plan.rent)


def _add_part(table: Table, name: str, program: Program, flops: float, time: StepTime) -> None:
    table.add_section()
    table.add_row(
        Text(name, style="italic"),
        f"{1e3 * time.lower:.2f} to {1e3 * time.upper:.2f} ms: compiled {1e3 * time.compiled:.2f}, kernels "
        f"{1e3 * time.kernels:.2f}, memory {1e3 * time.memory:.2f} "
        f"({1e3 * time.copied:.2f} beside), links {1e3 * time.links:.2f}, latency "
        f"{1e3 * time.latency:.2f}",
    )
    table.add_row(
        "matrix products",
        f"{program.matmul_flops / 1e12:.3f} TFLOP run outside of kernels; the model needs {flops / 1e12:.3f} with "
        "attention",
    )
    add_program(table, program, least_bytes=0)
