"""Whole answers: equal to plain decoding, free of their batch, ended by end tokens, compiled once a shape."""

import jax.numpy as jnp
import numpy as np
import pytest
from tiny_decoder import SHAPES, continue_greedily, random_params, random_prompts, shape

from mentallama_jax.generation.batching import pad_left
from mentallama_jax.generation.decode import generate
from mentallama_jax.generation.decoder import unroll
from mentallama_jax.generation.sampling import Sampling, row_keys

NEW = 12
GREEDY = Sampling()
SAMPLING = Sampling(1.5, 20, 0.9)


def answers(config, model, prompts, *, ids=None, batch_size=None, end_ids=(), sampling=GREEDY, new=NEW):
    """[(tokens, ended)] of each prompt."""
    batch_size = batch_size or len(prompts)
    tokens_BP, lengths_B = pad_left(prompts, batch_size)
    ids = [*(ids or map(str, range(len(prompts)))), *[""] * (batch_size - len(prompts))]
    out = generate(
        model,
        tokens_BP,
        lengths_B,
        row_keys(0, ids),
        config=config,
        sampling=sampling,
        end_ids=end_ids,
        max_new_tokens=new,
    )
    tokens_BT, logs_BT, counts_B, ended_B = map(np.asarray, out)
    for array_BT in (tokens_BT, logs_BT):
        assert all(not array_BT[row, counts_B[row] :].any() for row in range(batch_size))
    return [(tokens_BT[row, : counts_B[row]].tolist(), bool(ended_B[row])) for row in range(len(prompts))]


@pytest.mark.parametrize("name", SHAPES)
def test_greedy_answers_equal_plain_decoding(name: str) -> None:
    config, params = SHAPES[name], random_params(SHAPES[name])
    prompts = random_prompts([5, 17])
    got = answers(config, unroll(config, params, jnp.float32), prompts)
    assert got == [(continue_greedily(params, config, prompt, NEW), False) for prompt in prompts]


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLING], ids=["greedy", "sampled"])
def test_answers_do_not_depend_on_the_batch(sampling: Sampling) -> None:
    config = shape()
    model = unroll(config, random_params(config), jnp.float32)
    prompts, ids = random_prompts([3, 40, 9, 64]), ["a", "b", "c", "d"]
    together = answers(config, model, prompts, ids=ids, sampling=sampling, end_ids=(5,))
    reversed_order = answers(config, model, prompts[::-1], ids=ids[::-1], sampling=sampling, end_ids=(5,))
    filled_up = answers(config, model, prompts, ids=ids, sampling=sampling, end_ids=(5,), batch_size=6)
    alone = [
        answers(config, model, [prompt], ids=[id_], sampling=sampling, end_ids=(5,))[0]
        for prompt, id_ in zip(prompts, ids, strict=True)
    ]
    assert together == alone == reversed_order[::-1] == filled_up


def test_sampled_rows_with_one_prompt_differ_by_their_ids_and_repeat() -> None:
    config = shape()
    model = unroll(config, random_params(config), jnp.float32)
    prompts = random_prompts([8]) * 4
    first = answers(config, model, prompts, ids=["a", "b", "c", "a"], sampling=SAMPLING)
    assert first[0] == first[3]
    assert len({tuple(tokens) for tokens, _ in first}) == 3


def test_an_end_token_ends_its_row_alone() -> None:
    config = shape()
    params = random_params(config)
    model = unroll(config, params, jnp.float32)
    prompts = random_prompts([5, 17, 9], seed=2)
    free = [tokens for tokens, _ in answers(config, model, prompts)]
    # End on tokens that the rows produce by themselves, at different places.
    ends = (free[0][2], free[1][6])
    expected = []
    for tokens in free:
        stops = [place for place, token in enumerate(tokens) if token in ends]
        expected.append((tokens[: stops[0] + 1], True) if stops else (tokens, False))
    assert answers(config, model, prompts, end_ids=ends) == expected
    assert len({len(tokens) for tokens, _ in expected}) > 1


def test_one_compilation_serves_all_prompts_of_a_bucket() -> None:
    config = shape(intermediate_size=24)
    model = unroll(config, random_params(config), jnp.float32)
    before = generate._cache_size()
    for lengths in ([3, 5], [64, 60], [1, 33]):
        answers(config, model, random_prompts(lengths))
    assert generate._cache_size() == before + 1
    answers(config, model, random_prompts([65, 2]))
    assert generate._cache_size() == before + 2


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
    assert answers(config, unroll(config, params, jnp.float32), prompts, end_ids=(7,), new=20) == expected


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
