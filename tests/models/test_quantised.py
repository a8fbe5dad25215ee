"""int8 and back: the error is within half a scale, what was rounded once stays, and what is damaged is seen to be."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mentallama_jax.models.quantised import quantise, to_int8

to_int8 = jax.jit(to_int8, static_argnums=1)
NUMBERS = st.floats(-1e4, 1e4, width=32) | st.sampled_from([0.0, 1e-38, -3e-20, 127.0, 128.5])


def back(units, scales) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # nothing times infinity
        return np.asarray(units, np.float32) * np.asarray(scales, np.float32)


@settings(max_examples=200, deadline=None)
@given(arrays(np.float32, (3, 5), elements=NUMBERS))
def test_each_number_comes_back_within_half_a_scale(x: np.ndarray) -> None:
    units, scales = to_int8(x, (1,))
    assert units.dtype == jnp.int8
    assert scales.shape == (3, 1)
    assert np.abs(np.asarray(units, int)).max() <= 127
    found = back(units, scales)
    assert (np.abs(found - x) <= 0.5001 * np.asarray(scales, np.float32)).all() or np.abs(x).max() < 1e-30
    large = np.abs(x).max(axis=1) > 1e-29
    assert (np.abs(np.asarray(units, int)).max(axis=1)[large] == 127).all()
    assert not np.asarray(units)[~(np.abs(x).max(axis=1) > 1e-31)].any()
    again, the_same = to_int8(found, (1,))
    np.testing.assert_array_equal(again, units)
    np.testing.assert_array_equal(np.asarray(the_same, np.float32), np.asarray(scales, np.float32))


def test_scales_are_those_of_the_axes_that_were_asked_for() -> None:
    weight = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    units, scales = quantise(weight, 2)
    assert (units.shape, scales.shape) == (weight.shape, (2, 5))
    largest = np.abs(weight).max(axis=(1, 2)) / 127
    np.testing.assert_allclose(np.asarray(scales, np.float32), largest, rtol=2**-8)


def test_what_is_not_finite_does_not_come_back_as_a_number() -> None:
    x = np.ones((3, 4), np.float32)
    x[0, 1], x[1, 2] = np.nan, -np.inf
    found = back(*to_int8(x, (1,)))
    assert not np.isfinite(found[:2, 1:3]).all(axis=1).any()
    np.testing.assert_allclose(found[2], 1, rtol=1e-2)
