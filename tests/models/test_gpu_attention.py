"""Attention for GPUs, without one: values in interpret mode and by jax's stand-in for cuDNN, programs by lowering."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax._src.cudnn import fused_attention_stablehlo
from jax.extend.core import jaxprs_in_params
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, use_abstract_mesh

from mentallama_jax.config import parse_config
from mentallama_jax.models.attention import Places, attention
from mentallama_jax.models.attention.cudnn import cudnn_attention
from mentallama_jax.models.attention.gpu import reach, segment_attention
from mentallama_jax.models.attention.reference import reference_attention
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.models.remat import rematerialised
from mentallama_jax.parallel.mesh import AXES
from mentallama_jax.training.mesh_placement import abstract_batch, abstract_state
from mentallama_jax.training.objectives.supervised import Supervised
from mentallama_jax.training.step import make_eval_step, make_train_step

CUDNN, TRITON = "__cudnn$fmhaSoftmax", "__gpu$xla.gpu.triton"
# jax 0.12 says so of all that it lowers by way of Triton.
to_triton = pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")


def random_heads(seed, rows, length, heads, kv_heads, width, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(seed), 4)
    shapes = [(rows, length, n, width) for n in (heads, kv_heads, kv_heads, heads)]
    return [jax.random.normal(key, shape, dtype) for key, shape in zip(keys, shapes, strict=True)]


def places_of(rows):
    """Places of rows of segment ids; positions count the tokens of a segment, wherever they stand."""
    ids = np.asarray(rows, np.int32)
    positions = [[np.sum(row[:t] == row[t]) if row[t] else 0 for t in range(len(row))] for row in ids]
    return Places(jnp.asarray(np.array(positions, np.int32)), jnp.asarray(ids))


def packed_row(lengths, total):
    ids = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    return np.pad(ids, (0, total - len(ids)))


def interpreted(q, k, v, where):
    return segment_attention(q, k, v, where.segment_ids_BT, interpret=True)


def stand_in(q, k, v, where):
    return cudnn_attention(q, k, v, where.segment_ids_BT, implementation="xla")


@partial(jax.jit, static_argnums=0)
def with_gradients(attend, where, q, k, v, weight):
    """Output, and gradients of a random weighting of it, in fp32."""
    out, pull = jax.vjp(lambda *qkv: attend(*qkv, where), q, k, v)
    return [x.astype(jnp.float32) for x in (out, *pull(weight))]


def assert_close(ours, theirs, tolerance):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance, rtol=tolerance)


@pytest.mark.long
@settings(max_examples=10)
@given(st.data())
def test_segment_attention_equals_reference_with_gradients(data):
    total, *heads = data.draw(st.sampled_from([(7, 4, 1, 24), (100, 2, 2, 128), (160, 6, 2, 64)]))
    cuts = [sorted(data.draw(st.sets(st.integers(1, total), max_size=5))) for _ in range(2)]
    where = places_of([packed_row(np.diff([0, *cut]).astype(int), total) for cut in cuts])
    arrays = random_heads(data.draw(st.integers(0, 99)), 2, total, *heads)
    ours = with_gradients(interpreted, where, *arrays)
    assert_close(ours, with_gradients(reference_attention, where, *arrays), 2e-5)
    padding = np.asarray(where.segment_ids_BT) == 0
    assert all(not np.any(x[padding]) for x in ours)


@pytest.mark.long
def test_in_bfloat16_it_is_as_near_to_fp32_as_the_reference_is():
    total = 150
    where = places_of([packed_row([70, 60], total), packed_row([total], total)])
    whole = random_heads(0, 2, total, 4, 2, 128)
    exact = with_gradients(reference_attention, where, *whole)
    half = [x.astype(jnp.bfloat16) for x in whole]
    ours, theirs = (with_gradients(attend, where, *half) for attend in (interpreted, reference_attention))
    for one, other, true in zip(ours, theirs, exact, strict=True):
        assert np.linalg.norm(one - true) < 1.2 * np.linalg.norm(other - true)


@settings(max_examples=8)
@given(st.lists(st.integers(1, 48), min_size=2, max_size=4), st.sampled_from([(4, 4), (4, 2)]))
def test_packed_equals_alone(lengths, heads):
    total = 200
    arrays = [np.asarray(x) for x in random_heads(sum(lengths), 1, total, *heads, 32)]
    packed = with_gradients(interpreted, places_of([packed_row(lengths, total)]), *arrays)
    start = 0
    for size in lengths:
        place = slice(start, start + size)
        only = [np.pad(x[:, place], ((0, 0), (0, total - size), (0, 0), (0, 0))) for x in arrays]
        alone = with_gradients(interpreted, places_of([packed_row([size], total)]), *only)
        assert_close([x[:, place] for x in packed], [x[:, :size] for x in alone], 1e-5)
        start += size


def test_segments_in_any_order_are_honoured():
    """Ids that fall, come back, and leave gaps of padding."""
    rows = [[9] * 40 + [2] * 30 + [0] * 10 + [9] * 50 + [1] * 30, [1, 2] * 80]
    where = places_of(rows)
    arrays = random_heads(3, 2, 160, 2, 1, 16)
    assert_close(with_gradients(interpreted, where, *arrays), with_gradients(reference_attention, where, *arrays), 2e-5)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 3), min_size=24, max_size=24), st.booleans())
def test_every_visible_pair_is_within_reach(ids, in_order):
    block = 4
    ids = np.array(sorted(ids, key=lambda n: n or 9) if in_order else ids, np.int32)
    first, end = (np.asarray(x[0]) for x in reach(jnp.asarray(ids)[None], block))
    for t in range(len(ids)):
        for s in range(t + 1):
            if ids[t] == ids[s] != 0:
                assert first[t // block] <= s // block <= t // block
                assert s // block <= t // block < end[s // block]
    for index, of_block in enumerate(ids.reshape(-1, block)):
        if not np.any(of_block):
            assert first[index] > index
            assert end[index] <= index


def test_packed_rows_cost_little_more_than_their_segments():
    block, total = 64, 2048
    first, end = reach(jnp.asarray(packed_row([182] * 11, total))[None], block)
    index = np.arange(total // block)
    below_diagonal = np.sum(index + 1)
    assert np.sum(np.maximum(index + 1 - first[0], 0)) < 0.3 * below_diagonal
    assert np.sum(np.maximum(end[0] - index, 0)) < 0.3 * below_diagonal
    assert np.sum(index + 1 - reach(jnp.ones((1, total), jnp.int32), block)[0][0]) == below_diagonal


def test_cudnn_by_its_stand_in_equals_reference_with_gradients():
    """Rows full, part full, of one token, and empty; what is padding must not matter, even if it is no number."""
    total = 24
    where = places_of([packed_row([length] if length else [], total) for length in (24, 17, 1, 0)])
    q, k, v, weight = random_heads(1, 4, total, 4, 2, 16)
    theirs = with_gradients(reference_attention, where, q, k, v, weight)
    real = (where.segment_ids_BT != 0)[:, :, None, None]
    spoilt = [jnp.where(real, x, jnp.nan) for x in (q, k, v)]
    assert_close(with_gradients(stand_in, where, *spoilt, weight), theirs, 1e-5)


def test_cudnn_would_drop_segments_so_that_its_rows_must_have_one():
    where = places_of([packed_row([10, 14], 24)])
    q, k, v, _ = random_heads(1, 1, 24, 2, 2, 16)
    assert np.max(np.abs(stand_in(q, k, v, where) - reference_attention(q, k, v, where))) > 0.1


@pytest.mark.parametrize(("dtype", "width"), [(jnp.float32, 64), (jnp.bfloat16, 20), (jnp.bfloat16, 256)])
def test_cudnn_refuses_heads_that_it_does_not_serve(dtype, width):
    q, k, v, _ = random_heads(0, 1, 8, 2, 2, width, dtype)
    with pytest.raises(ValueError, match=rf"takes no heads of {jnp.dtype(dtype).name} with a width of {width}"):
        cudnn_attention(q, k, v, jnp.ones((1, 8), jnp.int32))


@pytest.fixture
def cudnn_in_jax(monkeypatch):
    """As if the jax here had been built with cuDNN: enough to trace and lower, and no more."""
    version = SimpleNamespace(cudnn_get_version=lambda: 91000)
    monkeypatch.setattr(fused_attention_stablehlo, "cuda_versions", version)


def h100s(*sizes):
    """A mesh of GPUs that are not here."""
    device = AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=None, platform="gpu")
    return AbstractMesh(sizes, AXES, axis_types=(AxisType.Auto,) * 4, abstract_device=device)


def chosen(traced):
    """The kernels in a traced program."""
    text = str(traced)
    names = {"segments": "segment_attention_forward", "cudnn": "dot_product_attention_fwd"}
    return {name for name, kernel in names.items() if kernel in text}


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (1, 2, 2, 1), (1, 1, 1, 2)])
@pytest.mark.parametrize(
    ("unpacked", "dtype", "kernels"),
    [
        (False, jnp.bfloat16, {"segments"}),
        (True, jnp.bfloat16, {"cudnn"}),
        (True, jnp.float32, {"segments"}),
        (False, jnp.float32, {"segments"}),
    ],
)
def test_cudnn_is_taken_where_nothing_is_packed_and_nowhere_else(cudnn_in_jax, sizes, unpacked, dtype, kernels):
    q, k, v, _ = (jax.ShapeDtypeStruct(x.shape, dtype) for x in random_heads(0, 2, 128, 4, 2, 64))
    where = Places(*(jax.ShapeDtypeStruct((2, 128), jnp.int32),) * 2)
    with use_abstract_mesh(h100s(*sizes)):
        assert chosen(jax.make_jaxpr(partial(attention, unpacked=unpacked))(q, k, v, where)) == kernels
        assert chosen(jax.make_jaxpr(attention)(q, k, v, where)) == {"segments"}


def toy_step(layout, mesh, *, train=True, remat="full"):
    """The traced training or evaluation step of the toy for a mesh."""
    values = {
        "model": {"source": "toy", "weights": "random", "remat": remat},
        "data": {"train": ["sample"], "max_length": 256, "layout": layout},
        "training": {"run_dir": "-", "steps": 10, "micro_batch_rows": 4},
        "mesh": dict(mesh.shape),
    }
    config = parse_config(values, "test")
    with use_abstract_mesh(mesh):
        state = abstract_state(Supervised(PRESETS["toy"], config), config, 10, mesh)
        batch = abstract_batch(config, mesh, 2)
        if not train:
            return make_eval_step(Supervised(PRESETS["toy"], config)).trace(state["params"], {}, batch)
        shardings = jax.tree.map(lambda x: x.sharding, state)
        return make_train_step(Supervised(PRESETS["toy"], config), config, 10, shardings).trace(state, batch)


def test_a_packed_batch_never_meets_cudnn(cudnn_in_jax):
    """Of all layouts only training batches of the bucketed one are unpacked; evaluations pack whatever the layout."""
    mesh = h100s(1, 2, 2, 1)
    assert chosen(toy_step("packed", mesh).jaxpr) == {"segments"}
    assert chosen(toy_step("packed", mesh, train=False).jaxpr) == {"segments"}
    assert chosen(toy_step("bucketed", mesh).jaxpr) == {"cudnn"}
    assert chosen(toy_step("bucketed", mesh, train=False).jaxpr) == {"segments"}


@to_triton
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (1, 2, 2, 1), (2, 1, 1, 2)])
def test_the_training_step_lowers_for_a_mesh_of_gpus(sizes):
    mesh = h100s(*sizes)
    with use_abstract_mesh(mesh):
        text = toy_step("packed", mesh).lower(lowering_platforms=("cuda",)).as_text()
    kernels = [f'"segment_attention_{kernel}"' for kernel in ("forward", "queries", "keys")]
    assert all(kernel in text for kernel in kernels)
    assert text.count(TRITON) == 4  # the forward one twice: full remat


@to_triton
@pytest.mark.parametrize(("dtype", "width"), [(jnp.bfloat16, 64), (jnp.bfloat16, 128), (jnp.float32, 128)])
def test_the_kernels_lower_with_grouped_heads_and_odd_lengths(dtype, width):
    q, k, v, weight = (jax.ShapeDtypeStruct(x.shape, dtype) for x in random_heads(0, 1, 100, 4, 2, width))
    segments = jax.ShapeDtypeStruct((1, 100), jnp.int32)

    def gradients(q, k, v, weight, segments):
        return jax.vjp(lambda *qkv: segment_attention(*qkv, segments), q, k, v)[1](weight)

    with use_abstract_mesh(h100s(1, 1, 1, 1)):
        lowered = jax.jit(gradients).trace(q, k, v, weight, segments).lower(lowering_platforms=("cuda",))
    assert lowered.as_text().count(TRITON) == 3


def test_cudnn_lowers_and_its_forward_pass_is_kept_by_the_policies(cudnn_in_jax):
    q, k, v, _ = (jax.ShapeDtypeStruct(x.shape, jnp.bfloat16) for x in random_heads(0, 1, 128, 4, 2, 64))
    segments = jax.ShapeDtypeStruct((1, 128), jnp.int32)

    def launches(remat):
        def loss(q, k, v, segments):
            def layer(x, _):
                return cudnn_attention(x, k, v, segments), None

            return jnp.sum(jax.lax.scan(rematerialised(layer, remat, False), q, None, length=3)[0])

        text = jax.jit(jax.grad(loss)).trace(q, k, v, segments).lower(lowering_platforms=("cuda",)).as_text()
        return text.count(f"@{CUDNN}("), text.count(f"@{CUDNN}Backward(")

    assert launches("full") == (2, 1)
    assert launches("attention") == (1, 1)
    assert launches("none") == (1, 1)


def test_the_policies_keep_what_the_segment_kernel_computed():
    q, k, v, _ = (jax.ShapeDtypeStruct(x.shape, x.dtype) for x in random_heads(0, 1, 64, 2, 2, 16))
    segments = jax.ShapeDtypeStruct((1, 64), jnp.int32)

    def launches(remat):
        def loss(q, k, v, segments):
            layer = lambda x, _: (segment_attention(x, k, v, segments), None)  # noqa: E731
            return jnp.sum(rematerialised(layer, remat, False)(q, None)[0])

        return used_kernels(jax.make_jaxpr(jax.value_and_grad(loss, (0, 1, 2)))(q, k, v, segments).jaxpr)

    assert launches("full") == 4
    assert launches("attention") == 3


def used_kernels(jaxpr):
    """Kernels of a program whose results somebody reads; jax 0.10 leaves the others for the compiler to drop."""
    read = {var for equation in jaxpr.eqns for var in equation.invars if not hasattr(var, "val")}
    read |= {var for var in jaxpr.outvars if not hasattr(var, "val")}
    count = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "pallas_call":
            count += any(var in read for var in equation.outvars)
        else:
            count += sum(used_kernels(part) for part in jaxprs_in_params(equation.params))
    return count
