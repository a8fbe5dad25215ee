"""The very programs that `train`, `generate` and scorers of pairs run, compiled for chips that are not here.

Each compilation is a process of its own (`python -m mentallama_jax.planning.compilation`, a `Job` as JSON on standard
input, a `Compiled` on standard output): the environment that the TPU compiler wants stays there, its noise is kept
out, and a crash of it is a result like any other.
"""

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mentallama_jax.config import MeshSection, RunConfig, parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.models.bart import BartConfig
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.registry import AnyModelConfig, TrainedConfig, language_model, model_config_from_json
from mentallama_jax.models.t5 import T5Config
from mentallama_jax.planning.figures_cache import FiguresCache
from mentallama_jax.planning.hlo import Program, read_phases, read_program
from mentallama_jax.planning.topologies import Topology

READER = "5"
"""The version of what is read from a text; a part of the cache's key, raised when `hlo` counts differently."""
TOTAL_STEPS = 1000
"""The number of updates of the schedule; no figure depends on it."""
COMPILER_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
"""The environment of a process that compiles for TPUs and has none; others may hold the compiler at the same time."""
_UNITS = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True, slots=True)
class Answers:
    """A batch that `generate` answers: `rows` prompts of `prompt` tokens, up to `new_tokens` tokens each.

    Keys and values, and the weights of projections, may be kept in int8. A step guesses `drafts` tokens of each row.
    """

    rows: int
    prompt: int
    new_tokens: int
    int8_cache: bool = False
    int8_weights: bool = False
    drafts: int = 0


@dataclass(frozen=True, slots=True)
class PairRows:
    """A batch of pairs that a scorer computes: `rows` rows of `room` tokens of sources, and as many of targets."""

    rows: int
    room: int


@dataclass(frozen=True, slots=True)
class Job:
    """One program to compile.

    Attributes:
        model: its shape.
        config: of the run; for answers its mesh and `model.compute_dtype` count; None for pairs, which have no run.
        topology: the chips.
        work: micro-batches of `config.training.micro_batch_rows` rows of an update, or what `generate` answers, or what
            a scorer computes.
        cache_dir: where compiled figures are kept.
    """

    model: AnyModelConfig
    config: RunConfig | None
    topology: Topology
    work: int | Answers | PairRows
    cache_dir: str | None = None

    @property
    def kind(self) -> str:
        """The model type, and what it does."""
        if isinstance(self.work, int):
            return f"{self.model.model_type} {self.run.objective.kind}"
        return f"{self.model.model_type} {type(self.work).__name__}"

    @property
    def run(self) -> RunConfig:
        """The config, of work that belongs to a run."""
        assert self.config is not None
        return self.config


@dataclass(frozen=True, slots=True)
class Compiled:
    """What the compiler says of a job.

    Attributes:
        fits: whether the program fits into the memory of a device.
        arguments: bytes of the state, or of the weights, and the batch on a device.
        temporaries: bytes besides; where it does not fit, what the compiler asked for as far as it says.
        code: bytes.
        largest: (bytes, name) of the largest buffers where it does not fit and the compiler lists them.
        problem: the compiler's own words where there is no program.
        seconds: that lowering and compiling took when it was done.
        cached: whether the figures come from an earlier compilation.
        program: what it does; None where there is none. Of answers: reading one pack of prompts.
        loop: of answers, one run of the loop that writes a token of each row.
        visit: of answers, what comes before and after such a loop, each time that the host is visited.
    """

    fits: bool
    arguments: int = 0
    temporaries: int = 0
    code: int = 0
    largest: tuple[tuple[int, str], ...] = ()
    problem: str = ""
    seconds: tuple[float, float] = (0.0, 0.0)
    cached: bool = False
    program: Program | None = field(default=None)
    loop: Program | None = field(default=None)
    visit: tuple[Program, ...] = ()

    @property
    def memory(self) -> int:
        """Bytes of a device."""
        return self.arguments + self.temporaries + self.code

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Compiled":
        """What `to_json` gave."""
        given = {name: values.get(name) for name in ("program", "loop")}
        programs = {name: Program.from_json(one) if one else None for name, one in given.items()}
        largest = tuple((int(size), str(name)) for size, name in values["largest"])
        visit = tuple(Program.from_json(one) for one in values["visit"])
        return cls(**{**values, **programs, "visit": visit, "largest": largest, "seconds": tuple(values["seconds"])})


def compile_job(job: Job) -> Compiled:
    """Compile in a process of its own, or take the figures from the cache.

    Raises:
        UserError: the TPU compiler is not installed, or `train` or `generate` would refuse the job too.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("the TPU compiler is not installed; it comes with: pip install 'mentallama-jax[tpu]'")
    environment = os.environ | COMPILER_ENVIRONMENT
    config = None if job.config is None else job.config.model_dump(mode="json")
    values = {**asdict(job), "model": job.model.to_json(), "config": config}
    command = [sys.executable, "-m", "mentallama_jax.planning.compilation"]
    done = subprocess.run(
        command, input=json.dumps(values), capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode != 0 or not done.stdout.strip():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Compiled(fits=False, problem=f"the compiler ended with status {done.returncode}: {last[:300]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    if "error" in answer:
        raise UserError(answer["error"])
    return Compiled.from_json(answer)


def lower_job(job: Job) -> tuple[tuple[Any, ...], dict[str, int]]:
    """The lowered programs of a job, of which only answers have several, and the sizes of its mesh axes.

    Raises:
        UserError: dimensions that do not divide along the mesh.
    """
    from jax.experimental import topologies

    from mentallama_jax.parallel.mesh import make_mesh

    asked = {"num_slices": job.topology.slices} if job.topology.slices > 1 else {}
    described = topologies.get_topology_desc(platform="tpu", topology_name=job.topology.compiler_name, **asked)
    if isinstance(job.work, PairRows):
        mesh = make_mesh(MeshSection(data=len(described.devices), fsdp=1), described.devices)
        return (_lower_pairs(job.model, mesh, job.work),), dict(mesh.shape)
    mesh = make_mesh(job.run.mesh, described.devices)
    if isinstance(job.work, Answers):
        return _lower_answers(language_model(job.model, "model"), job.run, mesh, job.work), dict(mesh.shape)
    assert isinstance(job.model, TrainedConfig)
    return (lower_on(job.model, job.run, mesh, job.work),), dict(mesh.shape)


def _lower_answers(model: LlamaConfig, config: RunConfig, mesh: Any, answers: Answers) -> tuple[Any, ...]:
    from mentallama_jax.generation.lowering import lower_answers
    from mentallama_jax.parallel.mesh import use_mesh

    with use_mesh(mesh):
        return lower_answers(model, mesh, **asdict(answers), dtype=config.model.compute_dtype)


def _lower_pairs(model: AnyModelConfig, mesh: Any, pairs: PairRows) -> Any:
    from mentallama_jax.parallel.mesh import use_mesh
    from mentallama_jax.scorers.bart_score import lower_scores

    assert isinstance(model, BartConfig | T5Config)
    with use_mesh(mesh):
        return lower_scores(model, mesh, rows=pairs.rows, room=pairs.room)


def lower_on(model: TrainedConfig, config: RunConfig, mesh: Any, micro_batches: int) -> Any:
    """The lowered training step on a mesh of devices, here or elsewhere.

    Raises:
        UserError: dimensions that do not divide along the mesh.
    """
    import jax

    from mentallama_jax.parallel.mesh import use_mesh
    from mentallama_jax.training.mesh_placement import abstract_batch, abstract_state, check_batch
    from mentallama_jax.training.objectives.of_config import objective_of
    from mentallama_jax.training.step import make_train_step

    check_batch(model, config, mesh)
    objective = objective_of(model, config)
    with use_mesh(mesh):
        state = abstract_state(objective, config, TOTAL_STEPS, mesh)
        batch = abstract_batch(config, mesh, micro_batches, objective.batch_spec)
        shardings = jax.tree.map(lambda x: x.sharding, state)
        step: Any = make_train_step(objective, config, TOTAL_STEPS, shardings)
        return step.lower(state, batch)


def figures_key(job: Job, mesh: Mapping[str, int], text: str) -> str:
    """The name of a job's figures: all that decides them.

    Args:
        job: whose program it is.
        mesh: sizes of the axes.
        text: of the lowered program.
    """
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("jax", "jaxlib", "libtpu")]
    flags = [os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")]
    place = f"{job.topology.compiler_name} x{job.topology.slices} {dict(mesh)} {job.work}"
    return FiguresCache.key(READER, job.kind, place, *versions, *flags, text)


def compile_here(job: Job) -> Compiled:
    """Compile in this process, whose environment must be that of `compile_job`."""
    start = time.perf_counter()
    lowered, mesh = lower_job(job)
    cache = FiguresCache(Path(job.cache_dir) if job.cache_dir else None)
    key = figures_key(job, mesh, "\n".join(one.as_text() for one in lowered))
    lowering = time.perf_counter() - start
    kept = cache.read(key)
    if kept is not None:
        return replace(Compiled.from_json(kept), cached=True)
    try:
        compiled = [one.compile() for one in lowered]
    except Exception as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        result = read_out_of_memory(str(error))
    else:
        result = _read_answers(compiled, mesh) if isinstance(job.work, Answers) else _read_one(compiled[0], job, mesh)
    result = replace(result, seconds=(lowering, time.perf_counter() - start - lowering))
    cache.write(key, result.to_json())
    return result


def _read_one(compiled: Any, job: Job, mesh: Mapping[str, int]) -> Compiled:
    memory = compiled.memory_analysis()
    return Compiled(
        fits=True,
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        program=read_program(compiled.as_text(), mesh, job.work if isinstance(job.work, int) else 1),
    )


def _read_answers(compiled: list[Any], mesh: Mapping[str, int]) -> Compiled:
    """The programs of answers: all are held at once, and each runs beside what the loop keeps on the device."""
    read, decode, append = (one.memory_analysis() for one in compiled)
    before, loop = read_phases(compiled[1].as_text(), mesh)
    return Compiled(
        fits=True,
        arguments=decode.argument_size_in_bytes,
        temporaries=max(
            decode.temp_size_in_bytes + decode.output_size_in_bytes,
            read.temp_size_in_bytes + read.output_size_in_bytes,
            append.temp_size_in_bytes,
        ),
        code=sum(one.generated_code_size_in_bytes for one in (read, decode, append)),
        program=read_program(compiled[0].as_text(), mesh, 1),
        loop=loop,
        visit=(before, read_program(compiled[2].as_text(), mesh, 1)),
    )


def read_out_of_memory(message: str) -> Compiled:
    """The compiler's refusal: how much it wanted and, where it lists them, its largest buffers."""
    wanted = re.search(r"(?:required for HLO temporaries \(|Used |Program hbm requirement )([\d.]+)([KMGT]?)", message)
    buffers = re.findall(
        r"^\s*(?:\d+\.\s+)?Size: ([\d.]+)([KMGT]?)B?\s*\n(?:.*\n)*?\s*(?:Operator: op_name=\"|XLA label: |Shape: )(.+)",
        message,
        re.MULTILINE,
    )
    return Compiled(
        fits=False,
        temporaries=_bytes(wanted[1], wanted[2]) if wanted else 0,
        largest=tuple((_bytes(size, unit), name.split('"')[0].strip()) for size, unit, name in buffers[:10]),
        problem=message.splitlines()[0].strip()[:300],
    )


def _bytes(number: str, unit: str) -> int:
    return int(float(number) * _UNITS[unit])


def _main() -> None:
    values = json.load(sys.stdin)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the compiler prints is not an answer
    topology = Topology(**{**values["topology"], "shape": tuple(values["topology"]["shape"])})
    config, work = values["config"], values["work"]
    if isinstance(work, dict):
        work = Answers(**work) if "new_tokens" in work else PairRows(**work)
    job = Job(
        model_config_from_json(values["model"], "model"),
        None if config is None else parse_config(config, "config"),
        topology,
        work,
        values["cache_dir"],
    )
    try:
        answer = compile_here(job).to_json()
    except UserError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    _main()
