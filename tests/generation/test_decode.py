"""Whole answers: equal to plain decoding, free of their neighbours, ended by end tokens, in few compiled shapes."""

import numpy as np
import pytest
from tiny_decoder import SHAPES, continue_greedily, random_params, random_prompts, shape

from mentallama_jax.generation import cache_moves, packs, slots
from mentallama_jax.generation.engine import Engine, Settings
from mentallama_jax.generation.sampling import Sampling

NEW = 12
GREEDY = Sampling()
SAMPLING = Sampling(1.5, 20, 0.9, 0.01, 1.2)
SMALL = shape(num_layers=2)
ENDS = (5, 9, 13, 21, 30)
PROMPTS = random_prompts([3, 40, 9, 130, 64, 1, 5, 17])


def engine_of(config, params) -> Engine:
    engine = Engine(config)
    engine.update(params)
    return engine


def answers(engine, prompts, *, names=None, batch_size=8, end_ids=(), sampling=GREEDY, new=NEW):
    """[(tokens, ended)] of each prompt."""
    names = names or [str(place) for place in range(len(prompts))]
    found = {}
    for batch in engine.answers(prompts, names, Settings(new, sampling, batch_size=batch_size), end_ids):
        assert not found.keys() & batch.keys()
        found |= batch
    return [(list(found[place].tokens), found[place].ended) for place in range(len(prompts))]


@pytest.mark.parametrize("name", SHAPES)
def test_greedy_answers_equal_plain_decoding(name: str) -> None:
    config, params = SHAPES[name], random_params(SHAPES[name])
    prompts = random_prompts([5, 17])
    got = answers(engine_of(config, params), prompts)
    assert got == [(continue_greedily(params, config, prompt, NEW), False) for prompt in prompts]


@pytest.mark.long
@pytest.mark.parametrize("sampling", [GREEDY, SAMPLING], ids=["greedy", "sampled"])
def test_answers_do_not_depend_on_slots_neighbours_or_order(sampling: Sampling) -> None:
    engine = engine_of(SMALL, random_params(SMALL))
    names = [f"row {place}" for place in range(len(PROMPTS))]
    alone = [
        answers(engine, [prompt], names=[name], sampling=sampling, end_ids=ENDS, batch_size=1)[0]
        for prompt, name in zip(PROMPTS, names, strict=True)
    ]
    assert len({len(tokens) for tokens, _ in alone}) > 1
    for batch_size in (1, 3):
        assert answers(engine, PROMPTS, names=names, sampling=sampling, end_ids=ENDS, batch_size=batch_size) == alone
    reversed_order = answers(engine, PROMPTS[::-1], names=names[::-1], sampling=sampling, end_ids=ENDS, batch_size=3)
    assert reversed_order[::-1] == alone


@pytest.mark.long
def test_answers_longer_than_a_loop_go_on_where_it_ended() -> None:
    config, params = shape(), random_params(shape())
    prompts = random_prompts([5, 50])
    new = 2 * cache_moves.STEPS + 5
    got = answers(engine_of(config, params), prompts, new=new, batch_size=1)
    assert got == [(continue_greedily(params, config, prompt, new), False) for prompt in prompts]


@pytest.mark.long
def test_a_prompt_that_is_longer_than_a_pack_is_read_in_several(monkeypatch) -> None:
    monkeypatch.setattr(packs, "FULL", 64)
    monkeypatch.setattr("mentallama_jax.generation.decoding.FULL", 64)
    monkeypatch.setattr("mentallama_jax.generation.decoding.WIDTHS", (64,))
    config, params = shape(), random_params(shape())
    prompts = random_prompts([150, 64, 65, 10])
    got = answers(engine_of(config, params), prompts, batch_size=3)
    assert got == [(continue_greedily(params, config, prompt, NEW), False) for prompt in prompts]


def test_sampled_rows_with_one_prompt_differ_by_their_names_and_repeat() -> None:
    prompts = random_prompts([8]) * 4
    engine = engine_of(shape(), random_params(shape()))
    first = answers(engine, prompts, names=["a", "b", "c", "a"], sampling=SAMPLING)
    assert first[0] == first[3]
    assert len({tuple(tokens) for tokens, _ in first}) == 3


def test_an_end_token_ends_its_row_alone() -> None:
    engine = engine_of(shape(), random_params(shape()))
    prompts = random_prompts([5, 17, 9], seed=2)
    free = [tokens for tokens, _ in answers(engine, prompts)]
    # End on tokens that the rows produce by themselves, at different places.
    ends = (free[0][2], free[1][6])
    expected = []
    for tokens in free:
        stops = [place for place, token in enumerate(tokens) if token in ends]
        expected.append((tokens[: stops[0] + 1], True) if stops else (tokens, False))
    assert answers(engine, prompts, end_ids=ends) == expected
    assert len({len(tokens) for tokens, _ in expected}) > 1


@pytest.mark.long
def test_few_shapes_serve_prompts_and_answers_of_all_lengths() -> None:
    config = shape(intermediate_size=24)
    engine = engine_of(config, random_params(config))
    before = packs.read._cache_size(), slots.decode._cache_size()
    for lengths in ([3, 5], [30, 20], [1, 31], [16]):
        answers(engine, random_prompts(lengths), batch_size=2)
    assert (packs.read._cache_size(), slots.decode._cache_size()) == (before[0] + 1, before[1] + 2)  # one slot, and two
    for lengths in ([50, 51, 52, 60, 49, 7, 8], [55, 54, 53, 8], [62, 45, 33, 2]):
        answers(engine, random_prompts(lengths), batch_size=2, sampling=Sampling())
    # Packs of 128 and 256 besides, and slots of 128 places.
    assert packs.read._cache_size() <= before[0] + 3
    assert slots.decode._cache_size() <= before[1] + 3
    assert [cache_moves.places_for(length) for length in (1, 32, 33, 500, 700)] == [64, 64, 128, 640, 768]
    assert [packs.width_of(tokens) for tokens in (1, 64, 65, 1000, 2048)] == [64, 64, 128, 1024, 2048]


@pytest.mark.long
def test_greedy_tokens_equal_those_of_transformers() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `parity`)")
    transformers = pytest.importorskip("transformers")
    config = shape(num_kv_heads=1, head_dim=12, rms_norm_eps=1e-4, rope_theta=700.0)
    params = random_params(config, seed=5)
    peer = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            rms_norm_eps=config.rms_norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=False,
            max_position_embeddings=config.max_positions,
        )
    ).eval()
    load_weights(peer, params, torch)
    prompts = random_prompts([4, 11, 30], seed=3)
    # The peer's cap is a row length of the whole batch, so each prompt goes alone: ours go together.
    expected = []
    for prompt in prompts:
        tokens = torch.tensor([prompt])
        out = peer.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            do_sample=False,
            max_new_tokens=20,
            eos_token_id=7,
            pad_token_id=0,
        )[0, len(prompt) :].tolist()
        expected.append((out, out[-1] == 7))
    assert answers(engine_of(config, params), prompts, end_ids=(7,), new=20, batch_size=2) == expected


def load_weights(peer, params, torch) -> None:
    def tensor(array) -> object:
        return torch.from_numpy(np.array(array))

    layers, D = params["layers"], params["embedding"].shape[1]
    state = {
        "model.embed_tokens.weight": tensor(params["embedding"]),
        "model.norm.weight": tensor(params["final_norm"]["scale"]),
    }
    state["lm_head.weight"] = tensor(params["head"].T)
    for index in range(layers["mlp"]["down"].shape[0]):
        name = f"model.layers.{index}"
        attention, mlp = layers["attention"], layers["mlp"]
        for ours, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
            state[f"{name}.self_attn.{theirs}.weight"] = tensor(attention[ours][index].reshape(D, -1).T)
        state[f"{name}.self_attn.o_proj.weight"] = tensor(attention["output"][index].reshape(-1, D).T)
        for part in ("gate", "up", "down"):
            state[f"{name}.mlp.{part}_proj.weight"] = tensor(mlp[part][index].T)
        state[f"{name}.input_layernorm.weight"] = tensor(layers["attention_norm"]["scale"][index])
        state[f"{name}.post_attention_layernorm.weight"] = tensor(layers["mlp_norm"]["scale"][index])
    peer.load_state_dict(state)
