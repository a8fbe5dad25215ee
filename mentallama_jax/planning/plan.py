"""One job on one topology: compiled, timed, priced."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from jax.sharding import AbstractMesh

from mentallama_jax.config import ClassificationSection, RunConfig, SupervisedSection
from mentallama_jax.errors import UserError
from mentallama_jax.models.module import count_params
from mentallama_jax.models.registry import TrainedConfig
from mentallama_jax.parallel.mesh import mesh_sizes
from mentallama_jax.planning.compilation import TOTAL_STEPS, Compiled, Job, compile_job
from mentallama_jax.planning.cost import KERNEL_EFFICIENCY, StepTime, model_flops_per_token, step_time
from mentallama_jax.planning.hlo import Collective, Program
from mentallama_jax.planning.prices import Price, Rent
from mentallama_jax.planning.recipe import PADDED_LENGTH, Recipe, target_length
from mentallama_jax.planning.topologies import Topology
from mentallama_jax.training.mesh_placement import abstract_state, check_batch
from mentallama_jax.training.objectives.of_config import objective_of
from mentallama_jax.training.preflight import MemoryEstimate, estimate_memory, tree_bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a report says of a job.

    Times are those of one update, the rent is that of the recipe, both as (lower, upper).
    """

    model: TrainedConfig
    config: RunConfig
    topology: Topology
    mesh: dict[str, int]
    recipe: Recipe
    micro_batches: int
    compiled: Compiled
    time: StepTime | None
    price: Price

    @property
    def fits(self) -> bool:
        """Whether it fits into the memory of each device."""
        return self.compiled.fits and self.time is not None

    @property
    def model_flops(self) -> float:
        """Operations that the model itself needs for the real tokens of an update, on one device."""
        tokens = self.recipe.tokens / self.topology.devices
        frozen = self.config.adapter is not None
        target = target_length(self.config)
        return tokens * model_flops_per_token(self.model, self.recipe.row_length, target, frozen=frozen)

    @property
    def computed_flops(self) -> float:
        """The same over all positions that are computed, padding too: what MFU is quoted over."""
        rows = self.micro_batches * self.config.training.micro_batch_rows
        return self.model_flops * rows * self.recipe.row_length / self.recipe.tokens

    @property
    def seconds(self) -> tuple[float, float]:
        """Seconds of an update, (lower, upper)."""
        return (self.time.lower, self.time.upper) if self.time else (math.inf, math.inf)

    @property
    def utilisation(self) -> tuple[float, float]:
        """Model FLOPs utilisation over all positions, (at the upper, at the lower time)."""
        peak = self.topology.chip.peak_flops * self.topology.chips / self.topology.devices
        lower, upper = (self.computed_flops / (seconds * peak) for seconds in self.seconds)
        return upper, lower

    @property
    def tokens_per_second(self) -> tuple[float, float]:
        """Real tokens a second and chip, (at the upper, at the lower time)."""
        lower, upper = (self.recipe.tokens / seconds / self.topology.chips for seconds in self.seconds)
        return upper, lower

    @property
    def classifies(self) -> bool:
        """Whether an encoder learns labels."""
        return isinstance(self.config.objective, ClassificationSection)

    @property
    def padded_length(self) -> int:
        """Tokens of a row with one example: as in the paper for LLaMA, else the longest text."""
        is_llama = isinstance(self.config.objective, SupervisedSection)
        return PADDED_LENGTH if is_llama else self.recipe.row_length

    @property
    def padded_over_packed(self) -> float:
        """Positions that the same updates compute with one example a row of `padded_length`, over those here."""
        padded, rows = self.recipe.as_padded(self.padded_length), self.config.training.micro_batch_rows
        positions = padded.micro_batches(rows) * padded.row_length
        return positions / (self.micro_batches * self.recipe.row_length)

    @property
    def rent(self) -> Rent:
        """Time and money of the whole recipe."""
        lower, upper = (seconds * self.recipe.updates for seconds in self.seconds)
        return Rent((lower, upper), self.topology.chips, self.price)


def make_plan(
    model: TrainedConfig,
    config: RunConfig,
    topology: Topology,
    recipe: Recipe,
    price: Price,
    cache_dir: str | None = None,
    kernel_efficiency: float = KERNEL_EFFICIENCY,
) -> Plan:
    """Plan a job: for TPUs by the compiler, for GPUs by formulas alone.

    Raises:
        UserError: the mesh or the rows do not divide, or the TPU compiler is not installed.
    """
    mesh = mesh_sizes(config.mesh, topology.devices, topology.slices)
    check_batch(model, config, AbstractMesh(tuple(mesh.values()), tuple(mesh)))  # type: ignore[arg-type]
    micro_batches = recipe.micro_batches(config.training.micro_batch_rows)
    if topology.is_gpu:
        compiled = estimate(model, config, topology, micro_batches)
    else:
        compiled = compile_job(Job(model, config, topology, micro_batches, cache_dir))
        compiled = _with_network(compiled, model, config, topology, mesh)
    time = step_time(compiled.program, topology, kernel_efficiency) if compiled.program else None
    return Plan(model, config, topology, mesh, recipe, micro_batches, compiled, time, price)


def _with_network(
    compiled: Compiled, model: TrainedConfig, config: RunConfig, topology: Topology, mesh: dict[str, int]
) -> Compiled:
    """Add what crosses between slices, which the compiler's text leaves to the runtime: gradients, once an update."""
    program = compiled.program
    if program is None or topology.slices == 1 or any("data" in one.axes for one in program.collectives):
        return compiled
    _, parameter_bytes = analytic_memory(model, config, topology, 1)
    count = parameter_bytes // (4 if config.model.parameter_dtype == "float32" else 2)
    gradients = 4 * count // (mesh["fsdp"] * mesh["tensor"])
    crossing = Collective("all-reduce", ("data",), topology.slices, 1, gradients, 0, 0)
    return replace(compiled, program=replace(program, collectives=(*program.collectives, crossing)))


def with_whole_rows(config: RunConfig, topology: Topology) -> RunConfig:
    """The config with `training.micro_batch_rows` raised to the next multiple of the devices that want a row each.

    Raises:
        UserError: the mesh does not suit the topology, or the batch has not as many rows.
    """
    sizes = mesh_sizes(config.mesh, topology.devices, topology.slices)
    shards, rows = sizes["data"] * sizes["fsdp"], config.training.micro_batch_rows
    whole = math.ceil(rows / shards) * shards
    if whole == rows:
        return config
    try:
        return with_overrides(config, training={"micro_batch_rows": whole})
    except ValueError:
        raise UserError(
            f"training.batch_size {config.training.batch_size} cannot fill the {whole} rows that {topology.name} works "
            "on at once; take fewer chips, or raise mesh.tensor"
        ) from None


def analytic_memory(
    model: TrainedConfig, config: RunConfig, topology: Topology, micro_batches: int
) -> tuple[MemoryEstimate, int]:
    """Memory of a step by formulas, and the bytes of all parameters.

    Raises:
        UserError: the model does not divide along the mesh.
    """
    sizes = mesh_sizes(config.mesh, topology.devices, topology.slices)
    mesh = AbstractMesh(tuple(sizes.values()), tuple(sizes))
    state = abstract_state(objective_of(model, config), config, TOTAL_STEPS, mesh)  # type: ignore[arg-type]
    rows = micro_batches * config.training.micro_batch_rows
    return estimate_memory(model, config, rows, config.data.max_length, state), tree_bytes(state["params"])


def estimate(model: TrainedConfig, config: RunConfig, topology: Topology, micro_batches: int) -> Compiled:
    """Where there is no compiler: memory, operations and gathered parameters by formulas."""
    need, parameter_bytes = analytic_memory(model, config, topology, micro_batches)
    mesh = mesh_sizes(config.mesh, topology.devices, topology.slices)
    passes = 3 if config.model.remat == "none" else 4  # of the least and the most recompute
    tokens = config.training.micro_batch_rows * config.data.max_length * micro_batches / topology.devices
    frozen, target = config.adapter is not None, target_length(config)
    once = model_flops_per_token(model, config.data.max_length, target, frozen=frozen)
    forward = model_flops_per_token(model, config.data.max_length, target) / 3
    flops = tokens * (once + (passes - 3) * forward)
    count = parameter_bytes // (4 if config.model.parameter_dtype == "float32" else 2) // mesh["tensor"]
    whole = count_params(model) // mesh["tensor"]
    gathers = (passes - 1) * micro_batches
    collectives = []
    if mesh["fsdp"] > 1:
        collectives += [
            Collective("all-gather", ("fsdp",), mesh["fsdp"], gathers, gathers * 2 * whole, 0, 0),
            Collective("reduce-scatter", ("fsdp",), mesh["fsdp"], 1, 4 * count // mesh["fsdp"], 0, 0),
        ]
    if mesh["data"] > 1:
        collectives.append(Collective("all-reduce", ("data",), mesh["data"], 1, 4 * count // mesh["fsdp"], 0, 0))
    program = Program(flops, 0, {}, tuple(collectives), (), {}, ())
    state = need.params + need.moments
    fits = need.total <= topology.device_memory
    return Compiled(fits, state, need.total - state, program=program)


def with_overrides(config: RunConfig, **sections: Mapping[str, object]) -> RunConfig:
    """A config with some keys of some sections changed, checked again."""
    values = config.model_dump()
    for section, keys in sections.items():
        values[section] |= dict(keys)
    return type(config).model_validate(values)
