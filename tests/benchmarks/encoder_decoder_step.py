"""Fine-tuning step of BART and T5 against Hugging Face transformers on torch, same shape, weights and pairs, on CPU.

    python tests/benchmarks/encoder_decoder_step.py --shape bart-base            (needs the extra `parity`)
    python tests/benchmarks/encoder_decoder_step.py --shape t5-small --optimizer adafactor

Both do forward, backward and an update of random weights in fp32 with two threads and the dropout of the shape's
published config on hidden states, torch with sdpa attention and the loss over all target tokens. Lengths of pairs are
drawn as those of the IMHI benchmark in the completion format are distributed (sources of about 100 tokens with a long
tail, targets of about 90). torch pads a batch to its longest source and target, as its trainer does; here pairs share
rows. `--pairs-of equal` fills whole rows on both sides instead. The two take turns, so that a machine that drifts hits
both; the figure is the median over the pairs of runs of texts/s ours / theirs.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

THREADS = 2
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

from mentallama_jax.config import parse_config  # noqa: E402
from mentallama_jax.formats.load import load_model  # noqa: E402
from mentallama_jax.host_memory import keep_freed_memory  # noqa: E402
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES  # noqa: E402
from mentallama_jax.training.data.batches import TrainingData  # noqa: E402
from mentallama_jax.training.data.packing import PlanSettings  # noqa: E402
from mentallama_jax.training.data.tokens import TokenStore  # noqa: E402
from mentallama_jax.training.objectives.of_config import objective_of  # noqa: E402
from mentallama_jax.training.step import init_state, make_train_step  # noqa: E402

Step = Callable[[], float]
Pairs = list[tuple[np.ndarray, np.ndarray]]


def peer_of(shape: str) -> torch.nn.Module:
    """A random model of the published shape; nothing inside of attention and feed-forward is dropped in BART."""
    torch.manual_seed(0)
    if shape == "bart-base":
        config = transformers.BartConfig(
            d_model=768,
            encoder_layers=6,
            decoder_layers=6,
            encoder_attention_heads=12,
            decoder_attention_heads=12,
            encoder_ffn_dim=3072,
            decoder_ffn_dim=3072,
            attn_implementation="sdpa",
        )
        return transformers.BartForConditionalGeneration(config).train()
    config = transformers.T5Config(vocab_size=32128, decoder_start_token_id=0)
    return transformers.T5ForConditionalGeneration(config).train()


def drawn(kind: str, count: int, length: int) -> Pairs:
    """Random pairs of sources and targets."""
    source = np.random.default_rng(0)
    if kind == "equal":
        lengths = [(length, length)] * count
    else:
        sources = np.clip(np.exp(source.normal(4.25, 0.85, count)), 16, length)
        targets = np.clip(np.exp(source.normal(4.42, 0.35, count)), 16, length)
        lengths = [(int(one), int(other)) for one, other in zip(sources, targets, strict=True)]
    return [tuple(source.integers(10, 30000, size) for size in sizes) for sizes in lengths]


def torch_step(model: torch.nn.Module, pairs: Pairs, optimizer: str) -> Step:
    torch.set_num_threads(THREADS)
    if optimizer == "adafactor":
        kind = {"scale_parameter": False, "relative_step": False, "warmup_init": False}
        update = transformers.Adafactor(model.parameters(), lr=1e-5, **kind)
    else:
        update = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0, fused=True)

    def padded(side: int, pad: int) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence([torch.tensor(pair[side]) for pair in pairs], True, pad)

    mask = (padded(0, -1) >= 0).long()
    ids, labels = padded(0, model.config.pad_token_id), padded(1, -100)

    def step() -> float:
        update.zero_grad(set_to_none=True)
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        if optimizer == "adamw":
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        update.step()
        return loss.item()

    return step


def jax_step(model: torch.nn.Module, pairs: Pairs, length: int, rows: int, optimizer: str) -> Step:
    config = parse_config(
        {
            "model": {"source": "x", "compute_dtype": "float32", "remat": "none"},
            "data": {"train": ["sample"], "style": "completion", "max_length": length},
            "objective": {"kind": "sequence_to_sequence", "target_length": length},
            "optimizer": {"name": optimizer, "clip_norm": 1.0 if optimizer == "adamw" else None},
            "training": {"run_dir": "-", "steps": 1000, "batch_size": len(pairs), "micro_batch_rows": rows},
        },
        "benchmark",
    )
    tokens = np.concatenate([text for pair in pairs for text in pair]).astype(np.int32)
    targets = np.concatenate([np.full(len(text), side == 1) for pair in pairs for side, text in enumerate(pair)])
    offsets = np.concatenate([[0], np.cumsum([sum(map(len, pair)) for pair in pairs])]).astype(np.int64)
    none = np.zeros(len(pairs), np.int32)
    store = TokenStore("", tuple(map(str, range(len(pairs)))), tokens, offsets, targets, none, sides=(length, length))
    plan = TrainingData(store, PlanSettings.of(config), steps=1)
    arrays = plan.batch(0).arrays
    print(f"ours: {plan.rows} rows of {length}, {plan.pad_share:.1%} padding")
    batch = {
        name: jnp.asarray(value.reshape(-1, rows, length)) for name, value in arrays.items() if name != MICRO_BATCHES
    } | {MICRO_BATCHES: jnp.asarray(arrays[MICRO_BATCHES])}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        shape, params = load_model(Path(folder))
    objective = objective_of(shape, config)
    state, compiled = init_state(objective, config, 1000, params), make_train_step(objective, config, 1000)

    def step() -> float:
        nonlocal state
        state, metrics = compiled(state, batch)
        return float(metrics["loss"])

    return step


def timed(step: Step) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=("bart-base", "t5-small"), default="bart-base")
    parser.add_argument("--optimizer", choices=("adamw", "adafactor"), default="adamw")
    parser.add_argument("--pairs-of", choices=("equal", "mixed"), default="mixed", help="lengths")
    parser.add_argument("--runs", type=int, default=7, help="of each, in turns")
    parser.add_argument("--count", type=int, default=16, help="pairs of a step")
    parser.add_argument("--length", type=int, default=256, help="tokens of the longest text, and of a row")
    parser.add_argument("--rows", type=int, default=4, help="rows at once")
    options = parser.parse_args()
    keep_freed_memory()
    pairs = drawn(options.pairs_of, options.count, options.length)
    model = peer_of(options.shape)
    ours = jax_step(model, pairs, options.length, options.rows, options.optimizer)
    theirs = torch_step(model, pairs, options.optimizer)
    print(f"first step (with compilation): ours {timed(ours):.1f} s, torch {timed(theirs):.1f} s")
    timed(ours), timed(theirs)
    ratios = []
    for run in range(options.runs):
        first, second = (ours, theirs) if run % 2 else (theirs, ours)
        times = {first: timed(first), second: timed(second)}
        speeds = {step: options.count / times[step] for step in times}
        ratios.append(speeds[ours] / speeds[theirs])
        print(f"run {run + 1}: {speeds[ours]:.2f} and {speeds[theirs]:.2f} pairs/s, ratio {ratios[-1]:.3f}", flush=True)
    print(f"ratio ours/torch: median {statistics.median(ratios):.3f} (min {min(ratios):.3f}, max {max(ratios):.3f})")


if __name__ == "__main__":
    main()
