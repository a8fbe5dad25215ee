"""What is computed in another way on TPUs gives the same on a CPU: shared products of heads, and blocks by products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mentallama_jax.generation import cache_moves, key_value_cache
from mentallama_jax.generation.cache_moves import STEPS, append, places_for, sized_for
from mentallama_jax.generation.key_value_cache import (
    LayerCache,
    cached_attention,
    each_array,
    joint_attention,
    laid_out,
    write,
    write_each,
)

SHAPES = {"8 heads": (8, 8), "1 head": (1, 1), "6 heads": (6, 6), "groups of 2": (8, 4), "groups of 9": (9, 1)}


def random(shape: tuple[int, ...], seed: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.fixture
def on_tpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_value_cache, "platform", lambda: "tpu")
    monkeypatch.setattr(cache_moves, "platform", lambda: "tpu")


@pytest.mark.parametrize("queries", [1, 3], ids=["a query", "three queries"])
@pytest.mark.parametrize("dtype", [None, jnp.int8], ids=["float", "int8"])
@pytest.mark.parametrize("name", SHAPES)
def test_heads_that_share_products_attend_as_alone(name: str, dtype, queries: int, on_tpu: None) -> None:
    (N, K), B, H, T, sizes = SHAPES[name], 3, 4, queries, (16, 8)
    parts = [laid_out(random((B, S, K, H), S), random((B, S, K, H), S + 1), dtype=dtype) for S in sizes]
    q_BTNH = random((B, T, N, H), 0)
    lengths_B11 = jnp.array([0, 5, 16])[:, None, None]
    offsets_BT1 = (jnp.array([3, 0, 4])[:, None] + jnp.arange(T))[..., None]
    visible = (jnp.arange(16) < lengths_B11, jnp.arange(8) <= offsets_BT1)
    whole = each_array(lambda axis, one, other: jnp.concatenate([one, other], axis), *parts)
    seen_BTS = jnp.concatenate([jnp.broadcast_to(visible[0], (B, T, 16)), visible[1]], 2)
    expected = cached_attention(q_BTNH, whole, seen_BTS)
    np.testing.assert_allclose(joint_attention(q_BTNH, parts, visible), expected, atol=2e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_rows_are_written_at_places_of_their_own_as_one_by_one(dtype: str) -> None:
    def cache(places: int, seed: int) -> LayerCache:
        layer = laid_out(random((3, places, 2, 4), seed), random((3, places, 2, 4), seed + 1), dtype=dtype)
        return layer if dtype == "int8" else each_array(lambda _, x: x.astype(dtype), layer)

    held, places_B = cache(12, 0), [0, 9, 4]
    k_BTKH, v_BTKH = (random((3, 3, 2, 4), seed).astype("float32" if dtype == "int8" else dtype) for seed in (7, 8))
    found = write_each(held, k_BTKH, v_BTKH, jnp.array(places_B))
    for row, place in enumerate(places_B):
        alone = write(held, k_BTKH, v_BTKH, place)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(alone), strict=True):
            np.testing.assert_array_equal(one[row], other[row])


def test_as_many_heads_share_a_product_as_the_matrix_unit_takes_rows(on_tpu: None) -> None:
    found = [
        key_value_cache._heads_together(K, G) for K, G in ((32, 1), (8, 1), (6, 1), (12, 1), (4, 2), (8, 4), (1, 9))
    ]
    assert found == [8, 8, 6, 6, 4, 2, 1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_blocks_are_appended_by_a_product_as_by_updates(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def cache(places: int, seed: int) -> tuple[LayerCache, ...]:
        x, y = (random((4, places, 2, 4), seed + n) * 1e3 for n in (0, 1))
        layer = laid_out(x, y, dtype=dtype)
        return (layer if dtype == "int8" else each_array(lambda _, x: x.astype(dtype), layer),)

    held, block, lengths_B = cache(128, 0), cache(STEPS, 2), np.array([0, 7, 96, 110], np.int32)
    by_updates = append.__wrapped__(held, block, lengths_B)
    monkeypatch.setattr(cache_moves, "platform", lambda: "tpu")
    by_product = append.__wrapped__(held, block, lengths_B, room=False)
    for one, other, before, new in zip(by_product[0], by_updates[0], held[0], block[0], strict=True):
        if one is None:
            continue
        np.testing.assert_array_equal(one[:3], other[:3])
        # What has no place in the last row is left out, and nothing before it changes.
        axis = one.shape[1:].index(128)
        row, old, fresh = (np.moveaxis(np.asarray(x[3], np.float32), axis, 0) for x in (one, before, new))
        np.testing.assert_array_equal(row[:110], old[:110])
        np.testing.assert_array_equal(row[110:], fresh[:18])


def test_no_room_is_kept_for_what_is_left_out(on_tpu: None) -> None:
    assert [places_for(sized_for(*pair)) for pair in ((511, 700), (511, 511), (470, 511), (300, 511))] == [
        640,
        512,
        512,
        384,
    ]
    assert sized_for(5, 9) == 0
