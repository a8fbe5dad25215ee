"""The planner's estimates beside the model FLOPs utilisation that MaxText publishes for its own runs on TPUs.

    python tests/benchmarks/published_runs.py                (needs the extra `tpu`; some minutes a run)
    python tests/benchmarks/published_runs.py --run 16b-v5e-256

An orientation, not a calibration: theirs is another program, by a compiler of another year with flags of its own.
Published: the tables and scripts under MaxText/configs/v5e and v5p of github.com/AI-Hypercomputer/maxtext (2024), and
training/trillium/Llama2-70B-MaxText of github.com/AI-Hypercomputer/tpu-recipes (2025). The models that MaxText names by
their size are of LLaMA's architecture (gated SiLU, RMS norm, rotary positions, an untied head, a head for each key), so
the shapes here are theirs: 32,000 words, heads of 128, and rows a chip as in the scripts. Both sides count causal
attention at half of T x T; theirs counts the embedding as a product, below 1 % of these models. The 43.8 % printed for
the 70B counts attention in full: here it is its 905 tokens/s a chip by our rule, 42.2 %.

What differs: `auto` is the least recompute of ours that fits, where theirs keeps the products of a layer, of 128b on
the host; there their mesh is fsdp 16 x tensor 16, on which our layers' inputs would not fit, and ours is fsdp 256. Of
the 70B both keep queries, keys and values on the host. Rows have no padding on either side.

Each run is a folder with config.json and run.yaml in --out, planned by `mentallama plan`.
"""

import argparse
import contextlib
import io
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from mentallama_jax.cli.main import main as mentallama
from mentallama_jax.formats.architectures.llama_config import write_config
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.presets import PRESETS


def scaled(layers: int, hidden: int, intermediate: int, heads: int) -> LlamaConfig:
    """A model of MaxText's GLOBAL_PARAMETER_SCALE; heads are 128 wide."""
    return LlamaConfig(32000, hidden, intermediate, layers, heads, heads, 128, 1e-6, 1e4, None, False, 4096)


B16, B32 = scaled(32, 4096, 28672, 64), scaled(32, 8192, 28672, 64)
B64, B128 = scaled(64, 8192, 28672, 64), scaled(64, 8192, 57344, 128)
QKV = ["query", "key", "value"]


@dataclass(frozen=True)
class Run:
    """A published run, its rows on a chip, and its MFU in percent."""

    name: str
    shape: LlamaConfig
    topology: str
    chips: int
    rows: int
    length: int
    remat: str | list[str]
    published: float
    tensor: int = 1
    offload: bool = False


RUNS = (
    Run("16b-v5e-256", B16, "v5e-256", 256, 6, 2048, "full", 61.1),
    Run("32b-v5e-256", B32, "v5e-256", 256, 4, 2048, "full", 66.9),
    Run("64b-v5e-256", B64, "v5e-256", 256, 2, 2048, "full", 59.9),
    Run("128b-v5e-256", B128, "v5e-256", 256, 1, 2048, "auto", 56.1),
    Run("32b-v5p-128", B32, "v5p-128", 64, 7, 2048, "auto", 71.5, tensor=4),
    Run("64b-v5p-128", B64, "v5p-128", 64, 3, 2048, "auto", 70.3, tensor=4),
    Run("llama2-70b-v6e-256", PRESETS["llama2-70b"], "v6e-256", 256, 3, 4096, QKV, 42.2, offload=True),
)


def write(run: Run, folder: Path) -> Path:
    """The run's shape and configuration; the path of the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(write_config(run.shape, "float32")), "utf-8")
    rows = run.rows * run.chips
    training = {"run_dir": "-", "steps": 10, "batch_unit": "rows", "batch_size": rows, "micro_batch_rows": rows}
    values = {
        "model": {"source": str(folder), "weights": "random", "remat": run.remat, "offload": run.offload},
        "data": {"train": ["nowhere"], "max_length": run.length},
        "training": training,
        "mesh": {"tensor": run.tensor},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(values), "utf-8")
    return folder / "run.yaml"


def row(run: Run, config: Path) -> str:
    """The line of the table: the ends of our range, and each over the published figure."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        mentallama(["plan", str(config), "--topology", run.topology, "--json"])
    (plan,) = json.loads(printed.getvalue())
    start = f"| {run.name} | {plan['remat']} | {run.published:.1f} |"
    if not plan["fits"]:
        return f"{start} does not fit: {plan['problem'][:200]} | |"
    low, high = (100 * share for share in plan["mfu"])
    return f"{start} {low:.1f} to {high:.1f} | {low / run.published:.2f} to {high / run.published:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", choices=[run.name for run in RUNS], nargs="+", help="these alone")
    parser.add_argument("--out", type=Path, help="where shapes and configs go (default: a temporary folder)")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        out = options.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        print("| run | remat | published MFU, % | estimated MFU, % | estimated / published |\n|---|---|---|---|---|")
        for run in RUNS:
            if run.name in (options.run or [run.name]):
                print(row(run, write(run, out / run.name)), flush=True)


if __name__ == "__main__":
    main()
