"""Peak memory of an export, from a folder and from a run's checkpoint: it must not grow with the model.

    python tests/benchmarks/export_memory.py                # 1.3 GB of random weights in fp32
    python tests/benchmarks/export_memory.py --layers 60    # three times as deep, the same largest tensor

The bound is three times the largest tensor and 1 GB for Python, jax and transformers.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from mentallama_jax.models.presets import PRESETS

SAMPLE_TOKENIZER = Path(__file__).resolve().parents[2] / "mentallama_jax" / "imhi" / "sample" / "tokenizer"


def make(folder: Path, layers: int) -> None:
    """Write a random model as a folder, `source`, and as a run with one checkpoint, `run`."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from mentallama_jax.config import parse_config
    from mentallama_jax.formats.hf_folder import save_hf
    from mentallama_jax.formats.model_card import ModelCard
    from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer
    from mentallama_jax.models.llama import abstract_params
    from mentallama_jax.training.run.checkpoints import Checkpoints
    from mentallama_jax.training.run.run_directory import RunDirectory

    sizes = {"hidden_size": 1024, "intermediate_size": 2816, "num_heads": 16, "num_kv_heads": 16, "head_dim": 64}
    shape = replace(PRESETS["llama2-7b"], num_layers=layers, **sizes)
    source = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: jnp.asarray(source.standard_normal(x.shape, dtype=np.float32) * 0.02), abstract_params(shape)
    )
    tokenizer = load_tokenizer(SAMPLE_TOKENIZER)
    save_hf(folder / "source", shape, params, tokenizer, card=ModelCard("random", "none", base_is_hub_id=False))
    values = {
        "model": {"source": "toy", "weights": "random"},
        "data": {"train": ["sample"]},
        "training": {"run_dir": str(folder / "run"), "steps": 1},
    }
    config = parse_config(values, "benchmark")
    run = RunDirectory(folder / "run")
    with run.locked():
        run.prepare(config, shape, {"fingerprints": {}}, tokenizer, say=print)
    with Checkpoints(run.checkpoints, config) as checkpoints:
        checkpoints.save(1, {"params": params, "opt_state": {"count": jnp.zeros(1)}, "step": jnp.int32(1)})


def export(folder: Path, source: str) -> None:
    """Export one of the two, and print the peak of this process."""
    from mentallama_jax.cli.main import main

    if main(["export", str(folder / source), "--out", str(folder / f"{source}-export")]):
        raise SystemExit(f"the export of {source} failed")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    bound = 3 * 32000 * 1024 * 4 + 1e9
    print(f"{source}: peak {peak / 1e6:,.0f} MB, bound {bound / 1e6:,.0f} MB: {'kept' if peak <= bound else 'BROKEN'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=20)
    parser.add_argument("--step", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        name, place = options.step
        make(Path(place), options.layers) if name == "make" else export(Path(place), name)
    else:
        with tempfile.TemporaryDirectory() as place:
            for name in ("make", "source", "run"):  # each in a process of its own, as peaks never fall
                command = [sys.executable, __file__, "--layers", str(options.layers), "--step", name, place]
                subprocess.run(command, check=True)
