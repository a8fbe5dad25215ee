"""Masks, packing and the blockwise implementation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentallama_jax.models.attention import Places, attention
from mentallama_jax.models.attention.cpu import BLOCK, blockwise_attention
from mentallama_jax.models.attention.reference import reference_attention
from mentallama_jax.models.attention.tpu import splash_attention
from mentallama_jax.models.llama import forward
from mentallama_jax.models.module import bind, init_params
from mentallama_jax.models.presets import PRESETS

TOY = PRESETS["toy"]


def random_heads(seed, rows, length, heads, kv_heads, width):
    keys = jax.random.split(jax.random.key(seed), 4)
    shapes = [(rows, length, n, width) for n in (heads, kv_heads, kv_heads, heads)]
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


def segments_of(lengths, total):
    """One row of segment ids and positions for examples of these lengths, padding behind."""
    ids = np.concatenate([np.full(n, i + 1) for i, n in enumerate(lengths)] + [np.zeros(total - sum(lengths))])
    places = np.concatenate([np.arange(n) for n in lengths] + [np.zeros(total - sum(lengths))])
    return ids.astype(np.int32), places.astype(np.int32)


def plain_attention(q, k, v, segments, places):
    """One row by loops over heads and tokens in float64 numpy: no code shared with ours."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    out, group = np.zeros(q.shape), q.shape[1] // k.shape[1]
    for head in range(q.shape[1]):
        for t in np.flatnonzero(segments):
            seen = [s for s in range(len(segments)) if segments[s] == segments[t] and places[s] <= places[t]]
            scores = k[seen, head // group] @ q[t, head] / np.sqrt(q.shape[-1])
            weights = np.exp(scores - scores.max())
            out[t, head] = weights / weights.sum() @ v[seen, head // group]
    return out


@settings(max_examples=10)
@given(st.data())
def test_reference_matches_loops(data):
    lengths = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    kv_heads = data.draw(st.sampled_from([1, 2]))
    q, k, v, _ = random_heads(data.draw(st.integers(0, 99)), 1, 16, 4, kv_heads, 4)
    segments, places = segments_of(lengths, 16)
    where = Places(jnp.asarray(places)[None], jnp.asarray(segments)[None])
    ours = reference_attention(q, k, v, where)[0]
    np.testing.assert_allclose(ours, plain_attention(q[0], k[0], v[0], segments, places), atol=1e-5)


@settings(max_examples=6)
@given(st.data())
def test_blockwise_equals_reference_with_gradients(data):
    total = BLOCK * data.draw(st.sampled_from([1, 2]))
    cuts = sorted(data.draw(st.sets(st.integers(1, total), min_size=1, max_size=4)))
    segments, places = segments_of(np.diff([0, *cuts]), total)
    kv_heads = data.draw(st.sampled_from([1, 2, 4]))
    q, k, v, weight = random_heads(data.draw(st.integers(0, 99)), 2, total, 4, kv_heads, 8)
    segments, places = (jnp.stack([jnp.asarray(x), jnp.asarray(x)]) for x in (segments, places))
    segments = segments.at[1].set(1)
    places = places.at[1].set(jnp.arange(total))
    where = Places(places, segments)

    def compare(attend):
        return jax.jit(jax.value_and_grad(lambda q, k, v: jnp.sum(weight * attend(q, k, v)), (0, 1, 2)))(q, k, v)

    ours = compare(lambda q, k, v: blockwise_attention(q, k, v, where))
    theirs = compare(lambda q, k, v: reference_attention(q, k, v, where))
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5, atol=1e-3)
    for one, other in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.long
def test_padding_outputs_zero_and_gradients_stay_finite():
    q, k, v, weight = random_heads(0, 1, BLOCK, 2, 1, 4)
    segments = jnp.zeros((1, BLOCK), jnp.int32)
    for attend in (
        lambda q, k, v: blockwise_attention(q, k, v, Places(segments, segments)),
        lambda q, k, v: attention(q[:, :7], k[:, :7], v[:, :7], Places(segments[:, :7], segments[:, :7])),
    ):
        assert not np.any(attend(q, k, v))
        gradients = jax.grad(lambda q, k, v, f=attend: jnp.sum(f(q, k, v) ** 2), (0, 1, 2))(q, k, v)
        assert all(not np.any(g) for g in gradients)
    assert weight.shape == q.shape


def test_blockwise_refuses_other_lengths():
    q, k, v, _ = random_heads(0, 1, BLOCK + 1, 2, 1, 4)
    with pytest.raises(ValueError, match="whole blocks"):
        blockwise_attention(q, k, v, Places(*(jnp.ones((1, BLOCK + 1), jnp.int32),) * 2))


@pytest.fixture(scope="module")
def toy_params():
    keys = iter(jax.random.split(jax.random.key(1), 32))
    return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape), init_params(TOY, jax.random.key(0)))


@pytest.mark.long
@pytest.mark.parametrize("length", [24, BLOCK])
def test_no_token_sees_a_later_one_or_another_example(toy_params, length):
    """By gradient: which input embeddings does the logit of one token depend on?"""
    lengths = [length // 2, length // 4]
    segments, places = (jnp.asarray(x)[None] for x in segments_of(lengths, length))
    tokens = jnp.arange(length)[None] % TOY.vocab_size + 3
    probed = lengths[0] + 3

    # Tied embeddings: the head would reach every row, so look at the hidden state.
    def through_input(embedding):
        model = bind(TOY, toy_params | {"embedding": embedding})
        return jnp.sum(
            model.hidden(tokens, places, segments, dtype=jnp.float32, remat="none", offload=False)[0, probed]
        )

    reach = np.abs(jax.grad(through_input)(toy_params["embedding"]))[np.asarray(tokens[0])].max(-1) > 0
    expected = np.zeros(length, bool)
    expected[lengths[0] : probed + 1] = True
    np.testing.assert_array_equal(reach, expected)


@pytest.mark.parametrize("length", [48, BLOCK])
def test_packed_equals_alone(toy_params, length):
    lengths = [length // 2, length // 3]
    segments, places = (jnp.asarray(x)[None] for x in segments_of(lengths, length))
    tokens = jax.random.randint(jax.random.key(5), (1, length), 3, TOY.vocab_size)
    packed = forward(toy_params, TOY, tokens, places, segments)[0]
    start = 0
    for size in lengths:
        alone_tokens = tokens[:, start : start + size]
        alone = forward(toy_params, TOY, alone_tokens, jnp.arange(size)[None], jnp.ones((1, size), jnp.int32))[0]
        np.testing.assert_allclose(packed[start : start + size], alone, atol=2e-4, rtol=1e-4)
        start += size


def test_rows_longer_than_the_model_are_refused(toy_params):
    tokens = jnp.ones((1, TOY.max_positions + 1), jnp.int32)
    with pytest.raises(ValueError, match="max_positions"):
        forward(toy_params, TOY, tokens, tokens, tokens)


@pytest.mark.long
@settings(max_examples=4)
@given(st.data())
def test_splash_equals_reference_with_gradients(data):
    """The kernel's own steps, interpreted: lengths that are no whole blocks, grouped heads, narrow heads, padding."""
    total = data.draw(st.sampled_from([128, 200, 256]))
    cuts = sorted(data.draw(st.sets(st.integers(1, total), min_size=1, max_size=4)))
    segments, places = segments_of(np.diff([0, *cuts]), total)
    kv_heads, width = data.draw(st.sampled_from([(1, 16), (2, 128), (4, 64)]))
    q, k, v, weight = random_heads(data.draw(st.integers(0, 99)), 1, total, 4, kv_heads, width)
    where = Places(jnp.asarray(places)[None], jnp.asarray(segments)[None])

    def compare(attend):
        return jax.jit(jax.value_and_grad(lambda q, k, v: jnp.sum(weight * attend(q, k, v)), (0, 1, 2)))(q, k, v)

    ours = compare(lambda q, k, v: splash_attention(q, k, v, where.segment_ids_BT, interpret=True))
    theirs = compare(lambda q, k, v: reference_attention(q, k, v, where))
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5, atol=1e-3)
    for one, other in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    padding = np.flatnonzero(segments == 0)
    assert not np.any(splash_attention(q, k, v, where.segment_ids_BT, interpret=True)[:, padding])


def test_a_program_for_tpus_takes_the_splash_kernel():
    """Lowered for a mesh of devices that are not here; other platforms do not take it."""
    from jax.sharding import AbstractDevice, AbstractMesh, AxisType

    q, k, v, _ = (jax.ShapeDtypeStruct(x.shape, x.dtype) for x in random_heads(0, 2, 256, 4, 2, 64))
    where = Places(*(jax.ShapeDtypeStruct((2, 256), jnp.int32),) * 2)
    names = ("data", "fsdp", "tensor", "sequence")
    found = {}
    for platform in ("tpu", "cpu"):
        device = AbstractDevice(device_kind=platform, num_cores=None, platform=platform)
        mesh = AbstractMesh((1, 2, 2, 1), names, axis_types=(AxisType.Auto,) * 4, abstract_device=device)
        with jax.sharding.use_abstract_mesh(mesh):
            found[platform] = str(jax.make_jaxpr(attention)(q, k, v, where))
    assert "pallas_call" in found["tpu"]
    assert "pallas_call" not in found["cpu"]
