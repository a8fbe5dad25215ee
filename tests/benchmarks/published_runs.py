"""The planner held against runs that others have published: MaxText's on a TPU v5e-256, full remat, 2,048 tokens.

    python tests/benchmarks/published_runs.py

Wants the TPU compiler (`pip install '.[tpu]'`), no chip; about a minute a row. The shapes are LLaMA's with the widths,
heads, layers, tied embedding and rows a chip of MaxText's `configs/v5e/{16,32,64}b.sh`; the programs are ours, so that
agreement says only that the estimate of a step is of the right size. MaxText counted attention over all of T x T when
it published these, so the estimate is counted likewise here; `mentallama plan` counts half.
"""

import argparse
import contextlib
import io
import json
import tempfile
from pathlib import Path

from mentallama_jax.cli.main import main as mentallama
from mentallama_jax.formats.load import load_model_config
from mentallama_jax.planning.cost import model_flops_per_token

LENGTH = 2048
CHIPS = 256
RUNS = {  # hidden size, layers, rows a chip, published MFU in per cent; all have 64 heads of 128 and 28,672 inside
    "16B": (4096, 32, 6, 61.1),
    "32B": (8192, 32, 4, 66.9),
    "64B": (8192, 64, 2, 59.9),
}
SHAPE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "intermediate_size": 28672,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
    "head_dim": 128,
    "vocab_size": 32000,
    "tie_word_embeddings": True,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": LENGTH,
    "hidden_act": "silu",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(RUNS), metavar="NAME", help=f"of {', '.join(RUNS)}")
    parser.add_argument("--cache-dir", default=".cache/plan", help="where compiled figures are kept")
    options = parser.parse_args()
    print("model  published MFU  estimated MFU     s/update        memory a chip")
    for name in options.names:
        hidden, layers, rows, published = RUNS[name]
        with tempfile.TemporaryDirectory() as folder:
            shape = SHAPE | {"hidden_size": hidden, "num_hidden_layers": layers}
            (Path(folder) / "config.json").write_text(json.dumps(shape), "utf-8")
            model = load_model_config(folder)
            planned = plan(folder, rows * CHIPS, options.cache_dir)
        counted = model_flops_per_token(model, 2 * LENGTH) / model_flops_per_token(model, LENGTH)
        lower, upper = (100 * counted * share for share in planned["mfu"])
        memory = sum(planned["memory"][part] for part in ("arguments", "temporaries", "code"))
        seconds = "{:.2f} to {:.2f}".format(*planned["seconds"]["update"])
        print(f"{name:5}  {published:10.1f} %  {lower:.1f} to {upper:.1f} %   {seconds:15} {memory / 1e9:.1f} GB")


def plan(source: str, rows: int, cache_dir: str) -> dict:
    config = Path(__file__).resolve().parents[2] / "configs" / "llama2-7b.yaml"
    changes = [f"model.source={source}", "model.weights=random", "model.remat=full", "training.batch_unit=rows"]
    changes += [f"training.micro_batch_rows={rows}", f"training.batch_size={rows}", f"data.max_length={LENGTH}"]
    command = ["plan", str(config), *changes, "--topology", f"v5e-{CHIPS}", "--cache-dir", cache_dir, "--json"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        status = mentallama(command)
    if status:
        raise SystemExit(f"{source}: the plan ended with status {status}")
    return json.loads(printed.getvalue())[0]


if __name__ == "__main__":
    main()
