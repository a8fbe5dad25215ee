"""Fine-tuning step of an encoder against Hugging Face transformers on torch, BERT-base shape, fp32, on CPU.

    python tests/benchmarks/encoder_step.py            (needs the extra `parity`)

Both do forward, backward and an AdamW update of a classifier on the same texts with two threads, dropout 0.1 except on
attention weights. Two cases: texts of one length, which need no padding on either side, and texts whose lengths vary as
posts do: torch pads its batch to the longest, ours packs them. The two take turns, so that a machine that drifts hits
both; the figure is the median over the pairs of texts/s ours / theirs. Compile time is reported apart.
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
from transformers import BertConfig as TorchConfig  # noqa: E402
from transformers import BertForSequenceClassification  # noqa: E402

from mentallama_jax.config import parse_config  # noqa: E402
from mentallama_jax.host_memory import keep_freed_memory  # noqa: E402
from mentallama_jax.models.bert import BertConfig  # noqa: E402
from mentallama_jax.scorers.packed_texts import packed_batches  # noqa: E402
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES  # noqa: E402
from mentallama_jax.training.objectives.classification import Classification  # noqa: E402
from mentallama_jax.training.step import init_state, make_train_step  # noqa: E402

CLASSES = 9
SHAPE = BertConfig(
    vocab_size=30522,
    hidden_size=768,
    intermediate_size=3072,
    num_layers=12,
    num_heads=12,
    max_positions=512,
    position_offset=0,
    type_vocab_size=2,
    layer_norm_eps=1e-12,
    activation="gelu",
    pooler=True,
    num_labels=CLASSES,
    dropout=0.1,
    classifier_dropout=0.1,
)
ROOM = 256


def texts(count: int, mean: int, varied: bool) -> list[list[int]]:
    """Random ids."""
    source = np.random.default_rng(0)
    spread = source.lognormal(np.log(mean) - 0.2, 0.6, count) if varied else np.full(count, mean)
    return [source.integers(1000, SHAPE.vocab_size, int(np.clip(size, 12, ROOM))).tolist() for size in spread]


def torch_step(items: list[list[int]], labels: np.ndarray):
    torch.set_num_threads(THREADS)
    config = TorchConfig(num_labels=CLASSES, attention_probs_dropout_prob=0.0, attn_implementation="sdpa")
    model = BertForSequenceClassification(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0, fused=True)
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(item) for item in items], batch_first=True)
    mask, truth = (tokens != 0).long(), torch.tensor(labels)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = model(input_ids=tokens, attention_mask=mask, labels=truth).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def jax_step(items: list[list[int]], labels: np.ndarray):
    packed = [[item] for item in items]
    rows = len(next(iter(packed_batches(packed, ROOM, len(items)))).rows)
    (batch,) = packed_batches(packed, ROOM, rows)
    (side,) = batch.sides
    classes = np.full(side.tokens_RT.shape, -1, np.int32)
    for number, row in enumerate(batch.rows):
        starts = np.flatnonzero((side.positions_RT[number] == 0) & (side.segments_RT[number] > 0))
        classes[number, starts] = labels[list(row)]
    config = parse_config(
        {
            "model": {"source": "bench", "compute_dtype": "float32", "remat": "none"},
            "data": {"train": ["sample"], "datasets": ["SAD"], "max_length": ROOM},
            "objective": {"kind": "classification"},
            "training": {"run_dir": "-", "steps": 1000, "micro_batch_rows": rows},
        },
        "benchmark",
    )
    objective = Classification(SHAPE, config, (1.0,) * CLASSES)
    state = init_state(objective, config, 1000)
    names = {"tokens": side.tokens_RT, "positions": side.positions_RT, "segment_ids": side.segments_RT}
    arrays = {name: value[None] for name, value in (names | {"labels": classes}).items()}
    on_device = jax.tree.map(jnp.asarray, arrays | {MICRO_BATCHES: np.int32(1)})
    compiled = make_train_step(objective, config, 1000)

    def step() -> float:
        nonlocal state
        state, metrics = compiled(state, on_device)
        return float(metrics["loss"])

    return step, rows


def timed(step) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--texts", type=int, default=8)
    parser.add_argument("--length", type=int, default=128, help="mean tokens of a text (128)")
    options = parser.parse_args()
    keep_freed_memory()
    labels = np.random.default_rng(1).integers(0, CLASSES, options.texts)
    for varied in (False, True):
        items = texts(options.texts, options.length, varied)
        theirs, (ours, rows) = torch_step(items, labels), jax_step(items, labels)
        longest, total = max(map(len, items)), sum(map(len, items))
        print(
            f"{'varied' if varied else 'equal'} lengths: {total} tokens; "
            f"torch {len(items)} x {longest}, ours {rows} x {ROOM}"
        )
        print(f"first step (with compilation): ours {timed(ours):.1f} s, torch {timed(theirs):.1f} s")
        timed(ours), timed(theirs)
        ratios = []
        for pair in range(options.pairs):
            first, second = (ours, theirs) if pair % 2 else (theirs, ours)
            times = {first: timed(first), second: timed(second)}
            ratios.append(times[theirs] / times[ours])
            print(f"pair {pair + 1}: {times[ours]:.2f} and {times[theirs]:.2f} s a step, ratio {ratios[-1]:.3f}")
        print(
            f"ratio ours/torch: median {statistics.median(ratios):.3f} (min {min(ratios):.3f}, max {max(ratios):.3f})"
        )
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
