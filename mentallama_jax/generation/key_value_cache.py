"""Keys and values of what was read so far, and attention to them.

Shape suffixes: B rows, T new tokens, S cache slots, N query heads, K key/value heads, G = N / K, H head width.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mentallama_jax.models.attention.dispatch import platform
from mentallama_jax.models.attention.forms import MASKED
from mentallama_jax.models.attention.reference import by_group
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.quantised import SCALE_DTYPE, to_int8
from mentallama_jax.parallel.rules import constrain, current_mesh

MATRIX_ROWS = 8
"""Rows of a product that the matrix unit of a TPU takes at once."""
CACHE = ("batch", "heads", None, None)
"""Names of the dimensions of cached keys and values; slots are not cut, as each step writes one of them."""


class LayerCache(NamedTuple):
    """Keys and values of one layer, laid out so that neither product of a decoding step transposes them.

    Attributes:
        keys_BKHS: in the dtype of the activations, or int8.
        values_BKSH: likewise.
        key_scales_BK1S: of int8 keys, bfloat16: one for each head and slot; else None.
        value_scales_BK1S: of int8 values.
    """

    keys_BKHS: jax.Array
    values_BKSH: jax.Array
    key_scales_BK1S: jax.Array | None = None
    value_scales_BK1S: jax.Array | None = None


KeyValueCache = tuple[LayerCache, ...]
"""One for each layer."""
_SLOT_AXES = (3, 2, 3, 3)


def each_array(function: Callable[..., jax.Array], *caches: LayerCache) -> LayerCache:
    """The cache of what `function` makes of each array: (the axis of its slots, that array of each of the caches)."""
    sides = zip(_SLOT_AXES, *caches, strict=True)
    made = [None if arrays[0] is None else function(axis, *arrays) for axis, *arrays in sides]
    return LayerCache(*made)  # type: ignore[arg-type]  # the first two are always there


def slots_of(cache: KeyValueCache) -> int:
    """The slots of a row."""
    return cache[0].keys_BKHS.shape[3]


def rows_of(cache: KeyValueCache, rows_R: jax.Array) -> KeyValueCache:
    """The cache of these of its rows, all of which it has."""
    taken: KeyValueCache = jax.tree.map(lambda x: jnp.take(x, rows_R, axis=0, mode="clip"), cache)
    return taken


def empty(
    config: LlamaConfig, rows: int, slots: int, dtype: Any, names: tuple[str | None, ...] = CACHE
) -> KeyValueCache:
    """A cache of nothing but room, its dimensions by these names; of the dtype int8 with room for scales."""
    K, H = config.num_kv_heads, config.head_dim
    layer = LayerCache(jnp.zeros((rows, K, H, slots), dtype), jnp.zeros((rows, K, slots, H), dtype))
    if jnp.dtype(dtype) == jnp.int8:
        scales = jnp.zeros((rows, K, 1, slots), SCALE_DTYPE)
        layer = LayerCache(layer.keys_BKHS, layer.values_BKSH, scales, scales)
    return (each_array(lambda axis, x: constrain(x, *names), layer),) * config.num_layers


def laid_out(k_BTKH: jax.Array, v_BTKH: jax.Array, free: int = 0, dtype: Any = None) -> LayerCache:
    """A cache that holds these keys and values in its first slots, and has `free` slots behind them.

    `dtype` is that of the cache: int8, or else that of what it holds.
    """
    k_BKTH, v_BKTH = (jnp.transpose(x, (0, 2, 1, 3)) for x in (k_BTKH, v_BTKH))
    if dtype is not None and jnp.dtype(dtype) == jnp.int8:
        (k_BKTH, k_scales), (v_BKTH, v_scales) = to_int8(k_BKTH, (3,)), to_int8(v_BKTH, (3,))
        layer = LayerCache(k_BKTH.swapaxes(2, 3), v_BKTH, k_scales.swapaxes(2, 3), v_scales.swapaxes(2, 3))
    else:
        layer = LayerCache(k_BKTH.swapaxes(2, 3), v_BKTH)

    def padded(axis: int, x: jax.Array) -> jax.Array:
        padding = [(0, 0)] * 4
        padding[axis] = (0, free)
        return constrain(jnp.pad(x, padding), *CACHE)

    return each_array(padded, layer)


def as_held(x_BTKH: jax.Array, dtype: Any) -> jax.Array:
    """Keys or values as a cache of this dtype gives them back, so that all who see them see the same."""
    if dtype is None or jnp.dtype(dtype) != jnp.int8:
        return x_BTKH
    units, scales = to_int8(x_BTKH, (3,))
    return units.astype(x_BTKH.dtype) * scales.astype(x_BTKH.dtype)


def write(cache: LayerCache, k_BTKH: jax.Array, v_BTKH: jax.Array, slot: jax.Array | int) -> LayerCache:
    """The cache with these keys and values from `slot` on."""

    def written(axis: int, old: jax.Array, new: jax.Array) -> jax.Array:
        return constrain(jax.lax.dynamic_update_slice_in_dim(old, new, slot, axis), *CACHE)

    return each_array(written, cache, laid_out(k_BTKH, v_BTKH, dtype=cache.keys_BKHS.dtype))


def write_each(cache: LayerCache, k_BTKH: jax.Array, v_BTKH: jax.Array, slots_B: jax.Array) -> LayerCache:
    """The cache with a few keys and values from a slot of its own on in each row; all of it is passed over."""

    def written(axis: int, old: jax.Array, new: jax.Array) -> jax.Array:
        offsets_BS = jnp.arange(old.shape[axis]) - slots_B[:, None]
        offsets = jnp.expand_dims(offsets_BS, (1, 5 - axis))
        for place in range(new.shape[axis]):
            old = jnp.where(offsets == place, jax.lax.slice_in_dim(new, place, place + 1, axis=axis), old)
        return constrain(old, *CACHE)

    return each_array(written, cache, laid_out(k_BTKH, v_BTKH, dtype=cache.keys_BKHS.dtype))


def cached_attention(
    q_BTNH: jax.Array, cache: LayerCache, visible_BTS: jax.Array, bias_BNTS: jax.Array | None = None
) -> jax.Array:
    """Softmax attention over cache slots, scores scaled by 1/sqrt(H) plus the bias, softmax in fp32; [B, T, N, H]."""
    B, T, N, H = q_BTNH.shape
    K, S = cache.values_BKSH.shape[1:3]
    G = N // K
    q_BKR1H = q_BTNH.reshape(B, T, K, G, H).swapaxes(1, 2).reshape(B, K, T * G, 1, H)
    single = _heads_joined(cache, 1)
    scores = _scores(q_BKR1H, single).reshape(B, K, T, G, S)
    if bias_BNTS is not None:
        scores = scores + by_group(bias_BNTS, K).swapaxes(2, 3)
    scores = jnp.where(visible_BTS[:, None, :, None], scores, MASKED)
    weights_BKRS = jax.nn.softmax(scores, axis=-1).reshape(B, K, T * G, S)
    out_BKR1H = _mixed(weights_BKRS, single, q_BTNH.dtype).astype(q_BTNH.dtype)
    out_BTNH = out_BKR1H.reshape(B, K, T, G, H).swapaxes(1, 2).reshape(B, T, N, H)
    return constrain(out_BTNH, "batch", None, "heads", None)


def joint_attention(q_BTNH: jax.Array, caches: Sequence[LayerCache], visible: Sequence[jax.Array]) -> jax.Array:
    """Attention of a few queries of each row to several caches as if they were one; [B, T, N, H].

    Args:
        q_BTNH: queries.
        caches: whose slots differ.
        visible: for each cache [B or 1, T or 1, S] bool, which of its slots a query sees.
    """
    B, T, N, H = q_BTNH.shape
    K, dtype = caches[0].keys_BKHS.shape[1], q_BTNH.dtype
    G = N // K
    J = _heads_together(K, T * G)
    q_BKTGH = q_BTNH.reshape(B, T, K, G, H).swapaxes(1, 2)
    q_BMRJH = _apart(q_BKTGH.reshape(B, K // J, J, T * G, H))
    joined = [_heads_joined(cache, J) for cache in caches]
    scores = [
        jnp.where(_of_each_head(visible_BTS, J, G)[:, None], _scores(q_BMRJH, cache), MASKED)
        for cache, visible_BTS in zip(joined, visible, strict=True)
    ]
    # The sums of the softmax divide at the end: so no array of all scores is put together and cut again.
    highest_BMR1 = reduce(jnp.maximum, (jnp.max(one, axis=-1, keepdims=True) for one in scores))
    weights = [jnp.exp(one - highest_BMR1) for one in scores]
    total_BMR1 = reduce(jnp.add, (jnp.sum(one, axis=-1, keepdims=True) for one in weights))
    out_BMRJH = reduce(jnp.add, (_mixed(*pair, dtype) for pair in zip(weights, joined, strict=True)))
    out_BMJRH = _of_own_head(out_BMRJH / total_BMR1[..., None], T * G).astype(dtype)
    out_BTKGH = out_BMJRH.reshape(B, K, T, G, H).swapaxes(1, 2)
    return constrain(out_BTKGH.reshape(B, T, N, H), "batch", None, "heads", None)


def _of_each_head(visible_BTS: jax.Array, J: int, G: int) -> jax.Array:
    """[B or 1, J * T * G or 1, S]: the same for each of the heads that share a product, in the order of its rows."""
    B, T, S = visible_BTS.shape
    if T == 1:
        return visible_BTS
    return jnp.broadcast_to(visible_BTS[:, None, :, None], (B, J, T, G, S)).reshape(B, J * T * G, S)


def _heads_together(K: int, G: int) -> int:
    """How many key/value heads on a device share a product: as many as fill the rows of the matrix unit of a TPU.

    The queries of a head then stand beside zeros in the place of the other heads. That costs the matrix unit nothing,
    as it takes eight rows at once whether they are there or not, and it is what makes the compiler use it: the product
    of a single query becomes sums of the vector unit, at six times the cycles, more than the memory takes to deliver
    keys and values. Scores of several heads in the rows of one array also cost the softmax an eighth of what they cost
    filled up with rows of nothing.
    """
    if platform() != "tpu":
        return 1
    mesh = current_mesh()
    own = K if mesh is None else K // mesh.shape["tensor"]
    return next(J for J in range(max(1, min(own, MATRIX_ROWS // G)), 0, -1) if own % J == 0)


def _heads_joined(cache: LayerCache, J: int) -> LayerCache:
    """The cache with its heads, M times J of them, in two dimensions."""
    return each_array(lambda _, x: x.reshape(x.shape[0], -1, J, *x.shape[2:]), cache)


def _apart(q_BMJGH: jax.Array) -> jax.Array:
    """[B, M, J * G, J, H]: the queries of J heads, each beside zeros in the place of the others.

    On TPUs they stand behind a barrier, so that they are made at once, and a single one is filled up to `MATRIX_ROWS`.
    """
    B, M, J, G, H = q_BMJGH.shape
    own_J1J1 = jnp.eye(J, dtype=q_BMJGH.dtype)[:, None, :, None]
    q_BMRJH = (q_BMJGH[:, :, :, :, None] * own_J1J1).reshape(B, M, J * G, J, H)
    if platform() != "tpu":
        return q_BMRJH
    missing = MATRIX_ROWS - 1 if J * G == 1 else 0
    return jax.lax.optimization_barrier(jnp.pad(q_BMRJH, ((0, 0), (0, 0), (0, missing), (0, 0), (0, 0))))


def _of_own_head(out_BMRJH: jax.Array, G: int) -> jax.Array:
    """[B, M, J, G, H]: of each row, what came of the values of its own head."""
    B, M, _, J, H = out_BMRJH.shape
    out_BMJGJH = out_BMRJH[:, :, : J * G].reshape(B, M, J, G, J, H)
    return jnp.sum(out_BMJGJH * jnp.eye(J, dtype=out_BMRJH.dtype)[:, None, :, None], axis=4)


def _scores(q_BMRJH: jax.Array, cache: LayerCache) -> jax.Array:
    """[B, M, R, S] fp32: products of queries and keys over the root of their width."""
    B, M, R, J, H = q_BMRJH.shape
    keys_BMES = cache.keys_BKHS.astype(q_BMRJH.dtype).reshape(B, M, J * H, -1)
    scores = _product("BMRE,BMES->BMRS", q_BMRJH.reshape(B, M, R, J * H), keys_BMES) * H**-0.5
    return scores if cache.key_scales_BK1S is None else scores * _by_row(cache.key_scales_BK1S, R)


def _mixed(weights_BMRS: jax.Array, cache: LayerCache, dtype: Any) -> jax.Array:
    """[B, M, R, J, H] fp32: sums of the values of each head by weights; the product is one of numbers of `dtype`."""
    if cache.value_scales_BK1S is not None:
        weights_BMRS = weights_BMRS * _by_row(cache.value_scales_BK1S, weights_BMRS.shape[2])
    return _product("BMRS,BMJSH->BMRJH", weights_BMRS.astype(dtype), cache.values_BKSH.astype(dtype))


def _by_row(scales_BMJ1S: jax.Array, R: int) -> jax.Array:
    """[B, M, R, S] fp32: the scales of the head of each row; those of rows that fill up do not matter."""
    B, M, J, _, S = scales_BMJ1S.shape
    return jnp.broadcast_to(scales_BMJ1S.astype(jnp.float32), (B, M, J, R // J, S)).reshape(B, M, R, S)


def _product(subscripts: str, one: jax.Array, other: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, one, other, preferred_element_type=jnp.float32)
