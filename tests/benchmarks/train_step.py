"""Training step against Hugging Face transformers on torch, same shape, weights' dtype and tokens, on CPU.

    python tests/benchmarks/train_step.py            (needs the extra `parity`)

Both do forward, backward and an AdamW update of the SmolLM2-135M shape on 2 x 512 tokens in fp32 with two
threads, torch with sdpa attention. The two take turns, so that a machine that drifts hits both; the figure
is the median over the pairs of tokens/s ours / theirs. Compile time is reported apart. The allocator settings
of `keep_freed_memory` hold for both: they are one process.
"""

import argparse
import os
import statistics
import time

THREADS = 2
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from transformers import LlamaConfig as TorchConfig  # noqa: E402
from transformers import LlamaForCausalLM  # noqa: E402

from mentallama_jax.config import parse_config  # noqa: E402
from mentallama_jax.host_memory import keep_freed_memory  # noqa: E402
from mentallama_jax.models.presets import PRESETS  # noqa: E402
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES, full_rows  # noqa: E402
from mentallama_jax.training.objectives.supervised import Supervised  # noqa: E402
from mentallama_jax.training.step import init_state, make_train_step  # noqa: E402

SHAPE = PRESETS["smollm2-135m"]


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
    model = LlamaForCausalLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0, fused=True)
    tokens = torch.randint(0, SHAPE.vocab_size, (rows, length))

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def jax_step(rows: int, length: int):
    config = parse_config(
        {
            "model": {"source": "smollm2-135m", "compute_dtype": "float32", "remat": "none"},
            "data": {"train": ["sample"]},
            "training": {"run_dir": "-", "steps": 1000, "micro_batch_rows": rows},
        },
        "benchmark",
    )
    state = init_state(Supervised(SHAPE, config), config, 1000)
    arrays = {name: value[None] for name, value in full_rows(rows, length, SHAPE.vocab_size).items()}
    batch = arrays | {MICRO_BATCHES: np.int32(1)}
    batch = jax.tree.map(jnp.asarray, batch)
    compiled = make_train_step(Supervised(SHAPE, config), config, 1000)

    def step() -> float:
        nonlocal state
        state, metrics = compiled(state, batch)
        return float(metrics["loss"])

    return step


def timed(step) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--length", type=int, default=512)
    options = parser.parse_args()
    keep_freed_memory()
    tokens = options.rows * options.length
    theirs, ours = torch_step(options.rows, options.length), jax_step(options.rows, options.length)
    print(f"first step (with compilation): ours {timed(ours):.1f} s, torch {timed(theirs):.1f} s")
    timed(ours), timed(theirs)
    ratios = []
    for pair in range(options.pairs):
        first, second = (ours, theirs) if pair % 2 else (theirs, ours)
        times = {first: timed(first), second: timed(second)}
        speeds = {step: tokens / times[step] for step in times}
        ratios.append(speeds[ours] / speeds[theirs])
        print(f"pair {pair + 1}: {speeds[ours]:.1f} and {speeds[theirs]:.1f} tokens/s, ratio {ratios[-1]:.3f}")
    print(f"ratio ours/torch: median {statistics.median(ratios):.3f} (min {min(ratios):.3f}, max {max(ratios):.3f})")


if __name__ == "__main__":
    main()
