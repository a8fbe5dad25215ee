"""What reading a shared beginning once is worth: prompts that begin with the same few-shot examples.

    python tests/benchmarks/shared_beginnings.py
    python tests/benchmarks/shared_beginnings.py --examples 8 --example 150 --question 200 --new 64 --prompts 64

Random tokens and weights of the SmolLM2-135M shape in fp32; answers have no end token. The same engine answers the same
prompts with and without sharing, by turns, after a round of each that compiles; the figure is the median ratio of
prompts a second. The answers must be equal.
"""

import argparse
import os
import statistics
import time

THREADS = 2
if hasattr(os, "sched_setaffinity"):  # XLA sizes its pool by the cores it may use
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:THREADS]))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from mentallama_jax.generation import engine as module  # noqa: E402
from mentallama_jax.generation.engine import Engine, Settings  # noqa: E402
from mentallama_jax.models.module import init_params  # noqa: E402
from mentallama_jax.models.presets import PRESETS  # noqa: E402

SHAPE = PRESETS["smollm2-135m"]
SHARED = module.shared_beginnings


def apart(prompts):
    """The order of prompts that share nothing."""
    return [(place, 0) for place in sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=8)
    parser.add_argument("--example", type=int, default=120, help="tokens of an example")
    parser.add_argument("--question", type=int, default=180, help="tokens of a question, half of them more or less")
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    source = np.random.default_rng(0)
    beginning = source.integers(10, SHAPE.vocab_size, options.examples * options.example).tolist()
    lengths = source.integers(options.question // 2, options.question * 3 // 2, options.prompts)
    prompts = [[*beginning, *source.integers(10, SHAPE.vocab_size, length).tolist()] for length in lengths]
    names = [str(place) for place in range(len(prompts))]
    engine = Engine(SHAPE)
    engine.update(jax.jit(lambda key: init_params(SHAPE, key, jnp.float32))(jax.random.key(0)), donate=True)
    settings = Settings(options.new, batch_size=options.batch)

    def answer(shared: bool) -> tuple[float, dict]:
        module.shared_beginnings = SHARED if shared else apart
        start, found = time.perf_counter(), {}
        for batch in engine.answers(prompts, names, settings, ()):
            found |= {place: one.tokens for place, one in batch.items()}
        return time.perf_counter() - start, found

    first, second = answer(True)[1], answer(False)[1]
    print(f"equal answers: {sum(first[place] == second[place] for place in first)} of {len(first)}")
    ratios = []
    for pair in range(options.pairs):
        order = (True, False) if pair % 2 else (False, True)
        taken = {shared: answer(shared)[0] for shared in order}
        ratios.append(taken[False] / taken[True])
        speeds = [len(prompts) / taken[shared] for shared in (True, False)]
        print(f"pair {pair + 1}: {speeds[0]:.2f} prompts/s with sharing, {speeds[1]:.2f} without, {ratios[-1]:.2f} x")
    print(f"prompts/s with sharing against without: median {statistics.median(ratios):.2f} x")


if __name__ == "__main__":
    main()
