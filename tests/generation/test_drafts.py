"""Drafted tokens change how soon an answer is there, never the answer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_decoder import continue_greedily, random_params, random_prompts, shape

from mentallama_jax.errors import UserError
from mentallama_jax.generation import decoding as decoding_module
from mentallama_jax.generation import drafts as drafts_module
from mentallama_jax.generation.drafts import CONTEXT, Drafts, check_drafts, drafted
from mentallama_jax.generation.engine import Engine, Request, Settings
from mentallama_jax.generation.label_trie import constraint_of, opening_tree
from mentallama_jax.generation.sampling import Sampling
from mentallama_jax.generation.slots import WrittenSteps, decode

CONFIG = shape(num_layers=2)
PARAMS = random_params(CONFIG)
PROMPTS = random_prompts([5, 17, 9, 30, 12])
DRAWN = Sampling(0.7)
WAYS = {
    "greedy": Settings(60),
    "drawn": Settings(40, DRAWN, seed=3),
    "filtered": Settings(40, Sampling(1.5, 20, 0.9, 0.01)),
    "penalised": Settings(40, Sampling(repetition_penalty=1.3)),
    "drawn, penalised": Settings(40, Sampling(0.7, repetition_penalty=1.1)),
    "alternatives": Settings(40, alternatives=True),
    "a stop string": Settings(40, stop_strings=("XY", "KK", "B")),
    "one token": Settings(1),
}


class Counted:
    """Counts the tokens and the steps that loops with drafts wrote."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tokens = self.steps = 0
        monkeypatch.setattr(decoding_module, "decode", self.decode)
        monkeypatch.setattr(Drafts, "now", property(lambda drafts: drafts.most))  # whether it pays or not

    def decode(self, *arguments, **fixed):
        done = decode(*arguments, **fixed)
        written: WrittenSteps = done[3]
        if fixed["drafts"]:
            self.tokens += int(written.taken_B.sum())
            self.steps += int(written.steps_B.sum())
        return done


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def engine_with(drafts: int, **fixed) -> Engine:
    engine = Engine(CONFIG, drafts=drafts, **fixed)
    engine.update(PARAMS)
    return engine


def letters(tokens) -> str:
    """A text of one letter for each token."""
    return "".join(chr(ord("A") + token) for token in tokens)


def all_samples(engine: Engine, settings: Settings, **fixed) -> dict:
    names = [f"row {place}" for place in range(len(PROMPTS))]
    found = engine.samples(PROMPTS, names, settings, (5, 9), text_of=letters, **fixed)
    return {place: answer for batch in found for place, answer in batch.items()}


def assert_equal(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for place, answer in found.items():
        other = expected[place]
        assert (answer.tokens, answer.ended, answer.stopped_by) == (other.tokens, other.ended, other.stopped_by)
        np.testing.assert_allclose(answer.log_probabilities, other.log_probabilities, atol=1e-5)
        for one, another in zip(answer.alternatives, other.alternatives, strict=True):
            assert [token for token, _ in one] == [token for token, _ in another]
            np.testing.assert_allclose([log for _, log in one], [log for _, log in another], atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_answers_are_the_same_with_drafts(way: str, counted: Counted) -> None:
    settings = WAYS[way]
    expected = all_samples(engine_with(0), settings, count=2)
    assert counted.steps == 0
    for drafts in (1, 3):
        assert_equal(all_samples(engine_with(drafts), settings, count=2), expected)
    assert (counted.steps > 0) == (settings.sampling.temperature == 0)
    if way == "greedy":
        assert counted.tokens > 1.2 * counted.steps  # small models repeat themselves


def test_greedy_answers_are_those_of_whole_forward_passes(counted: Counted) -> None:
    found = all_samples(engine_with(3), Settings(40))
    for place, prompt in enumerate(PROMPTS):
        tokens = continue_greedily(PARAMS, CONFIG, prompt, 40)
        end = next((at + 1 for at, token in enumerate(tokens) if token in (5, 9)), 40)
        assert list(found[place, 0].tokens) == tokens[:end]
    assert counted.tokens > counted.steps


def test_the_same_with_an_int8_cache_and_with_a_tree_of_labels(counted: Counted) -> None:
    settings = Settings(40)
    int8 = {"int8_cache": True, "int8_weights": True}
    assert_equal(all_samples(engine_with(3, **int8), settings), all_samples(engine_with(0, **int8), settings))
    openings = {"one": [7, 8, 11], "two": [7, 12, 13, 14], "three": [20, 21]}
    constraint, (root,) = constraint_of([opening_tree(openings, "test")])
    fixed = {"constraint": constraint, "roots": [root] * len(PROMPTS)}
    assert_equal(all_samples(engine_with(3), settings, **fixed), all_samples(engine_with(0), settings, **fixed))
    assert counted.tokens > counted.steps


def test_requests_that_come_and_go_at_few_tokens_a_step(counted: Counted) -> None:
    """One of them is drawn at random, and while it is written nothing is drafted for the others either."""
    engine, source = engine_with(3), np.random.default_rng(0)
    ways = [WAYS["drawn" if place == 2 else "greedy"] for place in range(len(PROMPTS))]
    each = {way: all_samples(engine_with(0), way) for way in ways}
    expected = {(place, 0): each[way][place, 0] for place, way in enumerate(ways)}
    decoding, found, waiting = engine.decoding(3, fewer=(1,)), {}, list(range(len(PROMPTS)))
    while waiting or not decoding.is_idle:
        if waiting and source.random() < 0.5:
            place = waiting.pop(0)
            assert decoding.submit(Request(PROMPTS[place], f"row {place}", ways[place], (5, 9))) == place
        at_most = int(source.integers(1, 6))
        for event in decoding.step(at_most):
            assert len(event.tokens) <= at_most
            found.setdefault(event.request, []).extend(event.tokens)
    assert found == {place: list(answer.tokens) for (place, _), answer in expected.items()}
    assert counted.steps


@given(
    st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=30), min_size=1, max_size=6),
    st.lists(st.lists(st.integers(0, 6), max_size=CONTEXT), min_size=1, max_size=8),
    st.data(),
)
def test_a_draft_is_what_followed_the_longest_known_n_gram_last(texts, contexts, data) -> None:
    drafts, known = Drafts(1), {}
    for tokens in texts:
        new = data.draw(st.integers(0, len(tokens)))
        drafts.wrote(tokens, new)
        for length in range(1, CONTEXT + 1):
            for place in range(max(length, len(tokens) - new), len(tokens)):
                known[tuple(tokens[place - length : place])] = tokens[place]
    rows = [[-1] * (CONTEXT - len(context)) + context for context in contexts]
    expected = [next((known[tuple(row[at:])] for at in range(CONTEXT) if tuple(row[at:]) in known), -1) for row in rows]
    assert drafted(drafts.table, np.array(rows, np.int32)).tolist() == expected


def test_what_pays_is_known_from_what_was_written() -> None:
    drafts, source = Drafts(3), np.random.default_rng(0)
    assert drafts.now == 0
    text = source.integers(0, 40000, 60).tolist()
    for _ in range(8):
        drafts.wrote(text, 57)
    assert drafts.now == 3
    written = 0
    while drafts.now:
        drafts.wrote(source.integers(0, 40000, 35).tolist(), 32)
        written += 32
    assert 64 < written < 1024
    without = Drafts(0)
    without.read(text)
    without.wrote(text, 57)
    assert without.now == 0
    assert not without.table.hashes_OP.any()


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 8))
def test_steps_that_drafts_would_have_taken(right, drafts) -> None:
    steps = place = 0
    while place < len(right):
        steps, place = steps + 1, place + 1
        left = drafts
        while left and place < len(right) and right[place]:
            left, place = left - 1, place + 1
    assert drafts_module._steps(right, drafts) == steps


def test_what_would_have_been_right_is_what_is_right(counted: Counted) -> None:
    """The estimate of one answer in the making is what its steps then write."""
    engine = engine_with(3)
    decoding = engine.decoding(1)
    decoding.submit(Request(PROMPTS[0], "row", Settings(400)))
    estimated = 0.0
    for _ in decoding.run():
        estimated = decoding.drafts._tokens / decoding.drafts._steps
    assert counted.tokens > 1.6 * counted.steps
    assert estimated == pytest.approx(counted.tokens / counted.steps, rel=0.3)


def test_answers_cost_two_programs_at_most_whatever_is_drafted() -> None:
    decode.clear_cache()
    all_samples(engine_with(3), Settings(60))
    assert decode._cache_size() <= 2


@pytest.mark.parametrize("drafts", [-1, 9])
def test_a_number_of_drafts_that_makes_no_sense_is_refused(drafts: int) -> None:
    with pytest.raises(UserError, match=r"--drafts -?\d: give a number from 0 \(none\) to 8"):
        check_drafts(drafts)
