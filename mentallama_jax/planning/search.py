"""Which mesh, micro-batch, recompute and topology: those that cannot fit are left out before anything is compiled."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import AbstractMesh

from mentallama_jax.config import RunConfig
from mentallama_jax.errors import UserError
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.planning.compilation import TOTAL_STEPS
from mentallama_jax.planning.plan import Plan, analytic_memory, make_plan, mesh_sizes, with_overrides
from mentallama_jax.planning.prices import chip_price
from mentallama_jax.planning.recipe import Recipe
from mentallama_jax.planning.topologies import Topology
from mentallama_jax.training.placement import check_batch

ROWS_A_DEVICE = (1, 2, 4, 8)
TENSOR = (1, 2, 4, 8)


def remat_policies() -> tuple[str, ...]:
    """Names of the recompute policies, from least to most."""
    try:
        from mentallama_jax.models import remat  # type: ignore[attr-defined,unused-ignore]
    except ImportError:
        return ("none", "full")
    return tuple(remat.POLICIES)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One choice; `score` is the computed positions a chip of an update, to rank choices before compiling."""

    config: RunConfig
    topology: Topology
    score: float


def candidates(
    model: LlamaConfig, config: RunConfig, topologies: Sequence[Topology], recipe: Recipe
) -> Iterator[Candidate]:
    """Every choice whose certain memory fits and whose dimensions divide, by topology."""
    for topology in topologies:
        for tensor in TENSOR:
            shards, rest = divmod(topology.devices, tensor)
            if rest or (topology.slices > 1 and shards % topology.slices):
                continue
            for rows_a_device in ROWS_A_DEVICE:
                rows = shards * rows_a_device
                if rows > shards and rows >= 2 * recipe.rows:  # a smaller micro-batch computes less padding
                    continue
                for remat in remat_policies():
                    changed = _changed(config, topology, tensor, rows, remat)
                    if changed is not None and _may_fit(model, changed, topology, recipe):
                        micro_batches = recipe.micro_batches(rows)
                        yield Candidate(changed, topology, rows * micro_batches * recipe.row_length)


def _changed(config: RunConfig, topology: Topology, tensor: int, rows: int, remat: str) -> RunConfig | None:
    mesh = {"data": topology.slices, "fsdp": None, "tensor": tensor, "sequence": 1}
    try:
        return with_overrides(config, mesh=mesh, training={"micro_batch_rows": rows}, model={"remat": remat})
    except ValueError:  # such as more rows than the batch has
        return None


def _may_fit(model: LlamaConfig, config: RunConfig, topology: Topology, recipe: Recipe) -> bool:
    try:
        sizes = mesh_sizes(config, topology)
        check_batch(model, config, AbstractMesh(tuple(sizes.values()), tuple(sizes)))  # type: ignore[arg-type]
        need, _ = analytic_memory(model, config, topology, recipe.micro_batches(config.training.micro_batch_rows))
    except UserError:
        return False
    # State is certain; activations are good to a factor of about 1.7, so only half of them count against a candidate.
    return need.params + need.moments + need.activations / 2 <= topology.device_memory


def search(
    model: LlamaConfig,
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
    """Compile up to `limit` candidates a topology, those that compute least padding first.

    Where a choice with some recompute does not fit, those with less are not tried.

    Args:
        model: shape of the model.
        config: the run; mesh, micro-batch and remat are chosen here.
        topologies: where it may run.
        recipe: what an update is.
        limit: compilations a topology.
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
    order = {name: place for place, name in enumerate(remat_policies())}
    chosen.sort(key=lambda one: -order[one.config.model.remat])
    plans: list[Plan] = []
    too_large: set[tuple[Topology, int, int]] = set()
    for number, one in enumerate(chosen):
        key = (one.topology, one.config.mesh.tensor, one.config.training.micro_batch_rows)
        name = f"{one.topology.name} tensor {key[1]} rows {key[2]} {one.config.model.remat}"
        progress(number, len(chosen), name)
        if key in too_large:
            continue
        plan = make_plan(
            model, one.config, one.topology, recipe, chip_price(one.topology, price), cache_dir, kernel_efficiency
        )
        plans.append(plan)
        if not plan.fits:
            too_large.add(key)
    progress(len(chosen), len(chosen), "done")
    return plans


def choose_remat(model: LlamaConfig, config: RunConfig, devices: Sequence[jax.Device]) -> str:
    """The policy with the least recompute whose step fits into the memory of these devices.

    On TPUs and GPUs the compiler says whether it fits; on CPU the estimate of `training.preflight` against what the
    host has free. The last policy is returned untried: where it does not fit, training says so.
    """
    policies = remat_policies()
    fits = _fits_host if devices[0].platform == "cpu" else _compiles
    for policy in policies[:-1]:
        if fits(model, with_overrides(config, model={"remat": policy}), devices):
            return policy
    return policies[-1]


def _state_and_mesh(model: LlamaConfig, config: RunConfig, devices: Sequence[jax.Device]) -> tuple[Any, Any]:
    from mentallama_jax.parallel.mesh import make_mesh
    from mentallama_jax.training.placement import abstract_state

    mesh = make_mesh(config.mesh, devices)
    return abstract_state(model, config, TOTAL_STEPS, mesh), mesh


def _fits_host(model: LlamaConfig, config: RunConfig, devices: Sequence[jax.Device]) -> bool:
    from mentallama_jax.training.preflight import available_memory, estimate_memory

    state, _ = _state_and_mesh(model, config, devices)
    rows = 2 * config.training.micro_batch_rows  # an update of several micro-batches
    need = estimate_memory(model, config, rows, config.data.max_length, state)
    return need.total + need.checkpoint // len(devices) <= available_memory() // len(devices)


def _compiles(model: LlamaConfig, config: RunConfig, devices: Sequence[jax.Device]) -> bool:
    from mentallama_jax.planning.compilation import lower_on

    state, mesh = _state_and_mesh(model, config, devices)
    del state
    try:
        compiled = lower_on(model, config, mesh, 2).compile()
    except Exception as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            return False
        raise
    memory = compiled.memory_analysis()
    limit = (devices[0].memory_stats() or {}).get("bytes_limit", math.inf)
    return bool(memory.argument_size_in_bytes + memory.temp_size_in_bytes <= limit)
