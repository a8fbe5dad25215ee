"""Answers that have to begin as a tree allows, beside answers that are free."""

import jax.numpy as jnp
import pytest
from tiny_decoder import continue_greedily, full_logits, random_params, random_prompts, shape

from mentallama_jax.generation.engine import Engine, Settings
from mentallama_jax.generation.label_trie import FREE, constraint_of, label_begun, opening_tree
from mentallama_jax.generation.sampling import Sampling

CONFIG = shape(num_layers=1)
PARAMS = random_params(CONFIG)
PROMPTS = random_prompts([5, 17, 9, 6])
NEW = 8
YES_NO = {"yes": [7, 11, 13], "no": [8, 11, 13]}
CAUSES = {"school": [20, 21, 22, 9], "work": [20, 21, 23, 9], "other": [20, 24, 9]}
CONSTRAINT, ROOTS = constraint_of([opening_tree(YES_NO, "yes-no"), opening_tree(CAUSES, "causes")])


def answers(sampling: Sampling, roots: list[int], prompts=PROMPTS) -> list[list[int]]:
    engine = Engine(CONFIG, jnp.float32)
    engine.update(PARAMS)
    settings = Settings(NEW, sampling, batch_size=3)
    names = list(map(str, range(len(prompts))))
    batches = engine.answers(prompts, names, settings, (), CONSTRAINT, roots)
    found = {place: list(answer.tokens) for batch in batches for place, answer in batch.items()}
    return [found[place] for place in range(len(prompts))]


def by_hand(prompt: list[int], openings: dict[str, list[int]]) -> list[int]:
    """Greedy, one token at a time, among the tokens that the openings allow next."""
    said: list[int] = []
    while allowed := {o[len(said)] for o in openings.values() if o[: len(said)] == said and len(o) > len(said)}:
        scores_V = full_logits(PARAMS, CONFIG, [*prompt, *said])[-1]
        said.append(max(allowed, key=lambda token: scores_V[token]))
    return [*said, *continue_greedily(PARAMS, CONFIG, [*prompt, *said], NEW - len(said))]


def test_greedy_follows_the_likeliest_allowed_token_and_is_free_afterwards() -> None:
    got = answers(Sampling(), [ROOTS[1], ROOTS[0], FREE, ROOTS[1]])
    assert got[0] == by_hand(PROMPTS[0], CAUSES)
    assert got[1] == by_hand(PROMPTS[1], YES_NO)
    assert got[2] == continue_greedily(PARAMS, CONFIG, PROMPTS[2], NEW)
    assert got[3] == by_hand(PROMPTS[3], CAUSES)


@pytest.mark.parametrize("sampling", [Sampling(3.0), Sampling(30.0, top_k=2, top_p=0.9)], ids=["all", "filtered"])
def test_whatever_is_sampled_begins_with_an_opening(sampling: Sampling) -> None:
    prompts = PROMPTS[:1] * 30
    labels = [label_begun(tokens, CAUSES) for tokens in answers(sampling, [ROOTS[1]] * 30, prompts)]
    assert None not in labels
    assert len(set(labels)) > 1
