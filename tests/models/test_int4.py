"""Weights in int4: how near they are, what is exact, and products with them beside plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentallama_jax.models.low_rank import contract, projected
from mentallama_jax.models.quantised import (
    GROUP,
    dense,
    group_of,
    in_groups,
    quantise,
    quantise_in_groups,
    stored_bits,
    to_int4,
)


def plain(values: np.ndarray, size: int) -> np.ndarray:
    """What [inputs, outputs] become, a group of inputs after the other."""
    found = np.zeros_like(values)
    for start in range(0, len(values), size):
        for column in range(values.shape[1]):
            group = values[start : start + size, column]
            largest = group[np.argmax(np.abs(group))]
            scale = np.float32(np.asarray(largest / -8 if largest else 1, jnp.bfloat16))
            found[start : start + size, column] = np.clip(np.round(group / scale), -8, 7) * scale
    return found


def test_values_are_those_of_a_plain_reference() -> None:
    values = np.array(jax.random.normal(jax.random.key(0), (2 * GROUP, 3)), np.float32)
    values[:GROUP, 1] = 0
    units, scales = to_int4(jnp.asarray(values), 0)
    assert (units.dtype, scales.dtype, scales.shape) == (jnp.int4, jnp.bfloat16, (2, 3))
    found = dense(units, scales.astype(jnp.float32))
    np.testing.assert_array_equal(found, plain(values, GROUP))
    assert not np.asarray(found)[:GROUP, 1].any()
    error = np.sqrt(np.mean((found - values) ** 2) / np.mean(values**2))
    assert 0.08 < error < 0.12  # of normal weights; trained ones of SmolLM2 have 0.095 to 0.115


@settings(max_examples=15)
@given(
    st.lists(st.floats(-1024, 1024, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3), min_size=8, max_size=8),
    st.integers(-12, 12),
)
def test_no_number_is_farther_than_a_scale(values, power) -> None:
    """Half a scale, but for what is near the largest with the other sign; and the scale's own rounding."""
    group = np.asarray(values, np.float32)[:, None] * np.float32(2.0**power)
    units, scales = to_int4(jnp.asarray(group), 0)
    found, scale = np.asarray(dense(units, scales.astype(jnp.float32))), abs(float(scales[0, 0]))
    same_side = group * np.sign(group[np.argmax(np.abs(group))]) >= -7 * scale
    bound = np.where(same_side, 0.5, 1.0) * scale + 2**-8 * np.abs(group).max()
    assert (abs(found - group) <= bound).all()


@pytest.mark.parametrize(("length", "size"), [(64, 64), (576, 64), (11008, 64), (48, 48), (100, 50), (8, 8), (67, 1)])
def test_groups_divide_the_inputs(length, size) -> None:
    assert group_of(length) == size


class Owner:
    """A module with one projection."""

    def __init__(self, weight, scales) -> None:
        self.up, self.up_scale = weight[0], scales[0]


@pytest.mark.parametrize(("way", "inputs"), [(quantise, 1), (quantise_in_groups, 1), (quantise_in_groups, 2)])
def test_a_product_is_that_of_the_weights_as_floats(way, inputs) -> None:
    weight = jax.random.normal(jax.random.key(1), (1, 4, 16, 5))
    units, scales = way(weight, inputs)
    assert in_groups(units, scales) == (way is quantise_in_groups)
    assert scales.shape == ((1, 16, 5) if way is quantise else (1, 1, 16, 5) if inputs == 1 else (1, 4, 1, 5))
    scales = scales.astype(jnp.float32)
    floats = dense(units, scales) if in_groups(units, scales) else units * scales[:, None]
    axes = tuple(range(inputs))
    x = jax.random.normal(jax.random.key(2), (3, *weight.shape[1 : 1 + inputs]))

    def product(x):
        module = Owner(units, scales)
        return projected(module, "up", x, lambda x, weight: contract(x, weight, inputs))

    np.testing.assert_allclose(jax.jit(product)(x), jnp.tensordot(x, floats[0], inputs), rtol=1e-4, atol=1e-4)
    slopes = jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(product(x)))))(x)
    wanted = jax.grad(lambda x: jnp.sum(jnp.sin(jnp.tensordot(x, floats[0], (tuple(a + 1 for a in axes), axes)))))(x)
    np.testing.assert_allclose(slopes, wanted, rtol=1e-3, atol=1e-4)


def test_bits_of_a_number() -> None:
    assert [stored_bits(name) for name in ("int4", "int8", "bfloat16", "float32", "int32")] == [4, 8, 16, 32, 32]
