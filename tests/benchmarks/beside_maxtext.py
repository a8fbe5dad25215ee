"""Our training step beside MaxText's, both compiled for the same chips by the same TPU compiler, in turns.

    python3.12 -m venv maxtext && maxtext/bin/pip install 'maxtext[tpu]==0.2.5' jax==0.12.0.1 libtpu==0.0.52
    python tests/benchmarks/beside_maxtext.py --maxtext maxtext/bin/python      (extra `tpu`; minutes a round)

Both sides must have the same jax and libtpu; the table says which. The same model, mesh along fsdp alone, rows of 2,048
tokens a chip and dtypes: fp32 weights and moments, bf16 computation. MaxText recomputes everything in the backward
pass; ours is shown with that and with what `model.remat: auto` takes there.

Memory is the compiler's. Products, cycles and kernels are read from the scheduled text, by one reader for both; so are
collectives, by the ring rule, each once ("links") and as often as the text has them ("links as written"), which differ
where a collective is carried on by several fusions. Compile seconds are those of tracing, lowering and compiling, the
median over the rounds of ours over theirs; all other figures are the same in each round.
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

LENGTH = 2048
VERSIONS = ("jax", "libtpu")


@dataclass(frozen=True)
class Recipe:
    """`remat` are the tensors that `auto` keeps; rows are those of a chip."""

    model: str
    topology: str
    chips: int
    rows: int
    remat: str


RECIPES = {
    "7b": Recipe("llama2-7b", "v5e-64", 64, 4, "attention+qkv+middle"),
    "13b": Recipe("llama2-13b", "v5p-64", 32, 8, "products"),
}


def keep(compiled: Any, seconds: float, out: Path) -> None:
    """Leave the text and the figures of a compiled program in a folder."""
    memory = compiled.memory_analysis()
    (out / "program.txt").write_text(compiled.as_text(), "utf-8")
    figures = {
        "seconds": seconds,
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "versions": " ".join(f"{name} {importlib.metadata.version(name)}" for name in VERSIONS),
    }
    (out / "figures.json").write_text(json.dumps(figures), "utf-8")


def compile_ours(recipe: Recipe, remat: str, out: Path) -> None:
    """The step of `mentallama train`, as `mentallama plan` compiles it."""
    from mentallama_jax.config import parse_config
    from mentallama_jax.models.presets import PRESETS
    from mentallama_jax.planning.compilation import Job, lower_job
    from mentallama_jax.planning.topologies import parse_topology

    rows = recipe.rows * recipe.chips
    training = {"run_dir": "-", "steps": 10, "batch_unit": "rows", "batch_size": rows, "micro_batch_rows": rows}
    values = {
        "model": {"source": recipe.model, "weights": "random", "compute_dtype": "bfloat16", "remat": remat},
        "data": {"train": ["nowhere"], "max_length": LENGTH},
        "training": training,
    }
    config = parse_config(values, "benchmark")
    job = Job(PRESETS[recipe.model], config, parse_topology(recipe.topology), 1)
    start = time.perf_counter()
    compiled = lower_job(job)[0][0].compile()
    keep(compiled, time.perf_counter() - start, out)


def compile_maxtext(recipe: Recipe, out: Path) -> None:
    """The step of MaxText's own `train_compile`, timed where that compiles it. Runs in MaxText's environment."""
    from absl import app
    from maxtext.trainers.pre_train import train_compile

    inner = train_compile.jit_and_compile

    def timed(*arguments: Any) -> Any:
        start = time.perf_counter()
        compiled = inner(*arguments)
        keep(compiled, time.perf_counter() - start, out)
        return compiled

    train_compile.jit_and_compile = timed
    values = {
        "run_name": "benchmark",
        "base_output_directory": out,
        "dataset_type": "synthetic",
        "enable_checkpointing": False,
        "model_name": recipe.model,
        "compile_topology": recipe.topology,
        "compile_topology_num_slices": 1,
        "ici_fsdp_parallelism": recipe.chips,
        "per_device_batch_size": recipe.rows,
        "max_target_length": LENGTH,
        "attention": "flash",
        "remat_policy": "full",
        "weight_dtype": "float32",
        "dtype": "bfloat16",
    }
    base = Path(sys.modules["maxtext"].__path__[0]) / "configs" / "base.yml"
    app.run(train_compile.main, argv=["maxtext", str(base), *(f"{key}={value}" for key, value in values.items())])


def compiled_by(python: str, side: str, recipe: str, remat: str, out: Path) -> dict[str, Any]:
    """Compile in a process of its own, and read what came out."""
    from mentallama_jax.planning.compilation import COMPILER_ENVIRONMENT
    from mentallama_jax.planning.cost import link_bytes
    from mentallama_jax.planning.hlo import read_program

    out.mkdir(parents=True, exist_ok=True)
    (out / "figures.json").unlink(missing_ok=True)  # of an earlier run, which a child that fails would leave
    environment = os.environ | COMPILER_ENVIRONMENT | {"DECOUPLE_GCLOUD": "TRUE"}
    command = [python, __file__, "--compile", side, "--recipe", recipe, "--remat", remat, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode or not (out / "figures.json").exists():
        sys.exit(f"{side} did not compile {recipe}:\n{done.stderr[-2000:]}")
    program = read_program((out / "program.txt").read_text("utf-8"), {"fsdp": RECIPES[recipe].chips})
    written = [replace(one, result_bytes=one.written_bytes) for one in program.collectives]
    return json.loads((out / "figures.json").read_text("utf-8")) | {
        "matmul": program.matmul_flops,
        "cycles": program.cycles,
        "links": sum(link_bytes(one) for one in program.collectives),
        "written": sum(link_bytes(one) for one in written),
        "kernels": sum(kernel.times for kernel in program.kernels),
    }


ROWS = (
    ("arguments, GB", "arguments", 1e9),
    ("temporaries, GB", "temporaries", 1e9),
    ("matrix products, TFLOP", "matmul", 1e12),
    ("cycles, 1e9", "cycles", 1e9),
    ("links, GB", "links", 1e9),
    ("links as written, GB", "written", 1e9),
    ("kernel launches", "kernels", 1),
)


def compare(name: str, maxtext: str, rounds: int, out: Path) -> None:
    """Print the table of one recipe."""
    recipe = RECIPES[name]
    policies = ("full", recipe.remat)
    turns = []
    for number in range(rounds):
        sides = [compiled_by(maxtext, "maxtext", name, "full", out / f"{name}-{number}-maxtext")]
        sides += [compiled_by(sys.executable, "ours", name, one, out / f"{name}-{number}-{one}") for one in policies]
        turns.append(sides)
        seconds = ", ".join(f"{side['seconds']:.1f}" for side in sides)
        print(f"{name}, round {number + 1} of {rounds}: {seconds} s", file=sys.stderr, flush=True)
    theirs, *ours = turns[-1]
    versions = sorted({side["versions"] for side in turns[-1]})
    print(f"\n{recipe.model}, {recipe.topology}, {recipe.rows} x {LENGTH} tokens a chip; {' AND '.join(versions)}\n")
    print("| a chip | MaxText, full | " + " | ".join(f"ours, {policy} | ratio" for policy in policies) + " |")
    print("|---" * (2 + 2 * len(policies)) + "|")
    for title, key, unit in ROWS:
        cells = [f"{side[key] / unit:.4g} | {side[key] / theirs[key]:.3f}" for side in ours]
        print(f"| {title} | {theirs[key] / unit:.4g} | {' | '.join(cells)} |")
    seconds_of = [statistics.median(turn[side]["seconds"] for turn in turns) for side in range(len(turns[0]))]
    ratios = [statistics.median(t[side]["seconds"] / t[0]["seconds"] for t in turns) for side in range(len(turns[0]))]
    cells = [f"{median:.1f} | {ratio:.2f}" for median, ratio in zip(seconds_of[1:], ratios[1:], strict=True)]
    print(f"| compile, s, median of {rounds} | {seconds_of[0]:.1f} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maxtext", metavar="PYTHON", help="the interpreter of an environment with MaxText")
    parser.add_argument("--recipe", choices=RECIPES, help="this alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="where programs are kept (default: a temporary folder)")
    parser.add_argument("--compile", choices=("ours", "maxtext"), help=argparse.SUPPRESS)  # what a child process does
    parser.add_argument("--remat", default="full", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.compile == "ours":
        return compile_ours(RECIPES[options.recipe], options.remat, options.out)
    if options.compile == "maxtext":
        return compile_maxtext(RECIPES[options.recipe], options.out)
    if options.maxtext is None:
        parser.error("--maxtext names the Python that MaxText is installed for")
    with tempfile.TemporaryDirectory() as temporary:
        for name in [options.recipe] if options.recipe else list(RECIPES):
            compare(name, options.maxtext, options.rounds, options.out or Path(temporary))
    return None


if __name__ == "__main__":
    main()
