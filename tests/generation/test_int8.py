"""Keys, values and weights in int8: equal to plain passes over what int8 gives back, and near those in floats."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax
from tiny_decoder import SHAPES, full_logits, random_params, random_prompts, shape

from mentallama_jax.generation.decoder import unroll
from mentallama_jax.generation.engine import Answer, Engine, Settings
from mentallama_jax.models.attention import Places
from mentallama_jax.models.attention.reference import reference_attention
from mentallama_jax.models.int8_weights import int8_params, with_int8_weights
from mentallama_jax.models.module import bind
from mentallama_jax.models.quantised import to_int8
from mentallama_jax.models.rotary import rotary_tables

PROMPTS = random_prompts([5, 40, 17])
SETTINGS = Settings(max_new_tokens=6, batch_size=2)


def answers_of(engine: Engine, prompts=PROMPTS, settings: Settings = SETTINGS) -> dict[int, Answer]:
    found: dict[int, Answer] = {}
    for batch in engine.answers(prompts, [str(row) for row in range(len(prompts))], settings, (5,)):
        found |= batch
    return found


def logs_of(logits_TV: np.ndarray, prompt: list[int], tokens: tuple[int, ...]) -> np.ndarray:
    start = len(prompt) - 1
    return log_softmax(logits_TV, axis=-1)[np.arange(start, start + len(tokens)), list(tokens)]


def rounded(x: jax.Array) -> jax.Array:
    """In plain numpy: the largest of each head is 127, scales in bfloat16."""
    x = np.asarray(x, np.float32)
    scales = np.asarray(jnp.asarray(np.abs(x).max(-1, keepdims=True) / 127, jnp.bfloat16), np.float32)
    return jnp.asarray(np.clip(np.round(x / scales), -127, 127) * scales)


def logits_of_rounded_keys(params, config, row: list[int]) -> np.ndarray:
    """[T, V]: a plain pass over a whole row that rounds keys and values as a cache in int8 does."""
    model = bind(config, params)
    places = Places(jnp.arange(len(row))[None], jnp.ones((1, len(row)), jnp.int32))
    rotary = rotary_tables(places.positions_BT, config.head_dim, config.rope_theta, config.rope_scaling)
    x_BTD = model.embed(jnp.asarray([row]), jnp.float32)
    for layer in unroll(config, params, jnp.float32).layers:
        x_BTD = layer(x_BTD, rotary, lambda q, k, v: reference_attention(q, rounded(k), rounded(v), places))
    return np.asarray(model.final_norm(x_BTD)[0] @ model.head_DV())


@pytest.mark.long
@pytest.mark.parametrize("name", SHAPES)
def test_an_int8_cache_gives_what_a_pass_over_its_own_keys_gives(name: str) -> None:
    config, params = SHAPES[name], random_params(SHAPES[name])
    engine = Engine(config, int8_cache=True)
    engine.update(params)
    differences = []
    for place, answer in answers_of(engine).items():
        row = [*PROMPTS[place], *answer.tokens]
        own = logs_of(logits_of_rounded_keys(params, config, row), PROMPTS[place], answer.tokens)
        np.testing.assert_allclose(answer.log_probabilities, own, atol=5e-4)
        plain = logs_of(full_logits(params, config, row), PROMPTS[place], answer.tokens)
        differences.append(np.abs(plain - own).max())
    assert 1e-3 < max(differences) < 0.2  # it is rounded, and not by much


@pytest.mark.long
def test_rows_of_an_int8_cache_are_answered_as_alone_and_behind_a_shared_beginning() -> None:
    config = shape()
    engine = Engine(config, int8_cache=True, int8_weights=True)
    engine.update(random_params(config))
    (begun,) = random_prompts([120], seed=1)
    prompts = [[*begun, *prompt] for prompt in random_prompts([5, 9, 30, 7, 12, 3, 20, 2], seed=2)]
    together = answers_of(engine, prompts, Settings(8, batch_size=3))
    for place, prompt in enumerate(prompts):
        (alone,) = answers_of(engine, [prompt], Settings(8)).values()
        assert together[place].tokens == alone.tokens
        np.testing.assert_allclose(together[place].log_probabilities, alone.log_probabilities, atol=2e-3)


@pytest.mark.long
def test_scores_of_candidates_read_the_same_cache() -> None:
    config, params = shape(), random_params(shape())
    engine = Engine(config, int8_cache=True)
    engine.update(params)
    candidates = [[[3, 4, 5], [6]], [[6, 7], [8]], [[9, 10, 11], [12]]]
    for batch in engine.scores(PROMPTS, candidates, SETTINGS, (2, 3)):
        for place, scores_C in batch.items():
            for score, candidate in zip(scores_C, candidates[place], strict=True):
                row = [*PROMPTS[place], *candidate]
                own = logs_of(logits_of_rounded_keys(params, config, row), PROMPTS[place], tuple(candidate))
                np.testing.assert_allclose(score, own.sum(), atol=2e-3)


@pytest.mark.parametrize("name", SHAPES)
def test_int8_weights_give_what_a_pass_with_the_rounded_weights_gives(name: str) -> None:
    config, params = SHAPES[name], random_params(SHAPES[name])
    held = int8_params(with_int8_weights(config), params)
    dense = {**params, "layers": {**params["layers"], "attention": {}, "mlp": {}}}
    for part in ("attention", "mlp"):
        for path, whole in params["layers"][part].items():
            units, scales = held["layers"][part][path], held["layers"][part][f"{path}_scale"]
            inputs = tuple(range(1, 1 + units.ndim - scales.ndim))
            dense["layers"][part][path] = units * jnp.expand_dims(scales.astype(jnp.float32), inputs)
            half = 0.501 * jnp.expand_dims(scales.astype(jnp.float32), inputs)
            assert (jnp.abs(dense["layers"][part][path] - whole) <= half).all()
    engine = Engine(config, int8_weights=True)
    engine.update(params)
    for place, answer in answers_of(engine).items():
        row = [*PROMPTS[place], *answer.tokens]
        own = logs_of(full_logits(dense, config, row), PROMPTS[place], answer.tokens)
        np.testing.assert_allclose(answer.log_probabilities, own, rtol=1e-4, atol=1e-4)


def test_int8_takes_half_the_room_and_gives_up_what_it_is_told_to() -> None:
    config = shape(hidden_size=64, intermediate_size=96, head_dim=64)
    engine = Engine(config, jnp.bfloat16, int8_cache=True, int8_weights=True)
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), random_params(config))
    whole = sum(x.nbytes for x in jax.tree.leaves((params["layers"]["attention"], params["layers"]["mlp"])))
    engine.update(params, donate=True)
    assert all(x.is_deleted() for x in jax.tree.leaves(params["layers"]))
    layers = engine.weights.layers
    held = sum(x.nbytes for x in jax.tree.leaves([(one.attention, one.mlp) for one in layers]))
    assert whole / 2 < held < 0.53 * whole
    cache = engine.decoding(2).slots.cache[0]
    assert cache.keys_BKHS.dtype == cache.values_BKSH.dtype == jnp.int8
    numbers = cache.keys_BKHS.size + cache.values_BKSH.size
    assert sum(x.nbytes for x in cache) == numbers * (1 + 2 / 64)


def test_a_damaged_weight_is_not_hidden() -> None:
    config, params = shape(), random_params(shape())
    params["layers"]["mlp"]["up"] = params["layers"]["mlp"]["up"].at[1, 2, 3].set(jnp.nan)
    engine = Engine(config, int8_weights=True)
    engine.update(params)
    assert not any(np.isfinite(answer.log_probabilities).all() for answer in answers_of(engine).values())


def test_to_int8_is_what_the_plain_rounding_is() -> None:
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 3, 8)), jnp.float32)
    units, scales = to_int8(x, (3,))
    np.testing.assert_allclose(units * scales.astype(jnp.float32), rounded(x), rtol=1e-6)
