"""Every form of attention beside torch; forms that an implementation cannot do are refused, never computed wrongly."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentallama_jax.models.attention import Places, attention, cudnn, dispatch, gpu, tpu
from mentallama_jax.models.attention.cpu import BLOCK, blockwise_attention
from mentallama_jax.models.attention.forms import Form
from mentallama_jax.models.attention.reference import reference_attention

FORMS = [Form(*form) for form in itertools.product((True, False), repeat=3)]
NOT_PLAIN = [form for form in FORMS if not form.is_plain]
NEVER_FUSED = [form for form in NOT_PLAIN if form.causal or form.biased]


def places_of(random, rows, length, segments):
    """Segments of random lengths from left to right, padding behind them."""
    ids = np.zeros((rows, length), np.int32)
    positions = np.zeros((rows, length), np.int32)
    for row in range(rows):
        ends = np.sort(random.integers(1, length + 1, segments))
        for segment, (start, end) in enumerate(itertools.pairwise([0, *ends]), start=1):
            ids[row, start:end] = segment
            positions[row, start:end] = np.arange(end - start)
    return Places(jnp.asarray(positions), jnp.asarray(ids))


def case(seed, form, length, keys, kv_heads, bias_shape=(1, 1, 1, 1)):
    """Queries, keys, values, a weight for the outputs, places, places of keys, and a bias, of 2 rows and 4 heads."""
    random = np.random.default_rng(seed)
    keys = keys if form.cross else length
    shapes = ((2, length, 4, 8), (2, keys, kv_heads, 8), (2, keys, kv_heads, 8), (2, length, 4, 8))
    q, k, v, weight = (jnp.asarray(random.standard_normal(shape), jnp.float32) for shape in shapes)
    whole = (2, 4, length, keys)
    shape = tuple(full if wide else 1 for full, wide in zip(whole, bias_shape, strict=True))
    bias = jnp.asarray(random.standard_normal(shape), jnp.float32) if form.biased else None
    key_places = places_of(random, 2, keys, 3) if form.cross else None
    return (q, k, v, bias), weight, places_of(random, 2, length, 3), key_places


def outcome(attend, arrays, weight, places, key_places, form):
    """Outputs, and the gradients of a weighted sum of them."""
    q, k, v, bias = arrays

    def loss(q, k, v, bias):
        out = attend(q, k, v, places, key_places=key_places, causal=form.causal, bias=bias)
        return jnp.sum(weight * out), out

    wanted = (0, 1, 2) if bias is None else (0, 1, 2, 3)
    (_, out), gradients = jax.jit(jax.value_and_grad(loss, wanted, has_aux=True))(q, k, v, bias)
    return [out, *gradients]


def by_torch(arrays, weight, places, key_places, form):
    torch = pytest.importorskip("torch")
    q, k, v, bias = (None if x is None else torch.tensor(np.asarray(x), requires_grad=True) for x in arrays)
    keys = places if key_places is None else key_places
    segments, others = (np.asarray(x.segment_ids_BT) for x in (places, keys))
    seen = (segments[:, :, None] == others[:, None]) & (others[:, None] != 0)
    if form.causal:
        seen &= np.asarray(keys.positions_BT)[:, None] <= np.asarray(places.positions_BT)[:, :, None]
    mask = torch.zeros(seen.shape).masked_fill(torch.tensor(~seen), float("-inf"))[:, None]
    empty = torch.tensor(~seen.any(-1))[:, None, :, None]
    mask = torch.where(empty, 0.0, mask)  # a row that sees nothing would be NaN there; its output is cleared below
    group = q.shape[2] // k.shape[2]
    heads = [q.transpose(1, 2), *(x.transpose(1, 2).repeat_interleave(group, 1) for x in (k, v))]
    out = torch.nn.functional.scaled_dot_product_attention(*heads, attn_mask=mask if bias is None else mask + bias)
    out = torch.where(empty, 0.0, out).transpose(1, 2)
    (out * torch.tensor(np.asarray(weight))).sum().backward()
    return [out.detach().numpy(), *(x.grad.numpy() for x in (q, k, v, bias) if x is not None)]


def assert_alike(ours, theirs, tolerance=1e-5):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        scale = max(1.0, float(np.abs(other).max()))
        np.testing.assert_allclose(one / scale, other / scale, atol=tolerance)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("attend", [reference_attention, blockwise_attention])
def test_every_form_is_that_of_torch_with_gradients(attend, form):
    given_case = case(1, form, BLOCK, 72, 2, (0, 1, 1, 1))
    assert_alike(outcome(attend, *given_case, form), by_torch(*given_case, form))


@pytest.mark.long
@settings(max_examples=12)
@given(st.data())
def test_blockwise_is_the_reference_in_any_form_and_shape(data):
    form = data.draw(st.sampled_from(FORMS))
    length = BLOCK * data.draw(st.sampled_from([1, 2]))
    keys = data.draw(st.integers(1, 200))
    bias_shape = data.draw(st.tuples(*(st.booleans(),) * 4))
    given_case = case(
        data.draw(st.integers(0, 99)), form, length, keys, data.draw(st.sampled_from([1, 2, 4])), bias_shape
    )
    ours, theirs = (outcome(attend, *given_case, form) for attend in (blockwise_attention, reference_attention))
    assert_alike(ours, theirs, 2e-5)


@pytest.mark.parametrize("form", NEVER_FUSED, ids=str)
def test_fused_kernels_refuse_what_they_cannot_do(form):
    q = jnp.zeros((1, 128, 2, 64), jnp.bfloat16)
    segments = jnp.ones((1, 128), jnp.int32)
    with pytest.raises(ValueError, match=f"splash attention cannot do {form} with queries"):
        tpu.splash_attention(q, q, q, segments, form=form)
    with pytest.raises(ValueError, match=f"segment attention cannot do {form} with queries"):
        gpu.segment_attention(q, q, q, segments, form=form)


@pytest.mark.parametrize("form", NOT_PLAIN, ids=str)
def test_cudnn_refuses_all_but_causal_self_attention(form):
    q = jnp.zeros((1, 128, 2, 64), jnp.bfloat16)
    unpacked = Form(form.causal, form.cross, form.biased, unpacked=True)
    with pytest.raises(ValueError, match=f"cuDNN attention cannot do {form} with queries"):
        cudnn.cudnn_attention(q, q, q, jnp.ones((1, 128), jnp.int32), form=unpacked)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_fused_kernels_are_chosen_where_they_can_do_the_form(form):
    q = jnp.zeros((1, 40, 2, 64), jnp.float32)
    fused = form not in NEVER_FUSED

    def chosen(platform):
        return dispatch.choose(platform, form, q).name

    assert chosen("tpu") == ("splash" if fused else "reference")
    assert chosen("gpu") == ("segments" if fused else "reference")
    assert chosen("cpu") == "reference"


@pytest.mark.parametrize("platform", ["tpu", "gpu"])
def test_a_step_of_a_decoder_is_left_to_the_reference(platform):
    names = {}
    for length in (1, 16, 17):
        q = jnp.zeros((4, length, 2, 64), jnp.bfloat16)
        names[length] = [dispatch.choose(platform, Form(False, cross), q).name for cross in (True, False)]
    kernel = {"tpu": "splash", "gpu": "segments"}[platform]
    assert names == {1: ["reference", kernel], 16: ["reference", kernel], 17: [kernel, kernel]}


@pytest.mark.parametrize("platform", ["tpu", "gpu", "cpu"])
@pytest.mark.parametrize("form", NOT_PLAIN, ids=str)
def test_dispatch_passes_other_forms_to_one_that_can(platform, form, monkeypatch):
    monkeypatch.setattr(dispatch, "platform", lambda: platform)
    for module, name in ((tpu, "splash_attention"), (gpu, "segment_attention")):
        monkeypatch.setattr(module, name, partial(getattr(module, name), interpret=True))
    for length in (40, BLOCK):
        arrays, _, places, key_places = case(3, form, length, 24, 2)
        q, k, v, bias = arrays
        options = {"key_places": key_places, "causal": form.causal, "bias": bias}
        ours = attention(q, k, v, places, **options, unpacked=True)
        np.testing.assert_allclose(ours, reference_attention(q, k, v, places, **options), atol=2e-6)


def test_keys_of_another_length_need_places_and_a_bias_must_broadcast():
    (q, k, v, _), _, places, _ = case(0, Form(), BLOCK, BLOCK, 2)
    with pytest.raises(ValueError, match="say where the keys stand"):
        blockwise_attention(q, k[:, :8], v[:, :8], places)
    with pytest.raises(ValueError, match="does not broadcast to the scores"):
        attention(q, k, v, places, bias=jnp.zeros((1, 3, BLOCK, BLOCK)))
