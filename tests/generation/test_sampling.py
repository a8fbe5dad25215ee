"""Filters and draws against plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mentallama_jax.errors import UserError
from mentallama_jax.generation.sampling import (
    Sampling,
    SamplingRows,
    Uses,
    choose,
    first_largest,
    keep,
    key_words,
    next_tokens,
    penalised,
    row_keys,
)

V = 24
# Few distinct values, so that ties are common; steps that fp32 probabilities can tell apart.
TIED_ROWS = st.lists(st.integers(-6, 6), min_size=V, max_size=V)
ROWS = st.lists(st.integers(-480, 480).map(lambda value: value / 16), min_size=V, max_size=V)


_keep = jax.jit(keep, static_argnums=2)


def kept(logits, *rows: Sampling) -> np.ndarray:
    """The filtered logits of rows, each by a `Sampling` of its own."""
    uses = rows[0].uses
    for row in rows:
        uses = uses.joined(row.uses)
    return np.asarray(_keep(jnp.asarray(logits), SamplingRows.of(rows), uses))


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
    got = kept(logits[None], sampling)[0]
    must, may = reference_keep(logits, sampling)
    left = set(np.flatnonzero(np.isfinite(got)))
    assert must <= left <= may
    places = sorted(left)
    np.testing.assert_allclose(got[places], (logits[places] - logits.max()) / temperature, rtol=1e-6)


FACTORS = st.one_of(
    st.sampled_from([5e-324, 1e-50, 1e-45, 1e-38, 2e-38, 1e-20, 0.7, 1e20, 3e38, 1e39, 1e300]),
    st.floats(0, exclude_min=True, allow_infinity=False),
)
TOP_P = st.one_of(
    st.sampled_from([5e-324, 1e-50, 1e-45, 1e-30, 0.5, 0.99999994, 1 - 2**-53, 1.0]), st.floats(0, 1, exclude_min=True)
)
MIN_P = st.one_of(st.sampled_from([0.0, 5e-324, 1e-45, 0.99999999, 1 - 2**-53]), st.floats(0, 1, exclude_max=True))
TOP_K = st.one_of(st.none(), st.integers(1, V + 4), st.sampled_from([2**31 - 1, 2**31, 2**63]))
SCORES = st.floats(-1e4, 1e4, width=32)
EVERY_USE = Uses(True, True, True, True, True)
_choose = jax.jit(choose, static_argnums=4)


@given(
    st.lists(st.one_of(SCORES, st.sampled_from([-np.inf, 0.0])), min_size=V, max_size=V),
    st.lists(st.booleans(), min_size=V, max_size=V),
    st.builds(Sampling, FACTORS, TOP_K, TOP_P, MIN_P, FACTORS),
)
@example([3.0, 2.0] + [0.0] * (V - 2), [False] * V, Sampling(1.0, None, 1e-50))
@example([1.0] * V, [False] * V, Sampling(1.0, None, 0.99999994))
@example([1.0, 0.5] * (V // 2), [False] * V, Sampling(2e-38, None, 0.9))
@example([1.0, -np.inf] * (V // 2), [False] * V, Sampling(1e300, 3, 0.9))
@example([1.0, -1.0] * (V // 2), [True] * V, Sampling(1.0, None, 0.9, 0.0, 1e300))
@example([1.0, -1.0] * (V // 2), [True, True, False] * (V // 3), Sampling(1.0, None, 0.9, 0.0, 1e-50))
@settings(max_examples=150, deadline=None)
def test_the_likeliest_is_possible_and_only_what_is_kept_is_drawn(row, seen, sampling) -> None:
    """Whatever values are accepted, and beside a greedy row."""
    row = np.asarray(row, np.float32)
    if np.isneginf(row).all():
        row[5] = 0
    rows = SamplingRows.of([sampling, Sampling()])
    logits = penalised(jnp.asarray([row, row]), jnp.asarray([seen, seen]), rows.penalty_B)
    left = np.asarray(_keep(logits, rows, EVERY_USE))[0]
    first = int(np.argmax(logits[0]))
    possible = np.isfinite(left)
    assert possible[first]
    assert not possible[np.isneginf(row)].any()
    drawn = np.asarray(_choose(logits, row_keys(0, ["a", "b"]), jnp.asarray([1, 1]), rows, EVERY_USE))
    assert possible[drawn[0]]
    assert drawn[1] == int(np.argmax(row))


def test_top_p_by_hand() -> None:
    probabilities = np.array([0.5, 0.25, 0.125, 0.0625, 0.0625], np.float32)
    for top_p, count in [(0.4, 1), (0.5, 1), (0.51, 2), (0.75, 2), (0.8, 3), (0.9, 5), (0.99, 5)]:
        got = kept(jnp.log(probabilities)[None], Sampling(1.0, None, top_p))
        assert int(np.isfinite(got).sum()) == count, top_p


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
        _, left = reference_keep(logits[row], sampling)
        scores = {token: logits[row, token] / 0.7 + noise[token] for token in left}
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


def test_rows_are_filtered_each_by_its_own_settings() -> None:
    logits = np.random.default_rng(3).normal(0, 3, (6, 50)).astype(np.float32)
    logits[0, :9] = logits[0].max()  # ties at the top
    logits[1, :3] = [0.0, -0.0, 0.0]
    rows = [
        Sampling(1.0, 4),
        Sampling(1.0, 30),
        Sampling(2.0, None, 0.7),
        Sampling(0.5, None, 1.0, 0.1),
        Sampling(),
        Sampling(1.3, 7, 0.8, 0.05),
    ]
    together = kept(logits, *rows)
    for row, sampling in enumerate(rows):
        of_row = logits[row : row + 1]
        alone = kept(of_row, sampling)[0] if sampling.temperature else (of_row - of_row.max())[0]
        np.testing.assert_array_equal(together[row], alone)


def test_min_p_is_a_share_of_the_likeliest() -> None:
    probabilities = np.array([0.5, 0.25, 0.125, 0.0625, 0.0625], np.float32)
    for min_p, count in [(0.0, 5), (0.12, 5), (0.13, 3), (0.24, 3), (0.26, 2), (0.9, 1)]:
        got = kept(jnp.log(probabilities)[None], Sampling(1.0, None, 1.0, min_p))
        assert int(np.isfinite(got).sum()) == count, min_p
    # The temperature applies before: 0.5 : 0.25 is then 4 : 1.
    assert int(np.isfinite(kept(jnp.log(probabilities)[None], Sampling(0.5, None, 1.0, 0.3))).sum()) == 1


def test_the_penalty_pushes_seen_tokens_down_whatever_their_sign() -> None:
    logits = jnp.asarray([[2.0, -2.0, 1.0, -1.0], [2.0, -2.0, 1.0, -1.0]])
    seen = jnp.asarray([[True, True, False, False], [False, False, True, True]])
    got = penalised(logits, seen, np.array([2.0, 4.0], np.float32))
    np.testing.assert_array_equal(got, [[1.0, -4.0, 1.0, -1.0], [2.0, -2.0, 0.25, -4.0]])


def test_filters_and_penalty_equal_those_of_transformers() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `parity`)")
    processors = pytest.importorskip("transformers.generation.logits_process")
    logits = np.random.default_rng(5).normal(0, 2, (4, 60)).astype(np.float32)
    tokens = np.random.default_rng(6).integers(0, 60, (4, 12))
    seen = np.zeros((4, 60), bool)
    np.put_along_axis(seen, tokens, True, axis=1)
    sampling = Sampling(0.8, 20, 0.9, 0.05, 1.3)
    expected = torch.from_numpy(logits)
    for one in (
        processors.RepetitionPenaltyLogitsProcessor(1.3),
        processors.TemperatureLogitsWarper(0.8),
        processors.TopKLogitsWarper(20),
        processors.TopPLogitsWarper(0.9),
        processors.MinPLogitsWarper(0.05),
    ):
        expected = one(torch.from_numpy(tokens), expected)
    got = kept(penalised(jnp.asarray(logits), jnp.asarray(seen), np.full(4, 1.3, np.float32)), *[sampling] * 4)
    expected = expected.numpy()
    np.testing.assert_allclose(got, expected - expected.max(axis=1, keepdims=True), rtol=1e-5, atol=1e-6)


def test_greedy_rows_stay_greedy_beside_drawn_ones() -> None:
    logits = jnp.asarray(np.random.default_rng(2).normal(size=(2, 30)), jnp.float32)
    rows = SamplingRows.of([Sampling(), Sampling(1.0)])
    got = choose(logits, row_keys(0, ["a", "b"]), jnp.asarray([4, 9]), rows, Uses(sampled=True))
    assert int(got[0]) == int(logits[0].argmax())
    assert int(got[1]) == int(next_tokens(logits[1:], row_keys(0, ["b"]), 9, Sampling(1.0))[0])


def test_samples_of_a_prompt_have_keys_of_their_own() -> None:
    keys = {tuple(key_words(0, name, sample).tolist()) for name in ("a", "a1", "1") for sample in range(12)}
    assert len(keys) == 36
    assert key_words(0, "DR/test/1", 0).tolist() == key_words(0, "DR/test/1").tolist() == [3941396871, 1272852013]


@pytest.mark.parametrize(
    "values",
    [
        (1.0, None, 1.0, -0.1),
        (1.0, None, 1.0, 1.0),
        (0.0, None, 1.0, 0.5),
        (1.0, None, 1.0, 0.0, 0.0),
        (1.0, None, 1.0, 0.0, float("nan")),
        (-1.0,),
        (float("inf"),),
        (float("nan"),),
        (1.0, 0),
        (1.0, None, 0.0),
        (1.0, None, 1.5),
        (0.0, 5),
    ],
)
def test_impossible_sampling_is_refused(values) -> None:
    with pytest.raises(UserError):
        Sampling(*values)
