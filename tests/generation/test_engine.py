"""The engine: log-probabilities beside a plain pass, weights that are replaced and freed, nothing compiled again."""

import gc
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax
from tiny_decoder import SHAPES, full_logits, random_params, random_prompts, shape

from mentallama_jax.generation.answers_while_training import holding
from mentallama_jax.generation.cache_moves import append
from mentallama_jax.generation.candidates import score_candidates
from mentallama_jax.generation.decoder import _split
from mentallama_jax.generation.engine import Answer, Engine, Settings
from mentallama_jax.generation.packs import read
from mentallama_jax.generation.sampling import Sampling
from mentallama_jax.generation.slots import decode, insert

PROMPTS = random_prompts([5, 40, 17])
NAMES = ["a", "b", "c"]
SETTINGS = Settings(max_new_tokens=6, batch_size=2)


def compiled_programs() -> list[int]:
    programs = (read, insert, decode, append, score_candidates)
    return [*(program._cache_size() for program in programs), _split.cache_info().misses]


def all_answers(engine: Engine, settings: Settings = SETTINGS, ends: tuple[int, ...] = (5,)) -> dict[int, Answer]:
    found: dict[int, Answer] = {}
    for batch in engine.answers(PROMPTS, NAMES, settings, ends):
        assert not found.keys() & batch.keys()
        found |= batch
    return found


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.5, 20, 0.9)], ids=["greedy", "sampled"])
@pytest.mark.parametrize("name", SHAPES)
def test_log_probabilities_are_those_of_a_plain_pass(name: str, sampling: Sampling) -> None:
    config, params = SHAPES[name], random_params(SHAPES[name])
    engine = Engine(config)
    engine.update(params)
    answers = all_answers(engine, Settings(6, sampling, batch_size=2), ends=(5, 9))
    assert sorted(answers) == [0, 1, 2]
    for place, answer in answers.items():
        prompt, tokens = PROMPTS[place], list(answer.tokens)
        assert len(tokens) == len(answer.log_probabilities) <= 6
        assert answer.ended == (tokens[-1] in (5, 9))
        logits_TV = log_softmax(full_logits(params, config, [*prompt, *tokens]), axis=-1)
        expected = logits_TV[np.arange(len(prompt) - 1, len(prompt) + len(tokens) - 1), tokens]
        np.testing.assert_allclose(answer.log_probabilities, expected, rtol=1e-4, atol=1e-4)


def test_weights_of_training_are_held_for_a_block_alone() -> None:
    """Training needs the room, also where answering fails."""
    engine = Engine(SHAPES["grouped, untied"])

    def fails() -> None:
        with holding(engine, random_params(engine.config)):
            assert engine.weights.layers
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    with pytest.raises(RuntimeError, match="holds no weights"):
        _ = engine.weights


@pytest.mark.long
def test_other_weights_compile_nothing_and_the_old_ones_are_freed() -> None:
    config = shape(num_layers=2, intermediate_size=24)
    engine = Engine(config)
    engine.update(random_params(config))
    first = all_answers(engine)
    list(engine.scores(PROMPTS, [[[3, 4], [5]]] * 3, SETTINGS, (2, 2)))
    engine.release()
    gc.collect()
    programs = compiled_programs()
    held = sum(array.nbytes for array in jax.live_arrays())

    other = random_params(config, seed=1)
    added = sum(array.nbytes for array in jax.tree.leaves(other))
    for _ in range(3):
        engine.update(other)
    began, busy = time.monotonic(), engine.busy_seconds
    second = all_answers(engine)
    # Three answers in two places: one of them is idle at the end.
    assert 0 < engine.busy_seconds - busy < time.monotonic() - began
    list(engine.scores(PROMPTS, [[[3, 4], [5]]] * 3, SETTINGS, (2, 2)))
    assert compiled_programs() == programs
    assert second != first
    gc.collect()
    assert sum(array.nbytes for array in jax.live_arrays()) <= held + 2 * added + 4096
    engine.release()
    gc.collect()
    assert sum(array.nbytes for array in jax.live_arrays()) <= held + added + 4096

    engine.update(random_params(config))
    assert all_answers(engine) == first


def test_donated_weights_are_deleted_and_give_the_same_answers() -> None:
    config, engine = shape(), Engine(shape())
    engine.update(random_params(config))
    kept = all_answers(engine)
    params = random_params(config)
    engine.update(params, donate=True)
    assert all(array.is_deleted() for array in jax.tree.leaves(params["layers"]))
    assert all_answers(engine) == kept


def test_scores_are_of_each_rows_own_candidates() -> None:
    config, params = shape(), random_params(shape())
    engine = Engine(config, jnp.float32)
    engine.update(params)
    candidates = [[[3, 4, 5]], [[6, 7], [8]], [[9, 10, 11], [12], [13, 14]]]
    found = {
        place: scores
        for batch in engine.scores(PROMPTS, candidates, SETTINGS, (3, 4))
        for place, scores in batch.items()
    }
    for place, scores_C in found.items():
        assert len(scores_C) == len(candidates[place])
        for score, candidate in zip(scores_C, candidates[place], strict=True):
            logits_TV = log_softmax(full_logits(params, config, [*PROMPTS[place], *candidate]), axis=-1)
            start = len(PROMPTS[place]) - 1
            expected = logits_TV[np.arange(start, start + len(candidate)), candidate].sum()
            np.testing.assert_allclose(score, expected, rtol=1e-4, atol=1e-4)


def test_an_engine_without_weights_says_so() -> None:
    with pytest.raises(RuntimeError, match="call `update` first"):
        next(Engine(shape()).answers(PROMPTS, NAMES, SETTINGS, ()))
