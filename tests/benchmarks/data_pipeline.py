"""The training pipeline with tokens cached, on one core: tokens a second, and the share of real tokens of each layout.

    python tests/benchmarks/data_pipeline.py --data PATHS --tokenizer FOLDER_OR_GGUF

Tokens are real ones, padding left out; a share is real tokens over all that the devices compute, empty rows of a
last micro-batch included. Planning is timed apart; the pipeline's clock runs over reading, laying out, prefetching.
"""

import argparse
import os
import time

import numpy as np

from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.training.data.batches import TrainingData
from mentallama_jax.training.data.packing import PlanSettings
from mentallama_jax.training.data.tokens import TokenStore, tokenize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["sample:train"], help="files or folders of records")
    parser.add_argument("--tokenizer", required=True, help="a folder with tokenizer files, or a .gguf file")
    parser.add_argument("--style", default="plain")
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--micro-batch-rows", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=3, help="averaged over")
    parser.add_argument("--cache-dir", default=".cache/tokens")
    options = parser.parse_args()

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    records = read_records(options.data).records
    inputs = (records, options.style, load_tokenizer(options.tokenizer), options.max_length, options.cache_dir)
    tokenize(*inputs)
    start = time.perf_counter()
    store = tokenize(*inputs)
    print(f"{len(store):,} examples, {len(store.tokens):,} tokens, {len(store.tokens) / len(store):.1f} an example")
    print(f"{store.truncated_examples} posts cut, {store.truncated_tokens} tokens lost")
    print(f"opening the cache: {time.perf_counter() - start:.2f} s")

    for unit, layout in (("examples", "packed"), ("examples", "bucketed"), ("rows", "packed")):
        # Whole micro-batches of about as many tokens as the update by examples has.
        micro_batches = options.batch_size * store.lengths.mean() / options.max_length / options.micro_batch_rows
        rows = max(1, round(micro_batches)) * options.micro_batch_rows
        settings = PlanSettings(
            seed=0,
            batch_size=options.batch_size if unit == "examples" else rows,
            batch_unit=unit,
            max_length=options.max_length,
            layout=layout,
            micro_batch_rows=options.micro_batch_rows,
        )
        measure(store, settings, options.epochs)
    shuffled = np.random.default_rng(0).permutation(store.lengths)
    longest = [group.max() * len(group) for group in np.array_split(shuffled, -(-len(shuffled) // 32))]
    print(f"one a row, {options.max_length} tokens: {store.lengths.mean() / options.max_length:.1%} real tokens")
    print(f"one a row, as long as the longest of 32 in shuffled order: {shuffled.sum() / sum(longest):.1%} real tokens")


def measure(store: TokenStore, settings: PlanSettings, epochs: int) -> None:
    start = time.perf_counter()
    data = TrainingData(store, settings, epochs=epochs)
    planned = time.perf_counter()
    tokens = sum(batch.real_tokens for batch in data.iterate())
    seconds = time.perf_counter() - planned
    print(
        f"{settings.layout}, {settings.batch_size} {settings.batch_unit} an update: "
        f"{1 - data.pad_share:.2%} real tokens, {tokens / seconds:,.0f} tokens/s, "
        f"{data.epoch_ends[0]} updates an epoch of {data.rows} rows at most, "
        f"planned in {(planned - start) / epochs:.2f} s an epoch"
    )


if __name__ == "__main__":
    main()
