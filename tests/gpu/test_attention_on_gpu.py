"""Attention kernels on the card: values and gradients against our reference and torch, both in fp32 on the CPU.

Tolerances are norms of the difference over norms of what is compared. fp32: 1e-5, which products of TF32 (about 5e-4)
would miss. bf16: 1e-2, and no farther from the exact values than twice what the
reference in bf16 is: on an H200 cuDNN's own gradients were at most 1.83 times as far, and those of our kernel 1.52.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from computations import DRY

from mentallama_jax.models.attention import Places
from mentallama_jax.models.attention.cudnn import cudnn_attention
from mentallama_jax.models.attention.forms import PLAIN, Form
from mentallama_jax.models.attention.gpu import segment_attention
from mentallama_jax.models.attention.reference import reference_attention

TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2}
NAMES = ("out", "d_queries", "d_keys", "d_values")
# rows, queries, keys, query heads, key/value heads, width
SHAPES = {
    "causal": [(2, 2048, 2048, 8, 4, 128), (2, 2048, 2048, 9, 3, 64), (3, 1000, 1000, 4, 4, 64), (3, 77, 77, 4, 2, 32)],
    "bidirectional": [(2, 1024, 1024, 8, 2, 64), (2, 333, 333, 4, 4, 128)],
    "cross": [(2, 200, 1500, 4, 2, 128), (2, 640, 384, 8, 8, 64)],
    "unpacked": [(3, 2048, 2048, 8, 2, 128), (3, 500, 500, 9, 3, 64)],
}
FORMS = {"causal": PLAIN, "bidirectional": Form(causal=False), "cross": Form(causal=False, cross=True)}
CASES = [
    pytest.param(kind, shape, dtype, id=f"{kind}-{'x'.join(map(str, shape))}-{dtype}")
    for kind, shapes in SHAPES.items()
    for shape in shapes
    for dtype in ("bfloat16", "float32")
    if kind != "unpacked" or dtype == "bfloat16"  # cuDNN takes 16 bits
]


def smaller(shape):
    """For a dry run: the same but for the lengths."""
    rows, queries, keys, *heads = shape
    return (rows, max(40, queries // 12), max(40, keys // 12), *heads)


def segments(kind, length, seed):
    """Packed rows, a full one and one that ends early; for cuDNN rows of one segment."""
    source = np.random.default_rng(seed)

    def packed(count, used):
        cuts = np.sort(source.choice(np.arange(1, used), count - 1, replace=False))
        ids = np.repeat(np.arange(1, count + 1), np.diff([0, *cuts, used]))
        return np.pad(ids, (0, length - used))

    if kind == "unpacked":
        return [np.pad(np.ones(n, int), (0, length - n)) for n in (length, 3 * length // 4, length // 3)]
    return [packed(5, length), packed(3, length - length // 5), np.ones(length, int)]


def operands(kind, shape):
    """Queries, keys, values and a weighting of the outputs, rounded to bf16 so that all dtypes compute the same."""
    rows, queries, keys, heads, kv_heads, width = shape
    source = np.random.default_rng(sum(shape))
    sizes = [(queries, heads), (keys, kv_heads), (keys, kv_heads), (queries, heads)]
    arrays = [source.normal(size=(rows, length, n, width)).astype(jnp.bfloat16) for length, n in sizes]
    own = np.stack(segments(kind, queries, 1)[:rows]).astype(np.int32)
    other = np.stack(segments(kind, keys, 2)[:rows]).astype(np.int32) if kind == "cross" else own
    return arrays, own, other


def kernel(kind, q, k, v, own, other):
    if kind == "unpacked":
        return cudnn_attention(q, k, v, own, implementation="xla" if DRY else "cudnn")
    keys = other if kind == "cross" else None
    return segment_attention(q, k, v, own, key_segment_ids_BS=keys, form=FORMS[kind], interpret=DRY)


def reference(kind, q, k, v, own, other):
    """By the textbook; positions are places in the row, as segments stand in order."""
    places = Places(jnp.broadcast_to(jnp.arange(own.shape[1]), own.shape), own)
    key_places = Places(jnp.broadcast_to(jnp.arange(other.shape[1]), other.shape), other) if kind == "cross" else None
    causal = kind in ("causal", "unpacked")
    return reference_attention(q, k, v, places, key_places=key_places, causal=causal)


@partial(jax.jit, static_argnums=(0, 1))
def with_gradients(attend, kind, arrays, own, other):
    q, k, v, weight = arrays
    out, pull = jax.vjp(lambda *qkv: attend(kind, *qkv, own, other), q, k, v)
    return [x.astype(jnp.float32) for x in (out, *pull(weight.astype(out.dtype)))]


def by_torch(kind, arrays, own, other):
    torch = pytest.importorskip("torch")
    q, k, v, weight = (torch.tensor(x.astype(np.float32)).transpose(1, 2) for x in arrays)
    repeat = q.shape[1] // k.shape[1]
    for x in (q, k, v):
        x.requires_grad_()
    visible = (own[:, :, None] == other[:, None, :]) & (other[:, None, :] != 0)
    if kind in ("causal", "unpacked"):
        visible &= np.tril(np.ones(visible.shape[1:], bool))
    sees = visible.any(-1)
    mask = torch.tensor(visible | ~sees[..., None])[:, None]
    heads = (x.repeat_interleave(repeat, 1) for x in (k, v))
    out = torch.nn.functional.scaled_dot_product_attention(q, *heads, attn_mask=mask)
    out = out * torch.tensor(sees)[:, None, :, None]
    out.backward(weight)
    return [x.detach().transpose(1, 2).numpy() for x in (out, q.grad, k.grad, v.grad)]


def distance(one, other):
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


@pytest.mark.parametrize(("kind", "shape", "dtype"), CASES)
def test_kernels_equal_the_reference_and_torch(kind, shape, dtype, measured):
    arrays, own, other = operands(kind, smaller(shape) if DRY else shape)
    with jax.default_device(jax.devices("cpu")[0]):
        exact = with_gradients(reference, kind, [x.astype(np.float32) for x in arrays], own, other)
        rounded = with_gradients(reference, kind, arrays, own, other) if dtype == "bfloat16" else exact
        exact, rounded = jax.device_get((exact, rounded))
    ours = jax.device_get(with_gradients(kernel, kind, [x.astype(dtype) for x in arrays], own, other))
    theirs = by_torch(kind, arrays, own, other)
    errors = {name: distance(a, b) for name, a, b in zip(NAMES, ours, exact, strict=True)}
    beside = {name: distance(a, b) for name, a, b in zip(NAMES, rounded, exact, strict=True)}
    to_torch = {name: distance(a, b) for name, a, b in zip(NAMES, ours, theirs, strict=True)}
    measured(error=errors, error_of_reference=beside, to_torch=to_torch)
    assert max(*errors.values(), *to_torch.values()) < TOLERANCE[dtype]
    if dtype == "bfloat16":
        assert all(errors[name] < 2 * beside[name] for name in NAMES)
    padding = own == 0
    assert all(not np.any(x[padding]) for x in ours[:2])
    assert all(not np.any(x[other == 0]) for x in ours[2:])


def test_the_card_takes_our_kernel_for_packed_rows_and_cudnn_for_others():
    from mentallama_jax.models.attention.dispatch import choose

    q = jnp.zeros((1, 128, 4, 64), jnp.bfloat16)
    assert choose("gpu", PLAIN, q).name == "segments"
    assert choose("gpu", Form(unpacked=True), q).name == "cudnn"
    assert DRY or jax.default_backend() == "gpu"
