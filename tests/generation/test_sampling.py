"""Filters and draws against plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentallama_jax.errors import UserError
from mentallama_jax.generation.sampling import Sampling, first_largest, keep, next_tokens, row_keys

V = 24
# Few distinct values, so that ties are common; steps that fp32 probabilities can tell apart.
TIED_ROWS = st.lists(st.integers(-6, 6), min_size=V, max_size=V)
ROWS = st.lists(st.integers(-480, 480).map(lambda value: value / 16), min_size=V, max_size=V)


def reference_keep(row: np.ndarray, sampling: Sampling) -> tuple[set[int], set[int]]:
    """Tokens that must be kept and those that may be: sums of probabilities within 1e-6 of top-p go either way."""
    scaled = row.astype(np.float64) / sampling.temperature
    kept = np.ones(len(row), bool)
    if sampling.top_k is not None:
        kept &= scaled >= np.sort(scaled)[::-1][min(sampling.top_k, len(row)) - 1]
    weights = np.where(kept, np.exp(scaled - scaled.max()), 0)
    probabilities = weights / weights.sum()
    likelier = np.array([probabilities[probabilities > p].sum() for p in probabilities])
    if sampling.top_p == 1:
        return set(np.flatnonzero(kept)), set(np.flatnonzero(kept))
    must, may = kept & (likelier < sampling.top_p - 1e-6), kept & (likelier < sampling.top_p + 1e-6)
    return set(np.flatnonzero(must)), set(np.flatnonzero(may))


@given(
    st.one_of(TIED_ROWS, ROWS),
    st.sampled_from([0.25, 1.0, 4.0]),
    st.one_of(st.none(), st.integers(1, V + 4)),
    st.sampled_from([0.05, 0.5, 0.9, 0.999, 1.0]),
)
@settings(max_examples=100)
def test_filters_keep_what_the_definition_keeps(row, temperature, top_k, top_p) -> None:
    sampling = Sampling(temperature, top_k, top_p)
    logits = np.asarray(row, np.float32)
    got = np.asarray(keep(jnp.asarray(logits)[None], sampling))[0]
    must, may = reference_keep(logits, sampling)
    kept = set(np.flatnonzero(np.isfinite(got)))
    assert must <= kept <= may
    places = sorted(kept)
    np.testing.assert_allclose(got[places], logits[places] / temperature, rtol=1e-6)


def test_top_p_by_hand() -> None:
    probabilities = np.array([0.5, 0.25, 0.125, 0.0625, 0.0625], np.float32)
    for top_p, count in [(0.4, 1), (0.5, 1), (0.51, 2), (0.75, 2), (0.8, 3), (0.9, 5), (0.99, 5)]:
        got = keep(jnp.log(probabilities)[None], Sampling(1.0, None, top_p))
        assert int(jnp.isfinite(got).sum()) == count, top_p


@given(st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 3.0]), min_size=V, max_size=V))
@settings(max_examples=50)
def test_first_largest_is_argmax(row) -> None:
    assert int(first_largest(jnp.asarray([row], jnp.float32))[0]) == int(np.argmax(row))


def test_greedy_is_argmax_and_needs_no_keys() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 300)).astype(np.float32)
    np.testing.assert_array_equal(next_tokens(jnp.asarray(logits), None, 0, Sampling()), logits.argmax(1))


def test_a_draw_is_the_gumbel_maximum_of_the_kept_tokens() -> None:
    logits = np.random.default_rng(1).normal(0, 2, (3, 40)).astype(np.float32)
    keys = row_keys(7, ["a", "b", "c"])
    sampling = Sampling(0.7, 10, 0.8)
    got = next_tokens(jnp.asarray(logits), keys, 5, sampling)
    for row in range(3):
        noise = np.asarray(jax.random.gumbel(jax.random.fold_in(keys[row], 5), (40,)))
        _, kept = reference_keep(logits[row], sampling)
        scores = {token: logits[row, token] / 0.7 + noise[token] for token in kept}
        assert int(got[row]) == max(scores, key=scores.__getitem__)


def test_draws_follow_the_probabilities() -> None:
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    rows = 20_000
    keys = row_keys(0, [str(index) for index in range(rows)])
    logits = jnp.broadcast_to(jnp.log(jnp.asarray(probabilities, jnp.float32)) * 2, (rows, 4))
    counts = np.bincount(np.asarray(next_tokens(logits, keys, 3, Sampling(2.0))), minlength=4)
    expected = rows * probabilities
    # Chi-square with 3 degrees of freedom: 21 is exceeded once in 10,000 times, and the draws are fixed.
    assert ((counts - expected) ** 2 / expected).sum() < 21


def test_row_keys_depend_on_seed_and_id_alone() -> None:
    data = jax.random.key_data(row_keys(3, ["x", "y"]))
    np.testing.assert_array_equal(data, jax.random.key_data(row_keys(3, ["y", "x"]))[::-1])
    assert not np.array_equal(data[0], jax.random.key_data(row_keys(4, ["x"]))[0])
    # Pinned: another value would give other answers for the same seed.
    assert jax.random.key_data(row_keys(0, ["DR/test/1"]))[0].tolist() == [3941396871, 1272852013]


@pytest.mark.parametrize(
    "values", [(-1.0,), (float("inf"),), (float("nan"),), (1.0, 0), (1.0, None, 0.0), (1.0, None, 1.5), (0.0, 5)]
)
def test_impossible_sampling_is_refused(values) -> None:
    with pytest.raises(UserError):
        Sampling(*values)
