"""Fine-tuning step of an encoder against Hugging Face transformers on torch, same shape and texts, on CPU.

    python tests/benchmarks/encoder_step.py            (needs the extra `parity`)

Both do forward, backward and an AdamW update of a classifier of the BERT-base shape in fp32 with two threads and
dropout of 0.1 on hidden states, torch with sdpa attention. `--texts equal` fills whole rows on both sides; `--texts
mixed` draws lengths: torch pads them to the longest, as its trainer does, and here they share rows. The two take turns,
so that a machine that drifts hits both; the figure is the median over the pairs of texts/s ours / theirs.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

THREADS = 2
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from transformers import BertConfig as TorchConfig  # noqa: E402
from transformers import BertForSequenceClassification  # noqa: E402

from mentallama_jax.config import parse_config  # noqa: E402
from mentallama_jax.host_memory import keep_freed_memory  # noqa: E402
from mentallama_jax.models.presets import ENCODER_PRESETS  # noqa: E402
from mentallama_jax.training.data.batch_spec import CLASSIFIED_TEXTS, MICRO_BATCHES  # noqa: E402
from mentallama_jax.training.data.packing import pack_rows  # noqa: E402
from mentallama_jax.training.objectives.classification import Classification  # noqa: E402
from mentallama_jax.training.step import init_state, make_train_step  # noqa: E402

SHAPE = replace(ENCODER_PRESETS["bert-base"], num_labels=2)
Step = Callable[[], float]


def drawn(kind: str, texts: int, length: int) -> list[np.ndarray]:
    source = np.random.default_rng(0)
    lengths = [length] * texts if kind == "equal" else np.clip(source.gamma(3, length / 8, texts), 8, length)
    return [source.integers(1000, SHAPE.vocab_size, int(n)) for n in lengths]


def torch_step(texts: list[np.ndarray], labels: np.ndarray) -> Step:
    torch.set_num_threads(THREADS)
    config = TorchConfig(attn_implementation="sdpa", attention_probs_dropout_prob=0.0, num_labels=SHAPE.num_labels)
    model = BertForSequenceClassification(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0, fused=True)
    width = max(map(len, texts))
    ids = torch.tensor(np.stack([np.pad(text, (0, width - len(text))) for text in texts]))
    mask = torch.tensor(np.stack([np.arange(width) < len(text) for text in texts])).long()

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = model(input_ids=ids, attention_mask=mask, labels=torch.tensor(labels)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def jax_step(texts: list[np.ndarray], labels: np.ndarray, length: int) -> Step:
    rows = pack_rows(np.array([len(text) for text in texts]), length)
    config = parse_config(
        {
            "model": {"source": "bert", "compute_dtype": "float32", "remat": "none"},
            "data": {"train": ["sample"], "datasets": ["DR"], "max_length": length},
            "objective": {"kind": "classification"},
            "training": {"run_dir": "-", "steps": 1000, "micro_batch_rows": len(rows)},
        },
        "benchmark",
    )
    arrays = CLASSIFIED_TEXTS.empty(len(rows), length)
    for row, members in enumerate(rows):
        start = 0
        for segment, text in enumerate(members, start=1):
            place = slice(start, start + len(texts[text]))
            arrays["tokens"][row, place] = texts[text]
            arrays["segment_ids"][row, place] = segment
            arrays["positions"][row, place] = np.arange(len(texts[text]))
            arrays["labels"][row, start] = labels[text]
            start = place.stop
    batch = jax.tree.map(jnp.asarray, {name: value[None] for name, value in arrays.items()})
    batch[MICRO_BATCHES] = jnp.int32(1)
    objective = Classification(SHAPE, config, (1.0,) * SHAPE.num_labels)
    state = init_state(objective, config, 1000)
    compiled = make_train_step(objective, config, 1000)

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
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--count", type=int, default=8, help="texts of a step")
    parser.add_argument("--length", type=int, default=256, help="tokens of the longest text, and of a row")
    parser.add_argument("--texts", choices=("equal", "mixed"), default="equal")
    options = parser.parse_args()
    keep_freed_memory()
    texts = drawn(options.texts, options.count, options.length)
    labels = np.random.default_rng(1).integers(0, SHAPE.num_labels, options.count)
    theirs, ours = torch_step(texts, labels), jax_step(texts, labels, options.length)
    print(f"first step (with compilation): ours {timed(ours):.1f} s, torch {timed(theirs):.1f} s")
    timed(ours), timed(theirs)
    ratios = []
    for pair in range(options.pairs):
        first, second = (ours, theirs) if pair % 2 else (theirs, ours)
        times = {first: timed(first), second: timed(second)}
        speeds = {step: options.count / times[step] for step in times}
        ratios.append(speeds[ours] / speeds[theirs])
        print(f"pair {pair + 1}: {speeds[ours]:.2f} and {speeds[theirs]:.2f} texts/s, ratio {ratios[-1]:.3f}")
    print(f"ratio ours/torch: median {statistics.median(ratios):.3f} (min {min(ratios):.3f}, max {max(ratios):.3f})")


if __name__ == "__main__":
    main()
