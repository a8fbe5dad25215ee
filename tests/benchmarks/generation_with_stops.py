"""Answers of a tuned model to real questions, each as long as the model makes it: four ways to generate them.

    python tests/benchmarks/generation_with_stops.py MODEL DATA --style chatml --rows 400
    python tests/benchmarks/generation_with_stops.py MODEL DATA --style chatml --static ../earlier --torch

MODEL is what `mentallama generate` takes, DATA a source of IMHI such as data/imhi:test. Greedy decoding in fp32 on two
cores, 16 rows at once. `--undrafted` adds the same without drafts. `--static` names a checkout of this project whose
batches wait for their longest answer (before slots were refilled); `--torch` adds transformers' `generate` on torch,
prompts sorted by length, padded on the left (needs the extra `parity`, and MODEL a Hugging Face folder). Each way is a
process of its own that answers all rows once to compile, and then again for its figure; torch compiles nothing and
answers once. No post and no answer is printed.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

THREADS = 2
ROOT = Path(__file__).resolve().parents[2]
WAYS = {
    "ours": "slots that are refilled, drafts",
    "undrafted": "the same without drafts",
    "static": "static batches",
    "torch": "transformers",
}


def questions(options: argparse.Namespace):
    from mentallama_jax.jobs.answer import questions_in

    names = options.datasets
    each = -(-options.rows // len(names))
    return questions_in([options.data], datasets=names, max_rows=each, seed=0).records[: options.rows]


def with_jax(options: argparse.Namespace):
    """A function that answers all questions: (new tokens, a digest of all answers)."""
    from mentallama_jax.generation.engine import Settings
    from mentallama_jax.jobs.answer import open_answerer

    records = questions(options)
    answerer = open_answerer(options.model, style=options.style, max_length=options.max_length, dtype=options.dtype)
    if options.way == "undrafted":
        answerer.engine.drafts = 0
    settings = Settings(options.max_new_tokens, batch_size=options.batch)

    def answer() -> tuple[int, str]:
        rows = {row.id: row for batch in answerer.answers(records, settings) for row in batch}
        texts = [rows[record.id].generated_text for record in records]
        return sum(row.new_tokens for row in rows.values()), hashlib.sha256("\0".join(texts).encode()).hexdigest()

    return answer


def with_torch(options: argparse.Namespace):
    import torch
    from transformers import AutoModelForCausalLM

    from mentallama_jax.imhi.prompts import encode_prompt, stop_ids
    from mentallama_jax.jobs.open_model import open_model

    torch.set_num_threads(THREADS)
    tokenizer = open_model(options.model).load_tokenizer()
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=getattr(torch, options.dtype)).eval()
    room = options.max_length - options.max_new_tokens
    prompts = [encode_prompt(record, options.style, tokenizer, room).tokens for record in questions(options)]
    ends = list(stop_ids(options.style, tokenizer))
    order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))

    def answer() -> tuple[int, str]:
        found: dict[int, list[int]] = {}
        for start in range(0, len(order), options.batch):
            places = order[start : start + options.batch]
            width = max(len(prompts[place]) for place in places)
            tokens = torch.tensor([[0] * (width - len(prompts[place])) + list(prompts[place]) for place in places])
            mask = torch.tensor([[0] * (width - len(prompts[place])) + [1] * len(prompts[place]) for place in places])
            with torch.inference_mode():
                out = model.generate(
                    tokens,
                    attention_mask=mask,
                    do_sample=False,
                    max_new_tokens=options.max_new_tokens,
                    eos_token_id=ends,
                    pad_token_id=0,
                )[:, width:].tolist()
            for place, row in zip(places, out, strict=True):
                stop = next((at + 1 for at, token in enumerate(row) if token in ends), len(row))
                found[place] = row[:stop]
        texts = [tokenizer.decode(found[place]).strip() for place in range(len(prompts))]
        return sum(map(len, found.values())), hashlib.sha256("\0".join(texts).encode()).hexdigest()

    return answer


def measure(options: argparse.Namespace) -> None:
    """The child's part: one line of JSON."""
    answer = with_torch(options) if options.way == "torch" else with_jax(options)
    seconds, used = [], []
    for _ in range(1 if options.way == "torch" else options.rounds + 1):
        start, begun = time.perf_counter(), time.process_time()
        tokens, digest = answer()
        seconds.append(time.perf_counter() - start)
        used.append(time.process_time() - begun)
    figures = {"first": seconds[0], "best": min(seconds[1:] or seconds), "cpu": min(used[1:] or used)}
    print(json.dumps({"tokens": tokens, "digest": digest, **figures}))


def run(way: str, checkout: Path) -> dict:
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(THREADS), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
    done = subprocess.run(command, cwd=Path.cwd(), env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--style", default="chatml")
    parser.add_argument("--datasets", nargs="+", default=["DR", "dreaddit", "SAD"])
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=1, help="timed ones, after the one that compiles")
    parser.add_argument("--undrafted", action="store_true", help="the same without drafts too")
    parser.add_argument("--static", type=Path, help="a checkout with static batches")
    parser.add_argument("--torch", action="store_true", help="transformers too")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        measure(options)
        return
    checkouts = {"ours": ROOT} | ({"undrafted": ROOT} if options.undrafted else {})
    if options.static:
        checkouts["static"] = options.static.resolve()
    if options.torch:
        checkouts["torch"] = ROOT
    found: dict[str, dict] = {}
    for way, checkout in checkouts.items():
        one = found[way] = run(way, checkout)
        ours = found["ours"]
        speed = one["tokens"] / one["best"]
        same = "" if way == "ours" else f", ours {one['best'] / one['tokens'] / (ours['best'] / ours['tokens']):.2f} x"
        same += "" if way == "ours" else ", equal answers" if one["digest"] == ours["digest"] else ", other answers"
        print(
            f"{WAYS[way]}: {one['tokens']} new tokens in {one['best']:.1f} s, {speed:.1f} tokens/s{same}; "
            f"{one['cpu']:.1f} s of the cores together; the first time, with compilation, {one['first']:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
