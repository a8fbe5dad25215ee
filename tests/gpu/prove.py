"""Prove the GPU paths on a machine that has a GPU and nothing to install from, then measure.

    make test-gpu PYTHON=python3        (or: python3 tests/gpu/prove.py --out FOLDER)

The Python is used as it is, without an environment of its own. The first line says which packages it lacks: carry
their wheels and put them on PYTHONPATH. The stages are kernels of attention, training, the benchmark beside torch,
answers and scores, generation beside torch, and `mentallama bench`. Each is a process with a limit of time; one that
fails does not stop the others. FOLDER gets stages.jsonl, tests.jsonl, gpu_step.jsonl and the output of each stage.
`--dry` tries it on a CPU with small shapes.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NEEDED = {
    "jax": "jax",
    "flax": "flax",
    "optax": "optax",
    "orbax.checkpoint": "orbax-checkpoint",
    "tensorstore": "tensorstore",
    "grain": "grain",
    "cloudpickle": "cloudpickle",
    "transformers": "transformers",
    "fsspec": "fsspec",
    "sentencepiece": "sentencepiece",
    "tokenizers": "tokenizers",
    "jinja2": "jinja2",
    "safetensors": "safetensors",
    "huggingface_hub": "huggingface-hub",
    "scipy": "scipy",
    "pyarrow": "pyarrow",
    "pydantic": "pydantic",
    "pydantic_core": "pydantic-core",
    "yaml": "pyyaml",
    "rich": "rich",
    "matplotlib": "matplotlib",
    "psutil": "psutil",
    "tensorboardX": "tensorboardX",
    "torch": "torch",
    "pytest": "pytest",
    "pytest_timeout": "pytest-timeout",
}
"""What is imported on the way -> the distribution that holds it."""


def absent() -> list[str]:
    def found(name: str) -> bool:
        try:
            return importlib.util.find_spec(name) is not None
        except ModuleNotFoundError:
            return False

    return [distribution for name, distribution in NEEDED.items() if not found(name)]


def versions() -> dict[str, str]:
    known = {}
    for name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "torch", "transformers", "grain", "pydantic"):
        try:
            known[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return known | {"python": sys.version.split()[0]}


def stages(out: Path, dry: bool) -> dict[str, tuple[list[str], float]]:
    """Name -> command, and its limit in seconds. The most valuable come first."""
    python = sys.executable
    tests = [python, "-u", "-m", "pytest", "-v", "-s", "-W", "default", "-p", "no:cacheprovider", "--tb=short"]
    step = [python, "-u", "tests/benchmarks/gpu_step.py", "--out", str(out), *(["--tiny"] if dry else [])]
    bench = [python, "-u", "-m", "mentallama_jax.cli.main", "bench"]
    run = ["configs/toy.yaml", "model.compute_dtype=bfloat16", "data.max_length=1024"]
    if not dry:
        run += ["model.source=smollm2-135m", "training.micro_batch_rows=16"]
    return {
        "attention": ([*tests, "tests/gpu/test_attention_on_gpu.py"], 200),
        "training": ([*tests, "tests/gpu/test_training_on_gpu.py"], 150),
        "beside torch": (
            [*step, "--sides", "ours packed", "torch", "ours unpacked", "attention", "torch attention"],
            150,
        ),
        "answers": ([*tests, "tests/gpu/test_answers_on_gpu.py"], 120),
        "generation beside torch": ([*step, "--sides", "ours generate", "torch generate"], 120),
        "bench step": ([*bench, "step", *run, "--micro-batches", "1", "--json", str(out / "bench-step.json")], 60),
        "bench generate": ([*bench, "generate", *run, "--json", str(out / "bench-generate.json")], 60),
        "torch compiled": ([*step, "--sides", "torch compiled"], 120),
    }


def environment(out: Path, dry: bool) -> dict[str, str]:
    more = {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
        "PYTHONUNBUFFERED": "1",
        # Tests leave room for torch and for the side of the CPU; no flag of theirs reaches the card's compiler.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "TOKENIZERS_PARALLELISM": "false",
        "MENTALLAMA_GPU_RESULTS": str(out / "tests.jsonl"),
        "MENTALLAMA_GPU_CPU_SIDE": str(out / "cpu"),
    }
    return os.environ | more | ({"MENTALLAMA_GPU_TESTS": "dry"} if dry else {})


def run_stage(name: str, command: list[str], limit: float, log: Path, env: dict[str, str]) -> tuple[int | str, float]:
    """Run one stage, its output here and in a file."""
    start = time.monotonic()
    print(f"== {name}", flush=True)
    with log.open("w", encoding="utf-8") as file:
        child = subprocess.Popen(["timeout", str(limit), *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 text=True, errors="replace", cwd=ROOT, env=env)  # fmt: skip
        for line in child.stdout or ():
            file.write(line)
            print(line, end="", flush=True)
        code = child.wait()
    return "out of time" if code == 124 else code, time.monotonic() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/gpu"), help="folder of results (build/gpu)")
    parser.add_argument("--stages", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--budget", type=float, default=470, help="seconds after which no other stage begins (470)")
    parser.add_argument("--dry", action="store_true", help="on a CPU, with small shapes and interpreted kernels")
    options = parser.parse_args()
    missing = absent()
    print(f"packages to be carried: {', '.join(missing) or 'none, all are here'}", flush=True)
    print(json.dumps(versions()), flush=True)
    out = options.out.resolve()
    (out / "logs").mkdir(parents=True, exist_ok=True)
    env = environment(out, options.dry)
    with (out / "logs" / "cpu.log").open("w", encoding="utf-8") as log:
        cpu = start_cpu_side(out / "cpu", env, log)
        try:
            return run_stages(options, out, env)
        finally:
            cpu.terminate()
            cpu.wait()


def start_cpu_side(folder: Path, env: dict[str, str], log: IO[str]) -> subprocess.Popen[str]:
    """What the tests compare with is computed meanwhile."""
    command = [sys.executable, str(HERE / "computations.py"), str(folder)]
    return subprocess.Popen(command, env=env | {"JAX_PLATFORMS": "cpu"}, stdout=log, stderr=log, cwd=ROOT, text=True)


def run_stages(options: argparse.Namespace, out: Path, env: dict[str, str]) -> int:
    begin, results = time.monotonic(), {}
    for name, (command, limit) in stages(out, options.dry).items():
        if options.stages and name not in options.stages:
            continue
        left = options.budget - (time.monotonic() - begin)
        if left < 20:
            results[name] = ("left out", 0.0)
        else:
            log = out / "logs" / f"{name.replace(' ', '-')}.log"
            results[name] = run_stage(name, command, min(limit, left), log, env)
        line = {"stage": name, "exit": results[name][0], "seconds": round(results[name][1], 1)}
        with (out / "stages.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    print("\n".join(f"{name}: {code} after {seconds:.0f} s" for name, (code, seconds) in results.items()), flush=True)
    return int(any(code != 0 for code, _ in results.values()))


if __name__ == "__main__":
    sys.exit(main())
