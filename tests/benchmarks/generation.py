"""Generation against Hugging Face transformers on torch, same weights and prompts, on CPU.

    python tests/benchmarks/generation.py            (needs the extra `parity`)

Both decode greedily with the SmolLM2-135M shape in fp32 on two cores: 8 prompts of 128 tokens, 128 new tokens, no
end token. Decoding alone is the time of 128 new tokens less that of one, so prefill is taken out of both. The two
take turns, so that a machine that drifts hits both; figures are medians over the pairs. Compile time is reported apart.
"""

import argparse
import os
import statistics
import tempfile
import time

THREADS = 2
os.environ["OMP_NUM_THREADS"] = str(THREADS)
if hasattr(os, "sched_setaffinity"):  # XLA sizes its pool by the cores it may use
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:THREADS]))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from transformers import LlamaConfig as TorchConfig  # noqa: E402
from transformers import LlamaForCausalLM  # noqa: E402

from mentallama_jax.formats.load import load_model  # noqa: E402
from mentallama_jax.generation.engine import Engine, Settings  # noqa: E402
from mentallama_jax.models.module import count_params  # noqa: E402
from mentallama_jax.models.presets import PRESETS  # noqa: E402

SHAPE = PRESETS["smollm2-135m"]


def torch_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        TorchConfig(
            vocab_size=SHAPE.vocab_size,
            hidden_size=SHAPE.hidden_size,
            intermediate_size=SHAPE.intermediate_size,
            num_hidden_layers=SHAPE.num_layers,
            num_attention_heads=SHAPE.num_heads,
            num_key_value_heads=SHAPE.num_kv_heads,
            rms_norm_eps=SHAPE.rms_norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": SHAPE.rope_theta},
            tie_word_embeddings=SHAPE.tie_embeddings,
            max_position_embeddings=SHAPE.max_positions,
            attn_implementation="sdpa",
        )
    ).eval()


def torch_answers(model: LlamaForCausalLM, prompts: np.ndarray):
    torch.set_num_threads(THREADS)
    tokens = torch.from_numpy(prompts.astype(np.int64))
    mask = torch.ones_like(tokens)

    def answer(new: int) -> np.ndarray:
        with torch.inference_mode():
            out = model.generate(
                tokens, attention_mask=mask, do_sample=False, max_new_tokens=new, min_new_tokens=new, pad_token_id=0
            )
        return out[:, tokens.shape[1] :].numpy()

    return answer


def jax_answers(model: LlamaForCausalLM, prompts: np.ndarray):
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        config, params = load_model(folder, dtype=jnp.float32)
    engine = Engine(config, jnp.float32)
    engine.update(params, donate=True)
    names = [str(row) for row in range(len(prompts))]

    def answer(new: int) -> np.ndarray:
        found = {}
        for batch in engine.answers(prompts.tolist(), names, Settings(new, batch_size=len(prompts)), ()):
            found |= batch
        return np.asarray([found[row].tokens for row in range(len(prompts))])

    return answer


def timed(answer, new: int) -> float:
    start = time.perf_counter()
    answer(new)
    return time.perf_counter() - start


def report(name: str, ratios: list[float]) -> None:
    print(f"{name}, ours/torch: median {statistics.median(ratios):.2f} (min {min(ratios):.2f}, max {max(ratios):.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--new", type=int, default=128)
    options = parser.parse_args()
    shape = (options.rows, options.prompt)
    prompts = np.random.default_rng(0).integers(10, SHAPE.vocab_size, shape, dtype=np.int32)
    model = torch_model()
    theirs, ours = torch_answers(model, prompts), jax_answers(model, prompts)
    cold = [timed(answer, options.new) for answer in (ours, theirs)]
    print(f"first call (with compilation): ours {cold[0]:.1f} s, torch {cold[1]:.1f} s")
    timed(ours, 1), timed(theirs, 1)
    equal = int((ours(options.new) == theirs(options.new)).sum())
    print(f"greedy tokens equal: {equal} of {options.rows * options.new}")
    print(f"jax {jax.__version__}, torch {torch.__version__}")
    decode, whole = [], []
    steps, size = options.new - 1, 4 * count_params(SHAPE) / 1e9
    for pair in range(options.pairs):
        order = (ours, theirs) if pair % 2 else (theirs, ours)
        first = {answer: timed(answer, 1) for answer in order}
        full = {answer: timed(answer, options.new) for answer in order}
        step = {answer: (full[answer] - first[answer]) / steps for answer in order}
        decode.append(step[theirs] / step[ours])
        whole.append(full[theirs] / full[ours])
        print(
            f"pair {pair + 1}: decode {options.rows / step[ours]:.0f} and {options.rows / step[theirs]:.0f} tokens/s, "
            f"ratio {decode[-1]:.2f}; end to end {full[ours]:.2f} and {full[theirs]:.2f} s, ratio {whole[-1]:.2f}; "
            f"ours {1e3 * step[ours]:.1f} ms a step, {size / step[ours]:.0f} GB/s of weights; "
            f"prefill and first token {first[ours]:.2f} and {first[theirs]:.2f} s"
        )
    report("decode", decode)
    report("end to end", whole)


if __name__ == "__main__":
    main()
