"""The training step and the generation of this machine, timed: synthetic full rows, random weights, no files.

Both measure the jitted functions that `train` and `generate` run, so that what a plan estimates can be checked.
"""

import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mentallama_jax.config import RunConfig
from mentallama_jax.errors import UserError
from mentallama_jax.generation.decoder import unroll
from mentallama_jax.generation.decoding import Decoding, Model
from mentallama_jax.generation.placement import abstract_model, param_shardings, whole_batch
from mentallama_jax.generation.requests import Request, Settings
from mentallama_jax.host_memory import available_memory, keep_freed_memory
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import init_params
from mentallama_jax.models.registry import TrainedConfig
from mentallama_jax.parallel.mesh import make_mesh, use_mesh
from mentallama_jax.planning.compilation import TOTAL_STEPS
from mentallama_jax.planning.cost import decode_flops_per_token, model_flops_per_token, prefill_flops_per_token
from mentallama_jax.planning.recipe import target_length
from mentallama_jax.planning.topologies import CHIPS
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES, full_rows
from mentallama_jax.training.mesh_placement import abstract_state, check_batch, place_batch
from mentallama_jax.training.objectives.of_config import objective_of
from mentallama_jax.training.preflight import check_memory, estimate_memory, size, tree_bytes
from mentallama_jax.training.step import init_state, make_train_step

_FAMILIES: Mapping[str, str] = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
    "NVIDIA A100-SXM4-80GB": "a100",
    "NVIDIA A100 80GB PCIe": "a100",
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H200": "h200",
}
"""Keys of `topologies.CHIPS` by what jax calls a device. On hardware jax sees one device a chip, v4 and v5p too."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Repetitions of one thing.

    Attributes:
        what: "step", "prefill" or "decode".
        mesh: sizes of the axes.
        device_kind: as jax calls it.
        rows: of one repetition, over all devices.
        tokens: of one repetition, over all devices.
        flops_per_token: of the model, see `cost.model_flops_per_token`.
        compile_seconds: of lowering and compiling; of generation, of the run that compiles.
        warm_seconds: of the first run.
        seconds: of each repetition after it.
        peak_memory: bytes of the fullest local device since the process began; None where the device does not say.
    """

    what: str
    mesh: dict[str, int]
    device_kind: str
    rows: int
    tokens: int
    flops_per_token: float
    compile_seconds: float
    warm_seconds: float
    seconds: tuple[float, ...]
    peak_memory: int | None

    @property
    def devices(self) -> int:
        """The devices of the mesh; each is a chip."""
        return int(np.prod(list(self.mesh.values())))

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Seconds, of the middle half of the repetitions."""
        lower, upper = np.quantile(self.seconds, (0.25, 0.75))
        return float(lower), float(upper)

    @property
    def tokens_per_second(self) -> float:
        """Over all devices, at the median."""
        return self.tokens / self.median

    @property
    def utilisation(self) -> float | None:
        """Model FLOPs over the bf16 peak of the chips; None where the peak is not known, as of a CPU."""
        peak = peak_of(self.device_kind)
        return None if peak is None else self.tokens_per_second * self.flops_per_token / (peak * self.devices)


def peak_of(device_kind: str) -> float | None:
    """Dense bf16 operations a second of what jax calls a device; None where they are not known, as of a CPU."""
    family = _FAMILIES.get(device_kind)
    return None if family is None else CHIPS[family].peak_flops


def measure_step(
    model: TrainedConfig, config: RunConfig, micro_batches: int, repeats: int, say: Callable[[str], None]
) -> Measurement:
    """Time the update of `train` on the config's mesh, every row full.

    Args:
        model: its shape; weights are random.
        config: of the run; its data are not read.
        micro_batches: of `training.micro_batch_rows` rows, an update.
        repeats: timed updates, after one that warms up.
        say: told warnings.

    Raises:
        UserError: the mesh does not suit the devices or the model, or the state does not fit.
    """
    mesh = make_mesh(config.mesh)
    check_batch(model, config, mesh)
    rows, length = config.training.micro_batch_rows * micro_batches, config.data.max_length
    objective = objective_of(model, config)
    with use_mesh(mesh):
        shapes = abstract_state(objective, config, TOTAL_STEPS, mesh)
        check_memory(estimate_memory(model, config, rows, length, shapes), config, say)
        _settle(mesh)
        shardings = jax.tree.map(lambda x: x.sharding, shapes)
        arrays = full_rows(rows // jax.process_count(), length, model.vocab_size, objective.batch_spec)
        arrays |= {MICRO_BATCHES: np.asarray(micro_batches, np.int32)}
        batch = place_batch(arrays, config.training.micro_batch_rows, mesh, objective.batch_spec)
        step: Any = make_train_step(objective, config, TOTAL_STEPS, shardings)
        compiled, compiling = _compiled(step, shapes, batch)
        state = jax.jit(partial(init_state, objective, config, TOTAL_STEPS), out_shardings=shardings)()

        def update() -> None:
            nonlocal state
            state, metrics = compiled(state, batch)
            jax.block_until_ready((state, metrics))

        warm, *seconds = [_timed(update) for _ in range(repeats + 1)]
    flops = model_flops_per_token(model, length, target_length(config), frozen=config.adapter is not None)
    return _measurement("step", mesh, rows, rows * length, flops, compiling, warm, seconds)


def measure_generation(
    model: LlamaConfig, config: RunConfig, rows: int, prompt: int, new_tokens: int, repeats: int
) -> tuple[Measurement, Measurement]:
    """Time what `generate` runs, greedily, on the config's mesh: no row ends before the last token.

    Prefill is the time until all prompts have been read and stand in their slots; decoding is what follows, repetition
    by repetition. The first run compiles both.

    Args:
        model: its shape; weights are random.
        config: of a run, for the mesh and the dtype of the computation.
        rows: at least so many, filled up to divide along the mesh.
        prompt: tokens of each prompt.
        new_tokens: of each answer, at least 2.
        repeats: timed ones, after one that warms up.

    Returns:
        Prefill and decode. The tokens of prefill are those of the prompts.

    Raises:
        UserError: too few positions; the mesh does not suit; or the weights do not fit.
    """
    if prompt + new_tokens > model.max_positions:
        raise UserError(f"{prompt} + {new_tokens} tokens: the model has {model.max_positions} positions")
    mesh, dtype = make_mesh(config.mesh), jnp.dtype(config.model.compute_dtype)
    shardings = param_shardings(model, mesh)
    _check_weights(tree_bytes(abstract_model(model, mesh, dtype)) // (mesh.shape["fsdp"] * mesh.shape["tensor"]), mesh)
    _settle(mesh)
    with use_mesh(mesh):
        rows = whole_batch(rows)
        tokens_BP = full_rows(rows, prompt, model.vocab_size)["tokens"]
        first = jax.jit(partial(init_params, model, dtype=dtype), out_shardings=shardings)
        weights = unroll(model, first(jax.random.key(0)), dtype, donate=True)
        requests = [Request(tokens, str(row), Settings(new_tokens)) for row, tokens in enumerate(tokens_BP.tolist())]

        def answer() -> tuple[float, float]:
            decoding = Decoding(Model(model, weights, dtype), rows)
            for request in requests:
                decoding.submit(request)
            return _timed(decoding.fill), _timed(partial(deque, decoding.run(), maxlen=0))

        taken = [answer() for _ in range(repeats + 2)]
    compiling, warm, *timed = taken
    flops = prefill_flops_per_token(model, prompt)
    reading = [short for short, _ in timed]
    prefill = _measurement("prefill", mesh, rows, rows * prompt, flops, compiling[0], warm[0], reading)
    flops = decode_flops_per_token(model, prompt, new_tokens)
    writing = [rest for _, rest in timed]
    decode = _measurement("decode", mesh, rows, rows * new_tokens, flops, compiling[1], warm[1], writing)
    return prefill, decode


def _settle(mesh: Mesh) -> None:
    if mesh.devices.flat[0].platform == "cpu":
        keep_freed_memory()  # as training does


def _check_weights(need: int, mesh: Mesh) -> None:
    device = mesh.devices.flat[0]
    limit = (device.memory_stats() or {}).get("bytes_limit", 0) or available_memory() // jax.local_device_count()
    if need > limit:
        raise UserError(
            f"{device.device_kind} has {size(limit)} of memory and the weights need {size(need)} on each device; take "
            "a smaller model.source, or more devices along mesh.tensor or mesh.fsdp"
        )


def _compiled(jitted: Any, *arguments: Any, **fixed: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    compiled = jitted.lower(*arguments, **fixed).compile()
    return compiled, time.perf_counter() - start


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _measurement(
    what: str, mesh: Mesh, rows: int, tokens: int, flops: float, compiling: float, warm: float, seconds: list[float]
) -> Measurement:
    stats = [device.memory_stats() or {} for device in mesh.local_devices]
    peaks = [one["peak_bytes_in_use"] for one in stats if "peak_bytes_in_use" in one]
    kind = mesh.devices.flat[0].device_kind
    peak = max(peaks) if peaks else None
    return Measurement(what, dict(mesh.shape), kind, rows, tokens, flops, compiling, warm, tuple(seconds), peak)
