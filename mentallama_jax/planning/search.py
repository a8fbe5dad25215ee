"""Which mesh, micro-batch, recompute and topology: those that cannot fit are left out before anything is compiled."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import AbstractMesh

from mentallama_jax.config import RunConfig
from mentallama_jax.errors import UserError
from mentallama_jax.host_memory import available_memory
from mentallama_jax.models.registry import TrainedConfig
from mentallama_jax.models.remat import POLICIES
from mentallama_jax.parallel.mesh import make_mesh, mesh_sizes
from mentallama_jax.planning.compilation import TOTAL_STEPS, lower_on
from mentallama_jax.planning.plan import Plan, analytic_memory, make_plan, with_overrides
from mentallama_jax.planning.prices import chip_price
from mentallama_jax.planning.recipe import Recipe
from mentallama_jax.planning.topologies import Topology
from mentallama_jax.training.mesh_placement import abstract_state, check_batch
from mentallama_jax.training.objectives.of_config import objective_of
from mentallama_jax.training.preflight import estimate_memory

ROWS_A_DEVICE = (1, 2, 4, 8)
TENSOR = (1, 2, 4, 8)
_MISJUDGED = 1.7
"""The factor by which the activations of an estimate may be wrong, see `training.preflight`."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One mesh and micro-batch; `score` is the computed positions of an update, to rank them before compiling."""

    config: RunConfig
    topology: Topology
    score: float


def candidates(
    model: TrainedConfig, config: RunConfig, topologies: Sequence[Topology], recipe: Recipe
) -> Iterator[Candidate]:
    """Every mesh and micro-batch whose certain memory fits and whose dimensions divide, by topology."""
    for topology in topologies:
        for tensor in TENSOR:
            shards, rest = divmod(topology.devices, tensor)
            if rest or (topology.slices > 1 and shards % topology.slices):
                continue
            for rows_a_device in ROWS_A_DEVICE:
                rows = shards * rows_a_device
                if rows > shards and rows >= 2 * recipe.rows:  # a smaller micro-batch computes less padding
                    continue
                changed = _changed(config, topology, tensor, rows)
                if changed is not None and _may_fit(model, changed, topology, recipe):
                    yield Candidate(changed, topology, rows * recipe.micro_batches(rows) * recipe.row_length)


def _changed(config: RunConfig, topology: Topology, tensor: int, rows: int) -> RunConfig | None:
    mesh = {"data": topology.slices, "fsdp": None, "tensor": tensor, "sequence": 1}
    try:
        return with_overrides(config, mesh=mesh, training={"micro_batch_rows": rows}, model={"remat": "full"})
    except ValueError:  # such as more rows than the batch has
        return None


def _may_fit(model: TrainedConfig, config: RunConfig, topology: Topology, recipe: Recipe) -> bool:
    try:
        sizes = mesh_sizes(config.mesh, topology.devices, topology.slices)
        check_batch(model, config, AbstractMesh(tuple(sizes.values()), tuple(sizes)))  # type: ignore[arg-type]
        need, _ = analytic_memory(model, config, topology, recipe.micro_batches(config.training.micro_batch_rows))
    except UserError:
        return False
    return need.params + need.moments + need.activations / _MISJUDGED <= topology.device_memory


def search(
    model: TrainedConfig,
    config: RunConfig,
    topologies: Sequence[Topology],
    recipe: Recipe,
    *,
    limit: int,
    price: float | None,
    cache_dir: str | None,
    kernel_efficiency: float,
    progress: Callable[[int, int, str], None],
) -> list[Plan]:
    """Compile up to `limit` meshes and micro-batches a topology, those that compute least padding first.

    Each is compiled with full recompute and, where that leaves memory, with the least recompute that fits. Ctrl-C ends
    the search with what it has found.

    Args:
        model: shape of the model.
        config: the run; mesh, micro-batch and remat are chosen here.
        topologies: where it may run.
        recipe: what an update is.
        limit: choices of mesh and micro-batch that are compiled, a topology.
        price: dollars a chip-hour, or None for the table.
        cache_dir: where compiled figures are kept.
        kernel_efficiency: see `cost.step_time`.
        progress: told (done, of how many, what is compiled now).
    """
    chosen: list[Candidate] = []
    for topology in topologies:
        here = list(candidates(model, config, [topology], recipe))
        here.sort(key=lambda one: (one.score, one.config.mesh.tensor, -one.config.training.micro_batch_rows))
        chosen += here[:limit]
    plans: list[Plan] = []
    try:
        for number, one in enumerate(chosen):
            rows = one.config.training.micro_batch_rows
            progress(number, len(chosen), f"{one.topology.name} tensor {one.config.mesh.tensor} rows {rows}")
            paid = chip_price(one.topology, price)
            plans += plans_by_remat(model, one.config, one.topology, recipe, paid, cache_dir, kernel_efficiency)
    except KeyboardInterrupt:
        if not plans:
            raise
        progress(number, len(chosen), "stopped; what follows is of those before")
    else:
        progress(len(chosen), len(chosen), "done")
    return plans


def plans_by_remat(
    model: TrainedConfig, config: RunConfig, topology: Topology, recipe: Recipe, *given: Any
) -> list[Plan]:
    """Plans of one mesh and micro-batch from full recompute to, at the end, the least that fits.

    Args:
        model: shape of the model.
        config: the run, but for `model.remat`.
        topology: where it runs.
        recipe: what an update is.
        given: price, cache directory and kernel efficiency, as `make_plan` takes them.
    """
    plans: list[Plan] = []

    def memory(changed: RunConfig) -> int | None:
        plans.append(make_plan(model, changed, topology, recipe, *given))
        return plans[-1].compiled.memory if plans[-1].fits else None

    def estimated(changed: RunConfig) -> int:
        return analytic_memory(model, changed, topology, 1)[0].activations

    least_recompute(config, topology.device_memory, memory, estimated)
    return [plan for plan in plans if plan.fits] or plans


def least_recompute(
    config: RunConfig,
    limit: float,
    memory: Callable[[RunConfig], int | None],
    estimated: Callable[[RunConfig], int],
) -> str:
    """The policy that keeps most and still fits; `full`, which is tried first, where none does.

    What a policy keeps beyond `full` is known well before it is compiled, so that few are.

    Args:
        config: the run, but for `model.remat`.
        limit: bytes of a device.
        memory: bytes of the compiled step on a device, None where it does not fit.
        estimated: bytes of its activations before it is compiled.
    """

    def under(policy: str) -> RunConfig:
        return with_overrides(config, model={"remat": policy})

    *others, full = POLICIES
    used = memory(under(full))
    if used is None:
        return full
    floor = estimated(under(full))
    for policy in others:
        kept = (estimated(under(policy)) - floor) * (0.5 if policy == "none" else 0.9)
        if used + kept <= limit and memory(under(policy)) is not None:
            return policy
    return full


def choose_remat(model: TrainedConfig, config: RunConfig, devices: Sequence[jax.Device]) -> str:
    """The policy with the least recompute whose step fits into the memory of these devices.

    On TPUs and GPUs the compiler says whether it fits; on CPU the estimate of `training.preflight` against what the
    host has free.
    """
    mesh = make_mesh(config.mesh, devices)
    state = abstract_state(objective_of(model, config), config, TOTAL_STEPS, mesh)
    rows = 2 * config.training.micro_batch_rows  # an update of several micro-batches

    def estimated(changed: RunConfig) -> int:
        return estimate_memory(model, changed, rows, config.data.max_length, state).activations

    if devices[0].platform == "cpu":
        sharing = sum(device.process_index == jax.process_index() for device in devices)  # the memory of this host
        limit = available_memory() // sharing
        need = estimate_memory(
            model, with_overrides(config, model={"remat": "full"}), rows, config.data.max_length, state
        )
        certain = need.certain + need.checkpoint // sharing

        def memory(changed: RunConfig) -> int | None:
            used = certain + estimated(changed)
            return used if used <= limit else None

        return least_recompute(config, limit, memory, estimated)
    limit = (devices[0].memory_stats() or {}).get("bytes_limit", math.inf)
    return least_recompute(config, limit, lambda changed: _compiled_memory(model, changed, mesh, limit), estimated)


def _compiled_memory(model: TrainedConfig, config: RunConfig, mesh: Any, limit: float) -> int | None:
    try:
        memory = lower_on(model, config, mesh, 2).compile().memory_analysis()
    except Exception as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            return None
        raise
    used = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
    return used if used <= limit else None
