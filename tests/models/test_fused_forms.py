"""Attention without causality in the fused kernels for TPUs and GPUs, interpreted, beside the reference."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, use_abstract_mesh

from mentallama_jax.models.attention import Places, attention, tpu
from mentallama_jax.models.attention.forms import Form
from mentallama_jax.models.attention.gpu import reach_both_ways, segment_attention
from mentallama_jax.models.attention.reference import reference_attention
from mentallama_jax.models.attention.tpu import splash_attention
from mentallama_jax.models.bert import BertConfig
from mentallama_jax.models.module import abstract_params, bind
from mentallama_jax.parallel.mesh import AXES

SELF, CROSS = Form(causal=False), Form(causal=False, cross=True)
KERNELS = [splash_attention, segment_attention]


def random_heads(seed, rows, queries, keys, heads, kv_heads, width, dtype=jnp.float32):
    """Queries, keys, values, and a weight for the outputs."""
    of = jax.random.split(jax.random.key(seed), 4)
    shapes = [(rows, length, n, width) for length, n in ((queries, heads), (keys, kv_heads), (keys, kv_heads))]
    return [jax.random.normal(key, shape, dtype) for key, shape in zip(of, [*shapes, shapes[0]], strict=True)]


def by(kernel, q, k, v, segments, key_segments):
    form = SELF if key_segments is None else CROSS
    return kernel(q, k, v, segments, key_segment_ids_BS=key_segments, form=form, interpret=True)


def by_reference(q, k, v, segments, key_segments):
    places, key_places = (None if x is None else Places(jnp.zeros_like(x), x) for x in (segments, key_segments))
    return reference_attention(q, k, v, places, key_places=key_places, causal=False)


@partial(jax.jit, static_argnums=0)
def with_gradients(attend, arrays, segments, key_segments):
    """Output, and gradients of a random weighting of it, in fp32."""
    *heads, weight = arrays
    out, pull = jax.vjp(lambda *qkv: attend(*qkv, segments, key_segments), *heads)
    return [x.astype(jnp.float32) for x in (out, *pull(weight))]


ATTEND = {kernel: partial(by, kernel) for kernel in KERNELS}
"""One object each, so that `with_gradients` is traced once for a kernel and a shape."""


def assert_alike(ours, theirs, tolerance=1e-5):
    for one, other in zip(ours, theirs, strict=True):
        scale = max(1.0, float(np.abs(other).max()))
        np.testing.assert_allclose(one / scale, other / scale, atol=tolerance)


def rows_of_segments(data, length, rows=2):
    """Ids in any order, with gaps of padding, in runs of any length; some of the five ids may be missing."""
    ids = np.zeros((rows, length), np.int32)
    for row in ids:
        ends = sorted(data.draw(st.sets(st.integers(1, length), max_size=5)))
        for start, end in zip([0, *ends], [*ends, length], strict=True):
            row[start:end] = data.draw(st.integers(0, 5))
    return jnp.asarray(ids)


@pytest.mark.long
@pytest.mark.parametrize("kernel", KERNELS)
@settings(max_examples=12)
@given(data=st.data())
def test_without_causality_it_is_the_reference_with_gradients(kernel, data):
    """Odd lengths, grouped heads, several segments, padding, and of another sequence segments that have no partner."""
    shapes = [
        (7, None, 4, 1, 24),
        (130, None, 2, 2, 64),
        (200, None, 6, 2, 16),
        (33, 200, 4, 2, 16),
        (200, 7, 2, 1, 64),
    ]
    queries, keys, *heads = data.draw(st.sampled_from(shapes))
    segments = rows_of_segments(data, queries)
    key_segments = None if keys is None else rows_of_segments(data, keys)
    arrays = random_heads(data.draw(st.integers(0, 99)), 2, queries, keys or queries, *heads)
    ours = with_gradients(ATTEND[kernel], arrays, segments, key_segments)
    assert_alike(ours, with_gradients(by_reference, arrays, segments, key_segments))
    assert not np.any(ours[0][np.asarray(segments) == 0])


def partners_missing():
    """Queries of segment 2 have no keys, keys of segment 4 no queries; the second row has no padding, the third no key,
    the fourth no query."""
    queries = [[1] * 50 + [2] * 30 + [3] * 40 + [0] * 10, [2] * 130, [1] * 130, [0] * 130]
    keys = [[1] * 60 + [3] * 100 + [4] * 40, [4] * 128 + [3] * 72, [0] * 200, [1] * 200]
    return jnp.asarray(queries, jnp.int32), jnp.asarray(keys, jnp.int32)


@pytest.mark.long
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_query_that_sees_no_key_gives_zeros_and_no_gradient(kernel):
    segments, key_segments = partners_missing()
    arrays = random_heads(0, 4, 130, 200, 4, 2, 16)
    ours = with_gradients(ATTEND[kernel], arrays, segments, key_segments)
    assert all(np.all(np.isfinite(x)) for x in ours)
    assert_alike(ours, with_gradients(by_reference, arrays, segments, key_segments))
    out, d_q, d_k, d_v = ours
    lonely = ~np.any(segments[:, :, None] == jnp.where(key_segments == 0, -1, key_segments)[:, None], axis=2)
    unseen = ~np.any(key_segments[:, :, None] == jnp.where(segments == 0, -1, segments)[:, None], axis=2)
    assert lonely.sum() == 40 + 3 * 130
    assert not np.any(out[lonely])
    assert not np.any(d_q[lonely])
    assert not np.any(d_k[unseen])
    assert not np.any(d_v[unseen])


@pytest.mark.long
def test_splash_alone_would_average_all_values_where_a_query_sees_no_key(monkeypatch):
    """Its softmax over masked scores is even, and its backward pass takes each weight for 1."""
    segments, key_segments = partners_missing()
    *heads, weight = random_heads(0, 4, 130, 200, 4, 4, 16)
    monkeypatch.setattr(tpu, "_sees_any", lambda segments_BT, _: jnp.ones(segments_BT.shape, bool))
    out, pull = jax.vjp(lambda *qkv: by(splash_attention, *qkv, segments, key_segments), *heads)
    padded = 256
    np.testing.assert_allclose(out[1, 0], heads[2][1].sum(0) / padded, atol=1e-6)
    np.testing.assert_allclose(pull(weight)[2][1, 0], weight[1].sum(0), atol=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
def test_packed_texts_are_each_as_alone(kernel):
    lengths, total = [70, 3, 60], 150
    arrays = [np.asarray(x) for x in random_heads(4, 1, total, total, 4, 2, 32)]
    ids = np.pad(np.repeat([1, 2, 3], lengths), (0, total - sum(lengths)))[None].astype(np.int32)
    packed = with_gradients(ATTEND[kernel], arrays, jnp.asarray(ids), None)
    for start, size in zip(np.cumsum([0, *lengths]), lengths, strict=False):
        place = slice(start, start + size)
        only = [np.pad(x[:, place], ((0, 0), (0, total - size), (0, 0), (0, 0))) for x in arrays]
        alone = with_gradients(ATTEND[kernel], only, jnp.asarray(np.arange(total)[None] < size, jnp.int32), None)
        assert_alike([x[:, place] for x in packed], [x[:, :size] for x in alone])


@pytest.mark.parametrize("form", [SELF, CROSS], ids=str)
@pytest.mark.parametrize("kernel", KERNELS)
def test_in_bfloat16_it_is_as_near_to_fp32_as_the_reference_is(kernel, form):
    queries, keys = 150, 90 if form.cross else 150
    segments = jnp.asarray(np.repeat([[1, 2, 0]], [70, 60, 20], axis=1), jnp.int32)
    key_segments = jnp.asarray(np.repeat([[1, 2, 0]], [30, 50, 10], axis=1), jnp.int32) if form.cross else None
    whole = random_heads(0, 1, queries, keys, 4, 2, 64)
    exact = with_gradients(by_reference, whole, segments, key_segments)
    half = [x.astype(jnp.bfloat16) for x in whole]
    ours, theirs = (with_gradients(attend, half, segments, key_segments) for attend in (ATTEND[kernel], by_reference))
    for one, other, true in zip(ours, theirs, exact, strict=True):
        assert np.linalg.norm(one - true) < 1.2 * np.linalg.norm(other - true)


@pytest.mark.parametrize("form", [SELF, CROSS], ids=str)
@pytest.mark.parametrize("kernel", KERNELS)
def test_segments_of_keys_come_with_cross_attention_alone(kernel, form):
    q, k, v, _ = random_heads(0, 1, 8, 8, 2, 2, 16)
    segments = jnp.ones((1, 8), jnp.int32)
    with pytest.raises(ValueError, match=rf"{form} {'needs' if form.cross else 'takes no'} segments of its keys"):
        kernel(q, k, v, segments, key_segment_ids_BS=None if form.cross else segments, form=form, interpret=True)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 4), min_size=24, max_size=24), st.lists(st.integers(0, 4), min_size=16, max_size=16))
def test_every_pair_of_one_segment_is_within_reach(queries, keys):
    block = 4
    of_queries, of_keys = reach_both_ways(*(jnp.asarray(x, jnp.int32)[None] for x in (queries, keys)), block)
    (first, end), (first_query, end_query) = (np.asarray(x[0]).reshape(2, -1) for x in (of_queries, of_keys))
    for t, s in np.ndindex(len(queries), len(keys)):
        if queries[t] == keys[s] != 0:
            assert first[t // block] <= s // block < end[t // block]
            assert first_query[s // block] <= t // block < end_query[s // block]
    for ids, (starts, ends) in ((queries, (first, end)), (keys, (first_query, end_query))):
        for index, of_block in enumerate(np.reshape(ids, (-1, block))):
            if not np.any(of_block):
                assert starts[index] > ends[index]


def test_packed_texts_cost_little_more_than_their_segments():
    block, total = 64, 2048
    ids = jnp.asarray(np.pad(np.repeat(np.arange(1, 12), 182), (0, total - 11 * 182)), jnp.int32)[None]
    tiles = (total // block) ** 2
    for met in reach_both_ways(ids, ids, block):
        first, end = np.asarray(met[0]).reshape(2, -1)
        assert np.sum(np.maximum(end - first, 0)) < 0.16 * tiles
    first, end = np.asarray(reach_both_ways(*(jnp.ones((1, total), jnp.int32),) * 2, block)[0][0]).reshape(2, -1)
    assert np.sum(end - first) == tiles


PLATFORMS = {
    "tpu": ("TPU v5 lite", "tpu", "tpu_custom_call"),
    "gpu": ("NVIDIA H100 80GB HBM3", "cuda", "__gpu$xla.gpu.triton"),
}
"""The kind of a device, what programs for it are lowered for, and the call of a kernel there."""
BERT = BertConfig(
    vocab_size=64,
    hidden_size=128,
    intermediate_size=192,
    num_layers=3,
    num_heads=4,
    max_positions=128,
    position_offset=0,
    type_vocab_size=2,
    layer_norm_eps=1e-12,
    activation="gelu",
    pooler=True,
    num_labels=4,
    dropout=0.0,
    classifier_dropout=0.0,
)


def lowered(function, platform, sizes, *arguments):
    """The text of a program for a mesh of devices that are not here."""
    kind, target, _ = PLATFORMS[platform]
    device = AbstractDevice(device_kind=kind, num_cores=None, platform=platform)
    mesh = AbstractMesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(sizes), abstract_device=device)
    with use_abstract_mesh(mesh):
        return jax.jit(function).trace(*arguments).lower(lowering_platforms=(target,)).as_text()


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (1, 2, 2, 1), (2, 1, 1, 2)])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_an_encoder_lowers_to_the_kernel_forward_and_backward(platform, sizes):
    tokens = jax.ShapeDtypeStruct((4, 100), jnp.int32)

    def launches(remat):
        def loss(params, tokens, places, segments):
            model = bind(BERT, params)
            hidden, _ = model.hidden(tokens, places, segments, dtype=jnp.bfloat16, remat=remat)
            return jnp.sum(model.class_logits(hidden).astype(jnp.float32))

        arguments = abstract_params(BERT), tokens, tokens, tokens
        text = lowered(jax.value_and_grad(loss), platform, sizes, *arguments)
        assert "x100x100x" not in text  # no scores
        return text.count(PLATFORMS[platform][2])

    assert launches("none") == 3  # outputs; gradients of queries; of keys and values
    assert launches("full") == 4  # outputs twice
    if platform == "tpu":  # jax 0.10 leaves kernels for GPUs that nobody reads to the compiler
        assert launches("attention") == 3


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (1, 2, 2, 1), (2, 1, 1, 2)])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_cross_attention_lowers_to_the_kernel_forward_and_backward(platform, sizes):
    q, k, v, weight = (jax.ShapeDtypeStruct(x.shape, jnp.bfloat16) for x in random_heads(0, 2, 60, 100, 8, 4, 64))
    own, other = (jax.ShapeDtypeStruct((2, length), jnp.int32) for length in (60, 100))

    def gradients(q, k, v, weight, own, other):
        attend = partial(attention, places=Places(own, own), key_places=Places(other, other), causal=False)
        return jax.vjp(attend, q, k, v)[1](weight)

    text = lowered(gradients, platform, sizes, q, k, v, weight, own, other)
    assert text.count(PLATFORMS[platform][2]) == 3
