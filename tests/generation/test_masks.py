"""Masks of tokens: a slot goes on with allowed tokens alone, and its neighbours' answers stay what they are."""

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_decoder import VOCABULARY, continue_greedily, full_logits, random_params, random_prompts, shape

from mentallama_jax.generation.decoding import Decoding
from mentallama_jax.generation.engine import Engine
from mentallama_jax.generation.requests import Answer, Request, Settings
from mentallama_jax.generation.sampling import Sampling, Uses

CONFIG = shape(num_layers=1)
PARAMS = random_params(CONFIG)


class EvenOrOdd:
    """Even tokens and odd ones in turns; and what was taken."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    def allowed(self) -> NDArray[np.int32]:
        bits = np.zeros(64, np.uint8)
        bits[len(self.taken) % 2 : VOCABULARY : 2] = 1
        return np.packbits(bits, bitorder="little").view(np.int32)

    def take(self, token: int) -> None:
        self.taken.append(token)


@pytest.fixture(scope="module")
def engine() -> Engine:
    engine = Engine(CONFIG)
    engine.update(PARAMS)
    return engine


def answers(decoding: Decoding) -> dict[tuple[int, int], Answer]:
    return {
        (event.request, event.sample): event.answer for events in decoding.run() for event in events if event.answer
    }


def test_each_token_is_the_likeliest_allowed_one_with_its_log_probability_among_all(engine: Engine) -> None:
    prompts = random_prompts([9, 14])
    decoding = engine.decoding(3)
    masks: list[EvenOrOdd] = []

    def mask() -> EvenOrOdd:
        masks.append(EvenOrOdd())
        return masks[-1]

    settings = Settings(6)
    free = decoding.submit(Request(prompts[0], "", settings))
    bound = decoding.submit(Request(prompts[1], "", settings, samples=2, masks=mask))
    found = answers(decoding)

    assert list(found[free, 0].tokens) == continue_greedily(PARAMS, CONFIG, prompts[0], 6)

    row = list(prompts[1])
    for place in range(6):
        logits = full_logits(PARAMS, CONFIG, row)[-1].astype(np.float64)
        logs = logits - np.log(np.exp(logits).sum())
        token = min(range(place % 2, VOCABULARY, 2), key=lambda one: -logits[one])
        assert found[bound, 0].tokens[place] == token
        assert found[bound, 0].log_probabilities[place] == pytest.approx(logs[token], abs=1e-4)
        row.append(token)
    assert found[bound, 1].tokens == found[bound, 0].tokens
    assert [tuple(mask.taken) for mask in masks] == [found[bound, 0].tokens] * 2


def test_what_one_request_asks_for_does_not_stay_for_others(engine: Engine) -> None:
    decoding = engine.decoding(3)
    sampled = decoding.submit(Request([5, 6], "", Settings(2, Sampling(1.0, top_p=0.5))))
    decoding.submit(Request([5, 7], "", Settings(2)))
    decoding.fill()
    assert decoding._uses_now() == Uses(sampled=True, top_p=True)
    decoding.cancel(sampled)
    assert decoding._uses_now() == Uses()
