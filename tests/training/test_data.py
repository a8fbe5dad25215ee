"""Batches: each a function of its step alone, whatever came before it and however many hosts share it."""

from collections.abc import Callable
from itertools import chain
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import abstract_params, bind
from mentallama_jax.training.data.batch_spec import PACKED_TOKENS
from mentallama_jax.training.data.batches import Batch, TrainingData, evaluation_batches
from mentallama_jax.training.data.packing import PlanSettings, plan_epoch
from mentallama_jax.training.data.tokens import TokenStore
from mentallama_jax.training.loss import cross_entropy_sum, next_token_targets

KEYS = PACKED_TOKENS.names
LAYOUTS = [("examples", "packed"), ("rows", "packed"), ("examples", "bucketed")]


def make_store(count: int = 50, longest: int = 40, seed: int = 0) -> TokenStore:
    """Examples of random tokens, 0 (a padding id) and 2 (an end token) among them anywhere."""
    random = np.random.default_rng(seed)
    lengths = random.integers(3, longest + 1, count)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = random.integers(0, 11, lengths.sum(), dtype=np.int32)
    places = np.arange(lengths.sum()) - np.repeat(offsets[:-1], lengths)
    return TokenStore(
        key="random",
        ids=tuple(f"example {number}" for number in range(count)),
        tokens=tokens,
        offsets=offsets,
        targets=places >= np.repeat(random.integers(1, lengths), lengths),
        truncated=np.zeros(count, np.int32),
    )


def plan_settings(unit: str = "examples", layout: str = "packed", **changes: Any) -> PlanSettings:
    values = {"seed": 0, "batch_size": 8, "max_length": 64, "micro_batch_rows": 2}
    return PlanSettings(batch_unit=unit, layout=layout, **(values | changes))  # type: ignore[arg-type]


def make_data(unit: str = "examples", layout: str = "packed", **choices: Any) -> TrainingData:
    choices = {"epochs": 2} | choices
    return TrainingData(make_store(), plan_settings(unit, layout), **choices)


def assert_same(one: Batch, other: Batch) -> None:
    assert (one.step, one.epoch, one.real_tokens, one.target_tokens, one.pad_share) == (
        (other.step, other.epoch, other.real_tokens, other.target_tokens, other.pad_share)
    )
    np.testing.assert_array_equal(one.examples, other.examples)
    assert one.arrays.keys() == other.arrays.keys() == {*KEYS, "micro_batches"}
    for key, values in one.arrays.items():
        assert values.dtype == other.arrays[key].dtype == np.int32
        np.testing.assert_array_equal(values, other.arrays[key])


def segments_of(batch: Batch) -> list[dict[str, np.ndarray]]:
    """The stretches of the batch, row after row, found by segment id alone."""
    found = []
    for row in range(len(batch.arrays["tokens"])):
        ids = batch.arrays["segment_ids"][row]
        for segment in range(1, ids.max() + 1):
            places = np.flatnonzero(ids == segment)
            assert np.array_equal(places, np.arange(places[0], places[-1] + 1))
            found.append({key: batch.arrays[key][row, places] for key in KEYS})
    return found


@pytest.mark.parametrize(("unit", "layout"), LAYOUTS)
def test_batches_hold_exactly_the_planned_examples(unit: str, layout: str) -> None:
    store, data = make_store(), make_data(unit, layout)
    for batch in data.iterate():
        segments = segments_of(batch)
        assert len(segments) == len(batch.examples)
        for example, segment in zip(batch.examples, segments, strict=True):
            tokens = store.tokens[store.offsets[example] : store.offsets[example + 1]]
            np.testing.assert_array_equal(segment["tokens"], tokens)
            np.testing.assert_array_equal(segment["positions"], np.arange(len(tokens)))
            targets = store.targets[store.offsets[example] : store.offsets[example + 1]]
            np.testing.assert_array_equal(segment["loss_mask"], targets)
        padding = batch.arrays["segment_ids"] == 0
        assert all(not batch.arrays[key][padding].any() for key in KEYS)


def test_bucketed_rows_are_what_the_step_says_of_them() -> None:
    """`training.step` promises attention one segment a row, from the first token on: cuDNN would drop a second one."""
    for batch in make_data(layout="bucketed").iterate():
        ids = batch.arrays["segment_ids"]
        np.testing.assert_array_equal(ids, np.arange(ids.shape[1]) < ids.sum(axis=1, keepdims=True))
    assert max(batch.arrays["segment_ids"].max() for batch in make_data(layout="packed").iterate()) > 1
    assert max(batch.arrays["segment_ids"].max() for batch in evaluation_batches(make_store(), 2, 64)) > 1


@pytest.mark.parametrize(("unit", "layout"), LAYOUTS)
def test_an_epoch_holds_every_example_once_in_a_new_order(unit: str, layout: str) -> None:
    data = make_data(unit, layout)
    first, second = ([b.examples.tolist() for b in data.iterate() if b.epoch == epoch] for epoch in (0, 1))
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(50))
    assert first != second
    assert data.epoch_ends == [len(first), len(first) + len(second)]
    assert data.steps == len(first) + len(second)


@pytest.mark.parametrize(("unit", "layout"), LAYOUTS)
def test_shapes_are_constant_and_empty_micro_batches_are_not_counted(unit: str, layout: str) -> None:
    data = make_data(unit, layout)
    lengths = set()
    for batch in data.iterate():
        rows, row_length = batch.arrays["tokens"].shape
        assert rows == data.rows
        assert rows % 2 == 0
        lengths.add(row_length)
        used = 2 * int(batch.arrays["micro_batches"])
        assert batch.arrays["micro_batches"].shape == ()
        occupied = batch.arrays["segment_ids"].any(axis=1)
        assert not occupied[used:].any()
        assert occupied[used - 2]
        real = np.count_nonzero(batch.arrays["segment_ids"])
        assert batch.real_tokens == real
        assert batch.target_tokens == batch.arrays["loss_mask"].sum()
        assert batch.pad_share == pytest.approx(1 - real / (used * row_length))
    assert tuple(sorted(lengths)) == data.row_lengths
    assert (len(lengths) == 1) == (layout == "packed")


@pytest.mark.parametrize(("unit", "layout"), LAYOUTS)
def test_any_step_is_reached_directly(unit: str, layout: str) -> None:
    batches = list(make_data(unit, layout).iterate())
    data = make_data(unit, layout)
    for start in (0, 1, data.epoch_ends[0] - 1, data.epoch_ends[0], data.steps - 1, data.steps):
        rest = list(data.iterate(data.state(start)))
        assert [batch.step for batch in rest] == list(range(start, data.steps))
        for mine, theirs in zip(rest, batches[start:], strict=True):
            assert_same(mine, theirs)
    assert_same(data.batch(3), batches[3])


@pytest.mark.parametrize(("unit", "layout"), LAYOUTS)
@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_the_very_same_batches(unit: str, layout: str, hosts: int) -> None:
    settings = plan_settings(unit, layout, micro_batch_rows=4)
    alone = TrainingData(make_store(), settings, epochs=1)
    shared = [TrainingData(make_store(), settings, epochs=1, held=range(i, 4, hosts)) for i in range(hosts)]
    assert {data.rows for data in shared} == {alone.rows}
    for parts in zip(alone.iterate(), *(data.iterate() for data in shared), strict=True):
        assert_same(parts[0], joined(parts[1:], 4))


def joined(parts: tuple[Batch, ...], micro_batch_rows: int) -> Batch:
    """One batch of the hosts' shares: each holds some rows of every micro-batch."""
    first = parts[0]
    arrays = {"micro_batches": first.arrays["micro_batches"]}
    for key in KEYS:
        shares = [p.arrays[key].reshape(-1, micro_batch_rows // len(parts), p.arrays[key].shape[-1]) for p in parts]
        whole = np.stack(shares, axis=2)  # each holds every so manieth row
        arrays[key] = whole.reshape(-1, whole.shape[-1])
    assert {int(part.arrays["micro_batches"]) for part in parts} == {int(first.arrays["micro_batches"])}
    return Batch(
        arrays, first.step, first.epoch, first.examples, first.real_tokens, first.target_tokens, first.pad_share
    )


@pytest.mark.parametrize(
    ("length", "steps", "ends"),
    [
        ({"epochs": 1}, 7, [7]),
        ({"epochs": 2.5}, 18, [7, 14]),
        ({"epochs": 0.5}, 4, []),  # 3.5 updates: a half is rounded up
        ({"epochs": 1.5}, 11, [7]),
        ({"epochs": 0.01}, 1, []),
        ({"epochs": 1.01}, 7, [7]),
        ({"steps": 1}, 1, []),
        ({"steps": 7}, 7, [7]),
        ({"steps": 16}, 16, [7, 14]),
    ],
)
def test_length_of_a_run(length: dict[str, float], steps: int, ends: list[int]) -> None:
    data = make_data(**({"epochs": None} | length))
    assert (data.steps, data.epoch_ends) == (steps, ends)
    assert [batch.epoch for batch in data.iterate()] == [step // 7 for step in range(steps)]


@pytest.mark.parametrize("length", [{"epochs": None, "steps": 10**9}, {"epochs": 1e12}, {"epochs": 1e300}])
def test_a_plan_that_no_memory_holds_is_refused_before_it_is_made(length: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"^training\.(steps|epochs) .*: that visits .* examples .*; lower it"):
        make_data(**length)


@pytest.mark.parametrize("length", [{"epochs": None}, {"epochs": 1, "steps": 1}])
def test_epochs_or_steps_but_not_both(length: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        make_data(**length)


def test_a_longer_run_begins_with_the_same_batches() -> None:
    short, longer = make_data(epochs=1), make_data(epochs=3)
    for mine, theirs in zip(short.iterate(), longer.iterate(), strict=False):
        np.testing.assert_array_equal(mine.examples, theirs.examples)
        used = 2 * int(mine.arrays["micro_batches"])
        np.testing.assert_array_equal(mine.arrays["tokens"][:used], theirs.arrays["tokens"][:used])


def test_pad_share_of_the_run_is_that_of_its_batches() -> None:
    data = make_data()
    real = sum(batch.real_tokens for batch in data.iterate())
    computed = sum(int(batch.arrays["micro_batches"]) * 2 * 64 for batch in data.iterate())
    assert data.pad_share == pytest.approx(1 - real / computed)


def test_iteration_can_be_given_up() -> None:
    batches = make_data(epochs=50).iterate()
    next(batches)
    batches.close()
    with pytest.raises(ValueError, match="closed"):
        next(batches)


def test_evaluation_holds_every_example_once_in_a_fixed_order() -> None:
    store = make_store()
    batches = evaluation_batches(store, 3, 64)
    assert sorted(chain(*(batch.examples.tolist() for batch in batches))) == list(range(50))
    for batch, again in zip(batches, evaluation_batches(store, 3, 64), strict=True):
        assert_same(batch, again)
        assert batch.arrays["tokens"].shape == (3, 64)
        assert batch.arrays["micro_batches"] == 1
        assert len(segments_of(batch)) == len(batch.examples)
    assert sum(batch.target_tokens for batch in batches) == store.target_counts.sum()
    shares = [evaluation_batches(store, 4, 64, held=range(host, 4, 2)) for host in range(2)]
    for parts in zip(evaluation_batches(store, 4, 64), *shares, strict=True):
        assert_same(parts[0], joined(parts[1:], 4))


@pytest.fixture(scope="module")
def loss_of() -> Callable[[Batch], float]:
    """Summed loss of a batch under a small LLaMA."""
    config = LlamaConfig(
        vocab_size=11,
        hidden_size=16,
        intermediate_size=24,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        rms_norm_eps=1e-5,
        rope_theta=100.0,
        rope_scaling=None,
        tie_embeddings=False,
        max_positions=64,
    )
    # Weights larger than a fresh model's, so that a stray token of attention shows in the loss.
    random = np.random.default_rng(0)
    shapes = abstract_params(config, jnp.float32)
    params = jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 0.3, leaf.shape), jnp.float32), shapes)

    @jax.jit
    def loss(arrays: dict[str, jax.Array]) -> jax.Array:
        model = bind(config, params)
        hidden_BTD = model.hidden(
            arrays["tokens"], arrays["positions"], arrays["segment_ids"], dtype=jnp.float32, remat="none", offload=False
        )
        targets_BT, mask_BT = next_token_targets(arrays)
        hidden_TD = hidden_BTD.reshape(-1, config.hidden_size)
        return cross_entropy_sum(hidden_TD, model.head_DV(), targets_BT.reshape(-1), mask_BT.reshape(-1))

    return lambda batch: float(loss({key: batch.arrays[key] for key in KEYS}))


@pytest.fixture(scope="module")
def losses_alone(loss_of: Callable[[Batch], float]) -> list[float]:
    """Loss of each example in a row of its own."""
    data = TrainingData(make_store(), plan_settings(batch_size=1, micro_batch_rows=1), epochs=1)
    losses = {int(batch.examples[0]): loss_of(batch) for batch in data.iterate()}
    return [losses[example] for example in range(50)]


def test_packing_does_not_change_the_loss(loss_of: Callable[[Batch], float], losses_alone: list[float]) -> None:
    """The loss of an update is the sum over its examples alone: no attention and no target crosses a border."""
    for batch in make_data(epochs=1).iterate():
        assert loss_of(batch) == pytest.approx(sum(losses_alone[example] for example in batch.examples), rel=1e-5)


def test_merged_segments_would_change_the_loss(loss_of: Callable[[Batch], float], losses_alone: list[float]) -> None:
    """The tolerance above can tell: the same rows without borders have another loss."""
    batch = make_data(epochs=1).batch(0)
    batch.arrays["segment_ids"][:] = batch.arrays["segment_ids"] > 0
    assert loss_of(batch) != pytest.approx(sum(losses_alone[example] for example in batch.examples), rel=1e-3)


def test_plan_and_batches_agree_on_the_lengths() -> None:
    store = make_store()
    plan = plan_epoch(store.lengths, plan_settings(), 1)
    data = make_data()
    for update, step in zip(plan, range(data.epoch_ends[0], data.steps), strict=True):
        np.testing.assert_array_equal(update.examples, data.batch(step).examples)
