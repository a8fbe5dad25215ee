"""What a frozen base of few bits costs: the error of its weights, and the loss of gold answers before anything learns.

    python tests/benchmarks/quantised_base.py MODEL --data data/imhi:test --datasets DR dreaddit SAD --rows 16

MODEL is a tuned model as `mentallama generate` takes it. The error is the root of the mean square of what quantising
changes, over that of the weights; the loss is in nats a token of the answers.
"""

import argparse
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from mentallama_jax.config import AdapterSection
from mentallama_jax.imhi.prompts import encode_example
from mentallama_jax.jobs.answer import questions_in
from mentallama_jax.jobs.open_model import open_model
from mentallama_jax.models.adapters import adapted_config, adapted_params, merged_params
from mentallama_jax.models.module import bind
from mentallama_jax.training.loss import cross_entropy_sum, next_token_targets


def rows_of(tokenizer, records, style, length) -> dict[str, jax.Array]:
    """One example a row."""
    shape = (len(records), length)
    tokens, segments, mask = (np.zeros(shape, np.int32) for _ in range(3))
    for row, record in enumerate(records):
        example = encode_example(record, style, tokenizer, length)
        tokens[row, : len(example.tokens)] = example.tokens
        segments[row, : len(example.tokens)] = 1
        for start, stop in example.targets:
            mask[row, start:stop] = 1
    places = np.broadcast_to(np.arange(length, dtype=np.int32), shape)
    arrays = {"tokens": tokens, "segment_ids": segments, "positions": places, "loss_mask": mask}
    return {name: jnp.asarray(values) for name, values in arrays.items()}


def loss_of(model, params, batch) -> jax.Array:
    module = bind(model, params)
    hidden = module.hidden(
        *(batch[name] for name in ("tokens", "positions", "segment_ids")),
        dtype=jnp.float32,
        remat="none",
        offload=False,
    )
    targets, mask = next_token_targets(batch)
    return jnp.stack([cross_entropy_sum(hidden, module.head_DV(), targets, mask), jnp.sum(mask)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model")
    add("--data", required=True)
    add("--datasets", nargs="+", default=["all"])
    add("--rows", type=int, default=16, help="of each data set")
    add("--style", default="chatml")
    add("--max-length", type=int, default=384)
    options = parser.parse_args()
    opened = open_model(options.model)
    questions = questions_in([options.data], datasets=options.datasets, max_rows=options.rows, seed=0)
    records = [record for record in questions.records if record.explanation]
    base = opened.load_params(jnp.float32, None)
    exact = traverse_util.flatten_dict(base)
    tokenizer = opened.load_tokenizer()
    for base_dtype in ("float32", "bfloat16", "int8", "int4"):
        model = adapted_config(opened.config, AdapterSection(rank=1, base_dtype=base_dtype))
        params = jax.jit(lambda base, model=model: adapted_params(model, base, jax.random.key(0), jnp.float32))(base)
        if base_dtype in ("int8", "int4"):
            flat = traverse_util.flatten_dict(jax.jit(partial(merged_params, model))(params))
            changes = [
                float(
                    jnp.sqrt(jnp.mean((flat[path].astype(jnp.float32) - exact[path]) ** 2) / jnp.mean(exact[path] ** 2))
                )
                for path, _ in model.adapter.quantised
            ]
            error = f"error of the projections {min(changes):.2%} to {max(changes):.2%}"
        else:
            error = ""
        compute = jax.jit(partial(loss_of, model))
        total, count = np.zeros(2)
        for start in range(0, len(records), 4):
            batch = rows_of(tokenizer, records[start : start + 4], options.style, options.max_length)
            found = np.asarray(compute(params, batch), np.float64)
            total, count = total + found[0], count + found[1]
        print(f"{base_dtype:9} loss {total / count:.4f} over {int(count):,} tokens of {len(records)} answers  {error}")


if __name__ == "__main__":
    main()
