"""Step by step: events, cancelling, samples, stop strings, constraints, shared beginnings, what a device holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax
from tiny_decoder import VOCABULARY, continue_greedily, full_logits, random_params, random_prompts, shape

from mentallama_jax.generation import decoding as module
from mentallama_jax.generation.cache_moves import STEPS, append, copied
from mentallama_jax.generation.engine import Engine, Request, Settings
from mentallama_jax.generation.key_value_cache import LayerCache
from mentallama_jax.generation.label_trie import constraint_of, opening_tree
from mentallama_jax.generation.packs import pack, read, read_past
from mentallama_jax.generation.sampling import Sampling
from mentallama_jax.generation.shared_beginnings import shared_beginnings
from mentallama_jax.generation.slots import ALTERNATIVES, decode, idle_rows

CONFIG = shape(num_layers=2)
PARAMS = random_params(CONFIG)
PROMPTS = random_prompts([5, 17, 9, 30])
DRAWN = Sampling(1.5)


@pytest.fixture(scope="module")
def engine() -> Engine:
    engine = Engine(CONFIG)
    engine.update(PARAMS)
    return engine


def letters(tokens) -> str:
    """A text of one letter for each token."""
    return "".join(chr(ord("A") + token) for token in tokens)


def greedy(prompt, count: int = 12) -> list[int]:
    return continue_greedily(PARAMS, CONFIG, prompt, count)


def collected(decoding) -> dict:
    return {
        (one.request, one.sample): one.answer for events in decoding.run() for one in events if one.answer is not None
    }


def test_events_are_the_answer_in_pieces(engine) -> None:
    decoding = engine.decoding(2)
    numbers = [decoding.submit(Request(prompt, settings=Settings(12))) for prompt in PROMPTS]
    assert numbers == [0, 1, 2, 3]
    pieces: dict[int, list[int]] = {number: [] for number in numbers}
    done = {}
    while not decoding.is_idle:
        events = decoding.step(5)
        assert {len(one.tokens) for one in events} <= {1, 2, 3, 4, 5}
        for one in events:
            assert one.request not in done
            assert len(one.tokens) == len(one.log_probabilities)
            pieces[one.request] += one.tokens
            if one.answer is not None:
                done[one.request] = list(one.answer.tokens)
    assert done == pieces == {number: greedy(prompt) for number, prompt in zip(numbers, PROMPTS, strict=True)}
    assert decoding.step() == []


def test_a_cancelled_request_is_silent_and_its_slot_goes_to_the_next(engine) -> None:
    decoding = engine.decoding(1)
    numbers = [decoding.submit(Request(prompt, settings=Settings(12))) for prompt in PROMPTS[:3]]
    assert {one.request for one in decoding.step(3)} == {0}
    decoding.cancel(numbers[0])
    decoding.cancel(numbers[1])
    found = collected(decoding)
    assert found.keys() == {(2, 0)}
    assert list(found[2, 0].tokens) == greedy(PROMPTS[2])


def test_a_request_that_comes_later_changes_nothing_for_the_others(engine) -> None:
    decoding = engine.decoding(2)
    decoding.submit(Request(PROMPTS[0], settings=Settings(12)))
    decoding.step(4)
    # One that is drawn, and penalised, beside one that is greedy.
    drawn = Settings(12, Sampling(1.5, 20, 0.9, 0.01, 1.3), seed=3)
    decoding.submit(Request(PROMPTS[1], "late", drawn))
    found = collected(decoding)
    assert list(found[0, 0].tokens) == greedy(PROMPTS[0])
    (alone,) = engine.answers([PROMPTS[1]], ["late"], drawn, ())
    assert found[1, 0].tokens == alone[0].tokens


@pytest.mark.long
def test_slots_are_as_many_as_the_answers_need(engine, monkeypatch) -> None:
    decode, rows = module.decode, []
    monkeypatch.setattr(module, "decode", lambda *a, **k: rows.append(len(a[2])) or decode(*a, **k))
    decoding = engine.decoding(4, fewer=(1, 2, 9))
    assert decoding.sizes == [1, 2, 4]
    tokens: dict[int, list[int]] = {}

    def step(count: int) -> None:
        for one in decoding.step(count):
            tokens.setdefault(one.request, []).extend(one.tokens)

    decoding.submit(Request(PROMPTS[0], settings=Settings(12)))
    step(3)
    decoding.submit(Request(PROMPTS[1], settings=Settings(12)))
    step(3)
    decoding.submit(Request(PROMPTS[2], settings=Settings(4), samples=3))  # one of them waits
    decoding.submit(Request(PROMPTS[3], settings=Settings(12)))
    step(2)
    assert rows == [1, 2, 4]
    decoding.cancel(0)
    decoding.cancel(2)
    step(4)
    decoding.cancel(1)
    step(8)
    assert rows == [1, 2, 4, 2, 1]
    assert decoding.is_idle
    assert tokens[3] == greedy(PROMPTS[3])
    assert tokens[1] == greedy(PROMPTS[1])[: 3 + 2 + 4]
    assert tokens[0] == greedy(PROMPTS[0])[:8]
    decoding.submit(Request(PROMPTS[1], settings=Settings(12)))
    step(12)
    assert tokens[4] == greedy(PROMPTS[1])
    assert rows[5:] == [1]


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_how_many_slots_there_are_changes_no_answer(engine, seed) -> None:
    """Requests of all kinds come and go at random: each answer is that of a batch of fixed size."""
    source = np.random.default_rng(seed)
    kinds = [Sampling(), DRAWN, Sampling(1.5, 20, 0.9, 0.01, 1.3)]  # the last makes an array of tokens seen
    decoding, requests, found, gone = engine.decoding(8, fewer=(1, 2, 4)), [], {}, set()
    while len(requests) < 12 or not decoding.is_idle:
        for _ in range(min(int(source.choice([0, 0, 1, 4])), 12 - len(requests))):
            settings = Settings(
                int(source.integers(2, 13)), kinds[source.integers(len(kinds) if seed else 2)], seed=seed
            )
            prompt = PROMPTS[source.integers(len(PROMPTS))]
            requests.append(Request(prompt, str(len(requests)), settings, (5,), samples=int(source.integers(1, 4))))
            decoding.submit(requests[-1])
        if requests and source.random() < 0.15:
            gone.add(number := int(source.integers(len(requests))))
            decoding.cancel(number)
        for one in decoding.step(int(source.integers(1, 6))):
            if one.answer is not None:
                found[one.request, one.sample] = one.answer
    expected = {}
    for number, request in enumerate(requests):
        for batch in engine.samples([request.tokens], [request.name], request.settings, (5,), count=request.samples):
            expected |= {(number, sample): answer for (_, sample), answer in batch.items()}
    assert {key for key in expected if key not in found} <= {key for key in expected if key[0] in gone}
    assert len(found) > len(expected) // 2
    for key, answer in found.items():
        assert (answer.tokens, answer.ended) == (expected[key].tokens, expected[key].ended)
        np.testing.assert_allclose(answer.log_probabilities, expected[key].log_probabilities, atol=1e-4)


def test_log_probabilities_are_the_models_own_whatever_chose_the_token(engine) -> None:
    prompt, drawn = PROMPTS[1], Settings(12, Sampling(1.5, 20, 0.9, 0.01, 1.3), seed=3)  # shares what is compiled above
    (found,) = engine.answers([prompt], ["late"], drawn, ())
    tokens = [*prompt, *found[0].tokens]
    logs = log_softmax(full_logits(PARAMS, CONFIG, tokens)[len(prompt) - 1 : len(tokens) - 1], axis=1)
    expected = logs[np.arange(12), list(found[0].tokens)]
    np.testing.assert_allclose(found[0].log_probabilities, expected, atol=1e-4)


def test_samples_share_the_reading_of_their_prompt(engine, monkeypatch) -> None:
    read, calls = module.read, []
    monkeypatch.setattr(module, "read", lambda *a, **k: calls.append(a[1].segments_PW.max()) or read(*a, **k))
    settings = Settings(8, DRAWN, seed=1, batch_size=2)
    found = {}
    for batch in engine.samples(PROMPTS[:2], ["a", "b"], settings, (), count=3):
        found |= batch
    assert calls == [2]  # one pack of two prompts
    assert sorted(found) == [(place, sample) for place in (0, 1) for sample in range(3)]
    assert len({answer.tokens for answer in found.values()}) == 6
    singles = {}
    for batch in engine.answers(PROMPTS[:2], ["a", "b"], settings, ()):
        singles |= batch
    assert {place: found[place, 0].tokens for place in (0, 1)} == {p: one.tokens for p, one in singles.items()}
    again = {}
    for batch in engine.samples(PROMPTS[:2], ["a", "b"], Settings(8, DRAWN, seed=1, batch_size=1), (), count=3):
        again |= batch
    assert {key: one.tokens for key, one in again.items()} == {key: one.tokens for key, one in found.items()}


def test_a_stop_string_ends_an_answer_with_the_token_that_completes_it(engine) -> None:
    free = greedy(PROMPTS[3])
    text = letters(free)
    stop = text[4:6]
    end = text.index(stop) + 2
    (found,) = engine.answers([PROMPTS[3]], ["x"], Settings(12, stop_strings=("~~", stop)), (), text_of=letters)
    assert list(found[0].tokens) == free[:end]
    assert len(found[0].log_probabilities) == end
    assert (found[0].stopped_by, found[0].ended) == (stop, False)
    # The host looks after a few steps or after many: the answer is the same.
    decoding = engine.decoding(1, text_of=letters)
    decoding.submit(Request(PROMPTS[3], settings=Settings(12, stop_strings=(stop,))))
    pieces = []
    while not decoding.is_idle:
        for one in decoding.step(1):
            pieces += one.tokens
    assert pieces == free[:end]
    with pytest.raises(ValueError, match="text_of"):
        engine.decoding(1).submit(Request(PROMPTS[3], settings=Settings(12, stop_strings=(stop,))))


def test_the_likeliest_tokens_come_with_their_log_probabilities(engine) -> None:
    (found,) = engine.answers([PROMPTS[1]], ["x"], Settings(4, alternatives=True), ())
    answer = found[0]
    assert [len(each) for each in answer.alternatives] == [ALTERNATIVES] * 4
    logs_TV = log_softmax(full_logits(PARAMS, CONFIG, [*PROMPTS[1], *answer.tokens]), axis=-1)
    for place, each in enumerate(answer.alternatives):
        row_V = logs_TV[len(PROMPTS[1]) - 1 + place]
        assert [token for token, _ in each] == np.argsort(-row_V)[:ALTERNATIVES].tolist()
        np.testing.assert_allclose([log for _, log in each], np.sort(row_V)[::-1][:ALTERNATIVES], rtol=1e-4, atol=1e-4)
        assert each[0][0] == answer.tokens[place]


def test_a_penalty_counts_the_prompt_and_the_answer(engine) -> None:
    (found,) = engine.answers([PROMPTS[1]], ["x"], Settings(10, Sampling(repetition_penalty=3.0)), ())
    row = list(PROMPTS[1])
    for token in found[0].tokens:
        logits_V = full_logits(PARAMS, CONFIG, row)[-1].copy()
        seen = sorted(set(row))
        logits_V[seen] = np.where(logits_V[seen] < 0, logits_V[seen] * 3, logits_V[seen] / 3)
        assert token == int(logits_V.argmax())
        row.append(token)
    assert list(found[0].tokens) != greedy(PROMPTS[1], 10)


def test_a_constrained_answer_begins_with_an_opening_and_is_free_then(engine) -> None:
    openings = [{"yes": [40, 41, 7], "no": [40, 8]}, {"one": [33], "two": [34, 35]}]
    constraint, roots = constraint_of([opening_tree(each, "a test") for each in openings])
    chosen = [roots[0], -1, roots[1], roots[0]]
    found = {}
    for batch in engine.answers(PROMPTS, list("abcd"), Settings(8, batch_size=2), (), constraint, chosen):
        found |= batch
    assert list(found[1].tokens) == greedy(PROMPTS[1], 8)
    for place, root in enumerate(chosen):
        if root == -1:
            continue
        row, allowed = list(PROMPTS[place]), list(openings[roots.index(root)].values())
        begun: list[int] = []
        while begun not in allowed:
            logits_V = full_logits(PARAMS, CONFIG, row)[-1]
            next_ = {opening[len(begun)] for opening in allowed if opening[: len(begun)] == begun}
            begun.append(max(next_, key=lambda token: logits_V[token]))
            row.append(begun[-1])
        expected = begun + continue_greedily(PARAMS, CONFIG, row, 8 - len(begun))
        assert list(found[place].tokens) == expected
    with pytest.raises(ValueError, match="no constraint"):
        engine.decoding(1).submit(Request(PROMPTS[0], root=0))


@pytest.mark.parametrize("sampling", [Sampling(), DRAWN], ids=["greedy", "drawn"])
def test_a_shared_beginning_is_read_once_and_changes_nothing(engine, monkeypatch, sampling) -> None:
    one, other = random_prompts([130, 75], seed=8)
    tails = random_prompts([3, 12, 1, 30, 7], seed=9)
    monkeypatch.setattr("mentallama_jax.generation.shared_beginnings._LEAST_SAVED", 64)
    prompts = [*[[*one, *tail] for tail in tails], *[[*other, *tail] for tail in tails[:2]], *PROMPTS]
    names = [str(place) for place in range(len(prompts))]
    settings = Settings(8, sampling, batch_size=2)

    def answers() -> dict:
        found = {}
        for batch in engine.answers(prompts, names, settings, (5,)):
            found |= batch
        return {place: answer.tokens for place, answer in found.items()}

    read_past, beginnings = module.read_past, []
    monkeypatch.setattr(module, "read_past", lambda *a, **k: beginnings.append(list(a[1])) or read_past(*a, **k))
    shared = answers()
    assert beginnings == [one, other]
    monkeypatch.setattr(
        "mentallama_jax.generation.engine.shared_beginnings", lambda prompts: [(p, 0) for p in range(len(prompts))]
    )
    assert answers() == shared
    assert len(beginnings) == 2


@pytest.mark.parametrize("cache_dtype", [None, jnp.int8], ids=["float32", "int8"])
def test_packs_of_several_blocks_follow_a_beginning(engine, cache_dtype) -> None:
    """Prompts that cross the edges of blocks of queries see the beginning and their own earlier tokens alone."""
    (begun,) = random_prompts([200], seed=3)
    tails = random_prompts([150, 90, 1, 170, 60], seed=4)
    fixed = {"config": CONFIG, "cache_dtype": cache_dtype}
    past = read_past(engine.weights, begun, 1, dtype=jnp.float32, **fixed)
    _, logits_PMV = read(engine.weights, pack([tails], 512), past, **fixed)
    whole = pack([[[*begun, *tail] for tail in tails[:3]], [[*begun, *tail] for tail in tails[3:]]], 1024)
    _, expected_PMV = read(engine.weights, whole, None, **fixed)
    expected = [*expected_PMV[0, :3], *expected_PMV[1, :2]]
    np.testing.assert_allclose(logits_PMV[0, : len(tails)], expected, atol=1e-4)
    if cache_dtype is None:
        plain = [full_logits(PARAMS, CONFIG, [*begun, *tail])[-1] for tail in tails]
        np.testing.assert_allclose(expected, plain, atol=1e-4)


def test_prompts_are_grouped_where_that_saves_reading(monkeypatch) -> None:
    monkeypatch.setattr("mentallama_jax.generation.shared_beginnings._LEAST_SAVED", 64)
    system, examples, others = list(range(100)), [*range(200, 400)], [*range(500, 600)]
    prompts = [
        [*system, *examples, 1],
        [7, 8, 9],
        [*system, *others, 2],
        [*system, *examples, 3, 4],
        [*system, *others, 5],
        [*system, *examples, 6],
        [*system, 9],
    ]
    found = dict(shared_beginnings(prompts))
    assert sorted(found) == list(range(7))
    assert {found[place] for place in (0, 3, 5)} == {300}
    assert {found[place] for place in (2, 4)} == {200}
    assert found[1] == found[6] == 0
    order = [place for place, _ in shared_beginnings(prompts)]
    assert order[:3] == [3, 0, 5]
    # Equal prompts keep their last token to themselves; short beginnings are not worth it.
    assert dict(shared_beginnings([system, system])) == {0: 99, 1: 99}
    assert dict(shared_beginnings([[*range(60), 1], [*range(60), 2]])) == {0: 0, 1: 0}
    assert list(shared_beginnings([])) == []
    monkeypatch.undo()
    assert dict(shared_beginnings([system] * 5)) == dict.fromkeys(range(5), 0)  # 4 x 99 tokens are not worth it
    assert dict(shared_beginnings([system] * 7)) == dict.fromkeys(range(7), 99)


def test_a_loop_of_steps_copies_no_cache() -> None:
    """The cache is neither written nor copied by a loop, and what follows it writes in place."""
    config = shape(num_layers=1)
    model = Engine(config)
    model.update(random_params(config))
    slots, places = 4, 512
    cache = module.empty_slots(config=config, slots=slots, places=places, dtype=jnp.dtype("float32"), penalty=False)
    rows = idle_rows(slots)
    fixed = {"config": config, "uses": Sampling().uses, "alternatives": False}
    lowered = decode.lower(model.weights, cache.cache, cache.logits_BV, None, rows, None, 8, 8, **fixed)
    memory = lowered.compile().memory_analysis()
    whole = sum(x.nbytes for x in jax.tree.leaves(cache.cache))
    block = whole * STEPS // places
    assert memory.output_size_in_bytes < block + slots * (VOCABULARY + 4 * STEPS) * 4 + 4096
    assert memory.temp_size_in_bytes < whole / 2
    recent = jax.tree.map(lambda x: x[..., :STEPS] if x.shape[-1] == places else x[:, :, :STEPS], cache.cache)
    memory = append.lower(cache.cache, recent, rows.lengths_B).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= whole
    assert memory.temp_size_in_bytes < whole / 4


def test_copies_in_one_pass_are_those_of_loops(monkeypatch) -> None:
    """The two ways of moving keys and values give the same arrays, whatever the lengths and places."""
    source = np.random.default_rng(0)

    def cache(rows: int, places: int) -> tuple[LayerCache, ...]:
        sizes = ((rows, 2, 4, places), (rows, 2, places, 4))
        return tuple(LayerCache(*(jnp.asarray(source.normal(size=size), jnp.float32) for size in sizes)) for _ in "ab")

    def results() -> list:
        blocks = append.__wrapped__(held, block, lengths_B)
        moves = [copied(held, read, *move) for move in ((2, 0, 0, 64), (0, 32, 32, 64), (1, 64, 96, 32), (1, 5, 7, 0))]
        return jax.device_get([blocks, *moves])

    held, block, read = cache(3, 128), cache(3, STEPS), cache(1, 160)
    lengths_B = np.array([0, 7, 96], np.int32)
    loops = results()
    monkeypatch.setattr("mentallama_jax.generation.cache_moves._in_one_pass", lambda: True)
    jax.tree.map(np.testing.assert_array_equal, results(), loops)
