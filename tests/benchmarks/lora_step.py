"""Training step of an adapter against PEFT on transformers and torch, same shape, rank and tokens, on CPU.

    python tests/benchmarks/lora_step.py            (needs the extra `parity`, and: pip install 'peft==0.21.*')

Both do forward, backward and an AdamW update of LoRA of rank 16 in every projection, beside the SmolLM2-135M shape in
fp32, on 2 x 512 tokens with two threads, torch with sdpa attention. The two take turns, so that a machine that drifts
hits both; the figure is the median over the pairs of tokens/s ours / theirs. Compile time is reported apart, as is the
size of a checkpoint (the adapter and its moments) and of the adapter alone. The step of the whole model is timed too.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

THREADS = 2
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import LlamaConfig as TorchConfig  # noqa: E402
from transformers import LlamaForCausalLM  # noqa: E402

from mentallama_jax.config import parse_config  # noqa: E402
from mentallama_jax.host_memory import keep_freed_memory  # noqa: E402
from mentallama_jax.models.presets import PRESETS  # noqa: E402
from mentallama_jax.storage import file_sizes  # noqa: E402
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES, full_rows  # noqa: E402
from mentallama_jax.training.objectives.of_config import objective_of  # noqa: E402
from mentallama_jax.training.preflight import tree_bytes  # noqa: E402
from mentallama_jax.training.run.checkpoints import Checkpoints  # noqa: E402
from mentallama_jax.training.step import init_state, make_train_step  # noqa: E402

SHAPE = PRESETS["smollm2-135m"]
RANK = 16


def torch_step(rows: int, length: int):
    torch.set_num_threads(THREADS)
    config = TorchConfig(
        vocab_size=SHAPE.vocab_size,
        hidden_size=SHAPE.hidden_size,
        intermediate_size=SHAPE.intermediate_size,
        num_hidden_layers=SHAPE.num_layers,
        num_attention_heads=SHAPE.num_heads,
        num_key_value_heads=SHAPE.num_kv_heads,
        rope_theta=SHAPE.rope_theta,
        tie_word_embeddings=SHAPE.tie_embeddings,
        attn_implementation="sdpa",
    )
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(LlamaForCausalLM(config), lora).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0, fused=True)
    tokens = torch.randint(0, SHAPE.vocab_size, (rows, length))

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        return loss.item()

    return step, sum(parameter.numel() for parameter in trained)


def jax_step(rows: int, length: int, adapter: dict | None):
    values = {
        "model": {"source": "smollm2-135m", "compute_dtype": "float32", "remat": "none"},
        "data": {"train": ["sample"]},
        "optimizer": {"learning_rate": 1e-4},
        "training": {"run_dir": "-", "steps": 1000, "micro_batch_rows": rows},
    }
    config = parse_config(values | ({"adapter": adapter} if adapter else {}), "benchmark")
    objective = objective_of(SHAPE, config)
    state = init_state(objective, config, 1000)
    arrays = {name: value[None] for name, value in full_rows(rows, length, SHAPE.vocab_size).items()}
    batch = arrays | {MICRO_BATCHES: np.int32(1)}
    batch = jax.tree.map(jnp.asarray, batch)
    compiled = make_train_step(objective, config, 1000)

    def step() -> float:
        nonlocal state
        state, metrics = compiled(state, batch)
        return float(metrics["loss"])

    def saved(folder: Path) -> str:
        with Checkpoints(folder, config) as checkpoints:
            checkpoints.save(1, state)
        on_disk = sum(file_sizes(folder).values())
        return f"adapter {tree_bytes(state['params']) / 1e6:.1f} MB, with its moments {on_disk / 1e6:.1f} MB on disk"

    return step, saved, sum(leaf.size for leaf in jax.tree.leaves(state["params"]))


def timed(step) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--whole", action="store_true", help="time the step of the whole model as well")
    options = parser.parse_args()
    keep_freed_memory()
    tokens = options.rows * options.length
    adapter = {"rank": RANK, "alpha": 2.0 * RANK, "base_dtype": "float32"}
    ours, saved, count = jax_step(options.rows, options.length, adapter)
    theirs, their_count = torch_step(options.rows, options.length)
    print(f"trained: {count:,} numbers ours, {their_count:,} theirs")
    print(f"first step (with compilation): ours {timed(ours):.1f} s, torch {timed(theirs):.1f} s")
    timed(ours), timed(theirs)
    ratios = []
    for pair in range(options.pairs):
        first, second = (ours, theirs) if pair % 2 else (theirs, ours)
        times = {first: timed(first), second: timed(second)}
        speeds = {step: tokens / times[step] for step in times}
        ratios.append(speeds[ours] / speeds[theirs])
        print(f"pair {pair + 1}: {speeds[ours]:.1f} and {speeds[theirs]:.1f} tokens/s, ratio {ratios[-1]:.3f}")
    print(f"ratio ours/peft: median {statistics.median(ratios):.3f} (min {min(ratios):.3f}, max {max(ratios):.3f})")
    with tempfile.TemporaryDirectory() as folder:
        print(saved(Path(folder) / "checkpoints"))
    if options.whole:
        whole, *_ = jax_step(options.rows, options.length, None)
        timed(whole)
        pairs = [(timed(ours), timed(whole)) for _ in range(options.pairs)]
        print(f"step of the whole model / of the adapter: {statistics.median(b / a for a, b in pairs):.2f} x the time")


if __name__ == "__main__":
    main()
