"""How fast and how dear answering is on one topology: the prefill and the decoding step of `generate`, compiled."""

import math
from dataclasses import dataclass
from typing import Any

from jax.sharding import AbstractMesh

from mentallama_jax.config import RunConfig
from mentallama_jax.errors import UserError
from mentallama_jax.generation.placement import param_shardings
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.planning.compilation import Compiled, Job, Stage, compile_job
from mentallama_jax.planning.cost import StepTime, link_bytes, model_flops_per_token, step_time
from mentallama_jax.planning.plan import mesh_sizes
from mentallama_jax.planning.prices import Price
from mentallama_jax.planning.topologies import Topology

RULE = (
    "decoding reads all weights and the whole cache for each token: its time is never below their bytes over the "
    "published speed of the memory; every answer has all its tokens, none ends early"
)


@dataclass(frozen=True, slots=True)
class Batch:
    """What is answered: `rows` prompts of `prompt` tokens at once, `new_tokens` each, until `questions` are done."""

    rows: int
    prompt: int
    new_tokens: int
    questions: int


@dataclass(frozen=True, slots=True)
class AnswerPlan:
    """Everything that a report says of answering; ranges are (lower, upper)."""

    model: LlamaConfig
    config: RunConfig
    topology: Topology
    mesh: dict[str, int]
    batch: Batch
    stages: dict[str, Compiled]
    """`prefill` and `decode`."""
    price: Price

    @property
    def fits(self) -> bool:
        """Whether both stages fit into the memory of each device."""
        return all(stage.fits and stage.program is not None for stage in self.stages.values())

    def stage_seconds(self, name: str) -> tuple[float, float]:
        """Of the prefill, or of one decoding step; the upper without any communication hidden."""
        compiled = self.stages[name]
        if compiled.program is None:
            return math.inf, math.inf
        time = step_time(compiled.program, self.topology)
        reading = self.reading_seconds(name)
        computing = StepTime(max(time.compiled, reading), time.kernels, time.links, time.network)
        return computing.lower, computing.upper

    def reading_seconds(self, name: str) -> float:
        """That the arguments of a stage, weights and for decoding the cache, take from memory."""
        share = self.topology.devices // self.topology.chips
        return self.stages[name].arguments / self.topology.chip.memory_bytes * share

    @property
    def batch_seconds(self) -> tuple[float, float]:
        """Of a whole batch: the prefill gives the first token of each answer."""
        first, each = self.stage_seconds("prefill"), self.stage_seconds("decode")
        steps = self.batch.new_tokens - 1
        return first[0] + steps * each[0], first[1] + steps * each[1]

    @property
    def tokens_per_second(self) -> tuple[float, float]:
        """New tokens a second and chip, (at the upper, at the lower time)."""
        tokens = self.batch.rows * self.batch.new_tokens / self.topology.chips
        lower, upper = self.batch_seconds
        return tokens / upper, tokens / lower

    @property
    def hours(self) -> tuple[float, float]:
        """Of all questions."""
        batches = math.ceil(self.batch.questions / self.batch.rows)
        lower, upper = (batches * seconds / 3600 for seconds in self.batch_seconds)
        return lower, upper

    @property
    def money(self) -> tuple[float, float]:
        """Of all questions, in dollars."""
        lower, upper = (hours * self.topology.chips * self.price.chip_hour for hours in self.hours)
        return lower, upper

    def model_flops(self, name: str) -> float:
        """Operations that the model needs for a stage on one device, forward alone.

        A decoded token sees the prompt and, on average, half of the answer: as in the middle of a row twice as long.
        """
        seen = self.batch.prompt if name == "prefill" else 2 * self.batch.prompt + self.batch.new_tokens
        flops = model_flops_per_token(self.model, seen) / 3
        if name == "decode":
            return flops * self.batch.rows / self.topology.devices
        head = 2 * self.model.hidden_size * self.model.vocab_size  # of a prompt, only the last token's
        return (flops * seen - head * (seen - 1)) * self.batch.rows / self.topology.devices

    @property
    def warnings(self) -> list[str]:
        """What the user should know before paying."""
        said = []
        if not self.fits:
            said = [
                f"does not fit: a smaller --batch-size (now {self.batch.rows}), a larger mesh.tensor, or more chips",
            ]
        if self.mesh["fsdp"] > 1:
            said.append(
                "mesh.fsdp gathers all weights again for each token; mesh.tensor cuts them without that, "
                "mesh.data gives each part of the rows a copy"
            )
        return said


def plan_answers(
    model: LlamaConfig, config: RunConfig, topology: Topology, batch: Batch, price: Price, cache_dir: str | None
) -> AnswerPlan:
    """Compile both stages of `generate` for chips that are not here.

    Raises:
        UserError: a GPU, for which nothing can be compiled; too few positions; the mesh does not suit the topology,
            the model or the rows; or the TPU compiler is not installed.
    """
    if topology.is_gpu:
        raise UserError(f"--topology {topology.name}: answers are planned by compiling, which needs a TPU topology")
    if batch.prompt + batch.new_tokens > model.max_positions:
        raise UserError(f"{batch.prompt} + {batch.new_tokens} tokens: the model has {model.max_positions} positions")
    mesh = mesh_sizes(config, topology)
    param_shardings(model, AbstractMesh(tuple(mesh.values()), tuple(mesh)))  # type: ignore[arg-type]
    if batch.rows % (mesh["data"] * mesh["fsdp"]):
        raise UserError(
            f"--batch-size {batch.rows} does not divide along mesh axes data {mesh['data']} x fsdp {mesh['fsdp']}; "
            "choose a multiple, or mesh.tensor in their place"
        )
    slots = batch.prompt + batch.new_tokens
    prefill = Stage("prefill", batch.rows, batch.prompt, slots)
    decode = Stage("decode", batch.rows, batch.prompt, slots)
    stages: dict[str, Compiled] = {
        stage.name: compile_job(Job(model, config, topology, cache_dir=cache_dir, stage=stage))
        for stage in (prefill, decode)
    }
    return AnswerPlan(model, config, topology, mesh, batch, stages, price)


def answers_as_json(plan: AnswerPlan) -> dict[str, Any]:
    """Every figure of a plan; bytes, seconds, dollars; ranges as [lower, upper]. Unknown ones are null."""
    topology, batch = plan.topology, plan.batch
    values: dict[str, Any] = {
        "topology": topology.name,
        "compiler_topology": topology.compiler_name,
        "slices": topology.slices,
        "chip": topology.chip.kind,
        "chips": topology.chips,
        "devices": topology.devices,
        "mesh": plan.mesh,
        "rows": batch.rows,
        "prompt": batch.prompt,
        "new_tokens": batch.new_tokens,
        "questions": batch.questions,
        "fits": plan.fits,
        "memory_of_a_device": topology.device_memory,
        "stages": {name: _stage_json(plan, name) for name in plan.stages},
        "warnings": plan.warnings,
        "rule": RULE,
    }
    if not plan.fits:
        return values
    return values | {
        "seconds": {"batch": list(plan.batch_seconds)},
        "new_tokens_per_second_per_chip": list(plan.tokens_per_second),
        "hours": list(plan.hours),
        "dollars": list(plan.money),
        "price": {"chip_hour": plan.price.chip_hour, "source": plan.price.source},
    }


def _stage_json(plan: AnswerPlan, name: str) -> dict[str, Any]:
    compiled = plan.stages[name]
    values: dict[str, Any] = {
        "fits": compiled.fits,
        "arguments": compiled.arguments,
        "temporaries": compiled.temporaries,
        "code": compiled.code,
        "largest": [{"bytes": count, "name": what} for count, what in compiled.largest],
        "problem": compiled.problem,
        "compile_seconds": {"lower": compiled.seconds[0], "compile": compiled.seconds[1], "cached": compiled.cached},
        "model_flops": plan.model_flops(name),
    }
    if compiled.program is None:
        return values
    return values | {
        "matmul_flops": compiled.program.matmul_flops,
        "cycles": compiled.program.cycles,
        "cycles_by_category": compiled.program.categories,
        "collectives": [
            {"kind": one.kind, "axes": list(one.axes), "times": one.times, "link_bytes": link_bytes(one)}
            for one in compiled.program.collectives
        ],
        "kernels": [{"name": one.name, "launches": one.times} for one in compiled.program.kernels],
        "reading_seconds": plan.reading_seconds(name),
        "seconds": list(plan.stage_seconds(name)),
    }
