"""Scores of candidates equal sums over a plain forward pass, and stay the same in any company."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax
from tiny_decoder import SHAPES, full_logits, random_params, random_prompts, shape

from mentallama_jax.generation.batching import pad_left
from mentallama_jax.generation.candidates import pad_candidates, score_candidates
from mentallama_jax.generation.decoder import unroll


def scores(config, model, prompts, candidates, *, batch_size: int, width: int, longest: int) -> np.ndarray:
    tokens_BP, lengths_B = pad_left(prompts, batch_size)
    candidates_BCU, counts_BC = pad_candidates(candidates, (batch_size, width, longest))
    out_BC = score_candidates(model, tokens_BP, lengths_B, candidates_BCU, counts_BC, config=config)
    return np.asarray(out_BC)[: len(prompts)]


def plain_score(config, params, prompt, candidate) -> float:
    log_probabilities_TV = log_softmax(full_logits(params, config, [*prompt, *candidate]), axis=-1)
    places = range(len(prompt) - 1, len(prompt) + len(candidate) - 1)
    return float(sum(log_probabilities_TV[place, token] for place, token in zip(places, candidate, strict=True)))


@pytest.mark.parametrize("name", SHAPES)
def test_scores_equal_those_of_a_plain_pass(name: str) -> None:
    config, params = SHAPES[name], random_params(SHAPES[name])
    prompts = random_prompts([6, 20])
    # Shared beginnings, one token only, and fewer candidates than the batch is wide.
    candidates = [[[4, 5, 6], [4, 5, 7, 8, 9], [11]], [[30, 31], [30]]]
    model = unroll(config, params, jnp.float32)
    got = scores(config, model, prompts, candidates, batch_size=3, width=3, longest=8)
    for prompt, row, values in zip(prompts, candidates, got, strict=True):
        expected = [plain_score(config, params, prompt, candidate) for candidate in row]
        np.testing.assert_allclose(values[: len(row)], expected, atol=1e-5, rtol=1e-5)
    assert got[1, 2] == 0


def test_scores_do_not_depend_on_the_batch() -> None:
    config = shape()
    model = unroll(config, random_params(config), jnp.float32)
    prompts = random_prompts([6, 70, 33])
    candidates = [[[4, 5, 6], [7, 8]], [[9], [10, 11]], [[12, 13], [14]]]
    together = scores(config, model, prompts, candidates, batch_size=3, width=2, longest=8)
    for index in range(3):
        alone = scores(config, model, [prompts[index]], [candidates[index]], batch_size=1, width=3, longest=16)
        np.testing.assert_allclose(alone[0, :2], together[index], atol=1e-5, rtol=1e-5)
