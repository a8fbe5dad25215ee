"""Decoding with a cache gives what a whole forward pass gives, whatever else is in the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_decoder import SHAPES, full_logits, random_params, random_prompts, shape

from mentallama_jax.generation.batching import pad_left
from mentallama_jax.generation.decoder import extend, logits, prefill, unroll

SPARE = 12
prefill = jax.jit(prefill, static_argnums=(1, 4))
extend = jax.jit(extend, static_argnums=1)
logits = jax.jit(logits)


def decoded_logits(config, params, rows, prompt_lengths) -> np.ndarray:
    """[B, T, V]: prefill the prompts, then feed the rest of each row token by token."""
    model = unroll(config, params, jnp.float32)
    tokens_BP, lengths_B = pad_left([row[:length] for row, length in zip(rows, prompt_lengths, strict=True)], len(rows))
    P = tokens_BP.shape[1]
    hidden_BD, cache = prefill(model, config, jnp.asarray(tokens_BP), jnp.asarray(lengths_B), P + SPARE)
    steps = [logits(model, hidden_BD)]
    for step in range(len(rows[0]) - prompt_lengths[0]):
        token_B1 = jnp.asarray([[row[length + step]] for row, length in zip(rows, prompt_lengths, strict=True)])
        slots_S = jnp.arange(P + SPARE)
        visible_BTS = ((slots_S >= P - lengths_B[:, None]) & (slots_S <= P + step))[:, None]
        positions_B1 = jnp.asarray(lengths_B)[:, None] + step
        hidden_BTD, cache = extend(model, config, cache, token_B1, positions_B1, P + step, visible_BTS)
        steps.append(logits(model, hidden_BTD[:, 0]))
    return np.stack([np.asarray(step) for step in steps], 1)


@pytest.mark.parametrize("name", SHAPES)
def test_cached_logits_equal_those_of_the_whole_row(name: str) -> None:
    config, params = SHAPES[name], random_params(SHAPES[name])
    (row,) = random_prompts([15])
    got_TV = decoded_logits(config, params, [row], [9])[0]
    np.testing.assert_allclose(got_TV, full_logits(params, config, row)[8:], atol=1e-5, rtol=1e-5)


def test_rows_of_a_batch_equal_rows_alone() -> None:
    config = shape()
    params = random_params(config)
    # 130 tokens take the blockwise attention of prefill (256 slots); alone, the others take the plain one.
    lengths = [1, 7, 130, 30]
    rows = random_prompts([length + 5 for length in lengths])
    together_BTV = decoded_logits(config, params, rows, lengths)
    for row, length, got_TV in zip(rows, lengths, together_BTV, strict=True):
        np.testing.assert_allclose(got_TV, decoded_logits(config, params, [row], [length])[0], atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(got_TV, full_logits(params, config, row)[length - 1 :], atol=1e-5, rtol=1e-5)


def test_several_tokens_at_once_equal_one_by_one() -> None:
    config = shape()
    params = random_params(config)
    (row,) = random_prompts([16])
    model = unroll(config, params, jnp.float32)
    tokens_BP, lengths_B = pad_left([row[:10]], 1)
    P = tokens_BP.shape[1]
    _, cache = prefill(model, config, jnp.asarray(tokens_BP), jnp.asarray(lengths_B), P + 6)
    slots = np.arange(P + 6)
    visible_BTS = jnp.asarray((slots >= P - 10) & (slots <= P + np.arange(6)[:, None]))[None]
    hidden_BTD, _ = extend(model, config, cache, jnp.asarray([row[10:]]), 10 + jnp.arange(6)[None], P, visible_BTS)
    np.testing.assert_allclose(
        logits(model, hidden_BTD[0]), full_logits(params, config, row)[10:], atol=1e-5, rtol=1e-5
    )


def test_unroll_casts_and_leaves_the_parameters_alone() -> None:
    config = shape()
    params = random_params(config)
    model = unroll(config, params, jnp.bfloat16)
    cast = jax.tree.leaves((model.embedding_VD, model.layers, model.head_DV))
    assert {leaf.dtype for leaf in cast} == {jnp.dtype(jnp.bfloat16)}
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(params))
    np.testing.assert_array_equal(
        model.layers[2].mlp.down[...], params["layers"]["mlp"]["down"][2].astype(jnp.bfloat16)
    )


def test_unroll_can_give_up_the_stack() -> None:
    config = shape()
    params, kept = random_params(config), random_params(config)
    model = unroll(config, params, jnp.float32, donate=True)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(params["layers"]))
    np.testing.assert_array_equal(model.layers[1].mlp.gate[...], kept["layers"]["mlp"]["gate"][1])
    np.testing.assert_array_equal(model.embedding_VD, kept["embedding"])
