"""How keys and values move within caches and between them: blocks behind what slots hold, prompts into slots.

Shape suffixes: B slots, S places of the cache, R places of a block, K key/value heads, H head width.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from mentallama_jax.generation.key_value_cache import CACHE, KeyValueCache, LayerCache, each_array, slots_of
from mentallama_jax.models.attention.dispatch import platform
from mentallama_jax.parallel.rules import constrain, current_mesh, spec

STEPS = 32
"""Steps of a loop at most, and so the places of a block."""
COPIED = 32
"""Places of a cache that are copied at once; what is copied last may reach so far beyond its end."""

_FIRST_PLACES, _MORE_PLACES = (64, 128, 192, 256), 128


def places_for(length: int) -> int:
    """The places of the cache, of few sizes, for slots that hold so many tokens at most when a loop begins."""
    need = length + max(STEPS, COPIED)
    return next((size for size in _FIRST_PLACES if need <= size), -(-need // _MORE_PLACES) * _MORE_PLACES)


def sized_for(length: int, most: int) -> int:
    """What `places_for` is asked for where slots hold `length` tokens, and will never hold more than `most`.

    What `append` leaves out, where it can, needs no place behind the end of the longest answer.
    """
    return min(length, max(most - STEPS, 0)) if _by_product() or _in_one_pass() else length


@partial(jax.jit, static_argnames="places")
def resized(cache: KeyValueCache, *, places: int) -> KeyValueCache:
    """The cache with more or fewer places at its end."""

    def fitted(axis: int, x: jax.Array) -> jax.Array:
        if places <= x.shape[axis]:
            return constrain(jax.lax.slice_in_dim(x, 0, places, axis=axis), *CACHE)
        padding = [(0, 0)] * 4
        padding[axis] = (0, places - x.shape[axis])
        return constrain(jnp.pad(x, padding), *CACHE)

    return tuple(each_array(fitted, one) for one in cache)


@partial(jax.jit, static_argnames="room", donate_argnames="cache")
def append(cache: KeyValueCache, recent: KeyValueCache, lengths_B: Any, *, room: bool = True) -> KeyValueCache:
    """The cache with each slot's block at its length; `room` says that there is a place for all of each block."""
    appended: KeyValueCache = on_each_part(partial(_append, room=room), (cache, recent, jnp.asarray(lengths_B)))
    return appended


def _append(cache: KeyValueCache, recent: KeyValueCache, lengths_B: jax.Array, *, room: bool) -> KeyValueCache:
    """Append each slot's block at its length, slot by slot: updates of a loop's own arrays copy nothing.

    What is taken from the block passes a barrier, without which the compiler for TPUs fails: it takes the updated array
    and the block for one another.
    """
    if not room and _by_product():
        return _append_by_product(cache, recent, lengths_B)
    if _in_one_pass():
        wanted_BS = jnp.arange(slots_of(cache)) - lengths_B[:, None]
        return tuple(_selected(own, block, wanted_BS, STEPS) for own, block in zip(cache, recent, strict=True))

    def one(slot: jax.Array, cache: KeyValueCache) -> KeyValueCache:
        def moved(axis: int, own: jax.Array, block: jax.Array) -> jax.Array:
            return _put(own, _take(block, slot, 0, STEPS, axis), slot, lengths_B[slot], axis)

        return tuple(each_array(moved, own, block) for own, block in zip(cache, recent, strict=True))

    return jax.lax.fori_loop(0, len(lengths_B), one, cache)


def _append_by_product(cache: KeyValueCache, recent: KeyValueCache, lengths_B: jax.Array) -> KeyValueCache:
    """Append by a product with a matrix of ones and zeros for each slot, which moves every number as it is.

    What has no place is left out. It is one pass over the cache in place of an update for each slot and layer.
    """
    wanted_BS = jnp.arange(slots_of(cache)) - lengths_B[:, None]
    moves_BRS = wanted_BS[:, None] == jnp.arange(STEPS)[:, None]
    inside_B11S = jnp.any(moves_BRS, axis=1)[:, None, None]

    def appended(axis: int, own: jax.Array, block: jax.Array) -> jax.Array:
        dtype = jnp.bfloat16 if own.dtype == jnp.int8 else own.dtype
        names = "BKHR,BRS->BKHS" if axis == 3 else "BKRH,BRS->BKSH"
        moved = jnp.einsum(names, block.astype(dtype), moves_BRS.astype(dtype), precision="highest").astype(own.dtype)
        return jnp.where(inside_B11S if axis == 3 else inside_B11S.swapaxes(2, 3), moved, own)

    return tuple(each_array(appended, own, block) for own, block in zip(cache, recent, strict=True))


def _by_product() -> bool:
    """Whether blocks that lack room are appended by products; on CPUs these cost more than some places more do."""
    return platform() == "tpu"


def _in_one_pass() -> bool:
    """Whether places are copied by passes over whole rows; else by loops over small pieces, each a launch on GPUs."""
    return platform() == "gpu"


def _selected(own: LayerCache, other: LayerCache, wanted_BS: jax.Array, count: jax.Array | int) -> LayerCache:
    """The places of `other` that are wanted at each place of `own`, where they are from 0 to below `count`."""
    inside_BS = (wanted_BS >= 0) & (wanted_BS < count)

    def along(axis: int, old: jax.Array, new: jax.Array) -> jax.Array:
        places, inside = (jnp.expand_dims(x_BS, (1, 5 - axis)) for x_BS in (wanted_BS, inside_BS))
        places = jnp.clip(places, 0, new.shape[axis] - 1)
        return jnp.where(inside, jnp.take_along_axis(new, places, axis=axis), old)

    return each_array(along, own, other)


def copied(
    cache: KeyValueCache,
    source: KeyValueCache,
    slot: jax.Array | int,
    start: jax.Array | int,
    source_start: jax.Array | int,
    count: jax.Array | int,
) -> KeyValueCache:
    """Copy places of the first row of `source` into a row of `cache`, `COPIED` at a time; both must have room."""

    if _in_one_pass():
        offsets_S = jnp.arange(slots_of(cache)) - start
        copied_S = (offsets_S >= 0) & (offsets_S < count)
        wanted_1S = jnp.where(copied_S, offsets_S + source_start, -1)[None]
        made = []
        for own, other in zip(cache, source, strict=True):
            row = each_array(lambda axis, x: jax.lax.dynamic_slice_in_dim(x, slot, 1), own)
            new = _selected(row, each_array(lambda axis, x: x[:1], other), wanted_1S, 2**30)
            made.append(each_array(lambda axis, x, part: _put(x, part, slot, 0, axis), own, new))
        return tuple(made)

    def one(block: jax.Array, cache: KeyValueCache) -> KeyValueCache:
        there, here = start + block * COPIED, source_start + block * COPIED

        def moved(axis: int, own: jax.Array, other: jax.Array) -> jax.Array:
            return _put(own, _take(other, 0, here, COPIED, axis), slot, there, axis)

        return tuple(each_array(moved, own, other) for own, other in zip(cache, source, strict=True))

    return jax.lax.fori_loop(0, (count + COPIED - 1) // COPIED, one, cache)


def _take(x: jax.Array, row: jax.Array | int, start: jax.Array | int, count: int, axis: int) -> jax.Array:
    sizes = [1, *x.shape[1:]]
    sizes[axis] = count
    where: list[Any] = [row, 0, 0, 0]
    where[axis] = start
    return jax.lax.optimization_barrier(jax.lax.dynamic_slice(x, where, sizes))


def _put(x: jax.Array, part: jax.Array, row: jax.Array | int, start: jax.Array | int, axis: int) -> jax.Array:
    where: list[Any] = [row, 0, 0, 0]
    where[axis] = start
    return jax.lax.dynamic_update_slice(x, part, where)


def on_each_part(function: Any, arguments: tuple[Any, ...]) -> Any:
    """Call a function of a cache with its own rows on each part of the mesh, so that no row leaves its device."""
    if current_mesh() is None:
        return function(*arguments)

    def where(x: jax.Array) -> Any:
        rows = "batch" if x.shape[0] > 1 else None
        return spec(rows) if x.ndim == 1 else spec(rows, *CACHE[1:])

    specs = jax.tree.map(where, arguments)
    return jax.shard_map(function, in_specs=specs, out_specs=specs[0], check_vma=False)(*arguments)
