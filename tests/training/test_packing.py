"""The plan of an epoch: nothing lost, nothing split, little wasted, the same everywhere."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentallama_jax.config import parse_config
from mentallama_jax.training.data.packing import PlanSettings, Update, bucket_lengths, pack_rows, plan_epoch


def plan_settings(**changes: object) -> PlanSettings:
    values = {
        "seed": 0,
        "batch_size": 16,
        "batch_unit": "examples",
        "max_length": 256,
        "layout": "packed",
        "micro_batch_rows": 2,
    }
    return PlanSettings(**(values | changes))  # type: ignore[arg-type]


def benchmark_lengths(seed: int, sizes: tuple[int, int, int] = (1003, 2837, 5547)) -> np.ndarray:
    """Lengths as those of DR, dreaddit and SAD: a long tail, and two narrow humps."""
    random = np.random.default_rng(seed)
    long_tail = random.gamma(2.5, 160, sizes[0])
    humps = random.normal(226, 50, sizes[1]), random.normal(120, 20, sizes[2])
    return np.clip(np.concatenate([long_tail, *humps]), 60, 1299).astype(np.int64)


def share_of_real_tokens(lengths: np.ndarray, plan: list[Update], micro_batch_rows: int) -> float:
    computed = sum(-(-len(update.rows) // micro_batch_rows) * micro_batch_rows * update.row_length for update in plan)
    return float(lengths.sum()) / computed


def same(one: list[Update], other: list[Update]) -> bool:
    return len(one) == len(other) and all(
        a.row_length == b.row_length
        and np.array_equal(a.examples, b.examples)
        and np.array_equal(a.row_ends, b.row_ends)
        for a, b in zip(one, other, strict=True)
    )


KINDS = [("examples", "packed"), ("rows", "packed"), ("examples", "bucketed")]


@st.composite
def any_settings(draw: st.DrawFn) -> PlanSettings:
    unit, layout = draw(st.sampled_from(KINDS))
    return plan_settings(
        seed=draw(st.integers(-(2**70), 2**70)),
        batch_size=draw(st.integers(1, 20)),
        batch_unit=unit,
        max_length=draw(st.sampled_from([64, 100, 256])),
        layout=layout,
        micro_batch_rows=draw(st.integers(1, 5)),
    )


any_lengths = st.lists(st.integers(1, 64), min_size=1, max_size=150).map(lambda values: np.array(values, np.int64))


@settings(max_examples=200)
@given(any_lengths, any_settings(), st.integers(0, 9))
def test_every_example_is_in_one_row_of_one_update(lengths: np.ndarray, chosen: PlanSettings, epoch: int) -> None:
    plan = plan_epoch(lengths, chosen, epoch)

    assert sorted(np.concatenate([update.examples for update in plan])) == list(range(len(lengths)))
    for update in plan:
        assert [int(e) for row in update.rows for e in row] == update.examples.tolist()
        assert all(len(row) and lengths[row].sum() <= update.row_length <= chosen.max_length for row in update.rows)


@settings(max_examples=200)
@given(any_lengths, any_settings(), st.integers(0, 9))
def test_an_update_is_as_large_as_asked(lengths: np.ndarray, chosen: PlanSettings, epoch: int) -> None:
    plan = plan_epoch(lengths, chosen, epoch)

    if chosen.batch_unit == "rows":
        sizes = [len(update.rows) for update in plan]
    else:
        sizes = [len(update.examples) for update in plan]
        assert len(plan) == -(-len(lengths) // chosen.batch_size)
        assert sizes[-1] == (len(lengths) - 1) % chosen.batch_size + 1
    assert sizes[:-1] == [chosen.batch_size] * (len(plan) - 1)
    assert sizes[-1] <= chosen.batch_size


@settings(max_examples=50)
@given(any_lengths, any_settings(), st.integers(0, 9))
def test_the_same_settings_make_the_same_plan(lengths: np.ndarray, chosen: PlanSettings, epoch: int) -> None:
    before = lengths.copy()
    assert same(plan_epoch(lengths, chosen, epoch), plan_epoch(lengths.copy(), chosen, epoch))
    assert np.array_equal(lengths, before)


@pytest.mark.parametrize(("unit", "layout"), KINDS)
def test_seed_and_epoch_change_the_order(unit: str, layout: str) -> None:
    lengths = benchmark_lengths(0, (20, 60, 120)) // 8
    chosen = plan_settings(batch_unit=unit, layout=layout)

    def order(epoch: int, seed: int) -> list[int]:
        plan = plan_epoch(lengths, plan_settings(batch_unit=unit, layout=layout, seed=seed), epoch)
        return np.concatenate([update.examples for update in plan]).tolist()

    orders = [order(epoch, seed) for epoch in range(3) for seed in (chosen.seed, 1, -1)]
    assert len({tuple(found) for found in orders}) == 9


def test_plans_stay_what_they_are() -> None:
    """A run is resumed from its step alone: a plan that changes between versions would replay and skip examples."""
    lengths = 8 + np.arange(500, dtype=np.int64) * 7919 % 61 + np.arange(500) % 7 * 20
    digests = []
    for unit, layout in KINDS:
        plan = plan_epoch(lengths, plan_settings(batch_unit=unit, layout=layout, seed=7), epoch=3)
        content = "".join(f"{u.row_length} {u.examples.tolist()} {u.row_ends.tolist()}" for u in plan)
        digests.append(hashlib.sha256(content.encode()).hexdigest()[:16])
    assert digests == ["7662c17298ec1286", "85d662713be1e6f7", "8d034cc3563fbce3"]


def test_paper_recipe_packs_tightly() -> None:
    for seed in range(3):
        lengths = benchmark_lengths(seed)
        for micro_batch_rows in (1, 2, 4):
            chosen = plan_settings(batch_size=256, max_length=2048, micro_batch_rows=micro_batch_rows, seed=seed)
            plan = plan_epoch(lengths, chosen, epoch=seed)
            assert share_of_real_tokens(lengths, plan, micro_batch_rows) >= 0.98


def test_recipe_by_rows_packs_tightly() -> None:
    lengths = benchmark_lengths(0)
    plan = plan_epoch(lengths, plan_settings(batch_unit="rows", batch_size=8, max_length=2048), epoch=0)
    assert share_of_real_tokens(lengths, plan, 2) >= 0.98


def test_whole_benchmark_makes_282_updates_an_epoch() -> None:
    lengths = benchmark_lengths(0, (8000, 22093, 42000))
    plan = plan_epoch(lengths, plan_settings(batch_size=256, max_length=2048, micro_batch_rows=4), epoch=0)
    assert len(lengths) == 72093
    assert len(plan) == 282
    assert len(plan[-1].examples) == 72093 - 281 * 256


def test_exchanges_keep_updates_a_fair_sample() -> None:
    """Totals stay within what shuffling itself makes of them, and no kind of example is put off to the end."""
    lengths = benchmark_lengths(1)
    plan = plan_epoch(lengths, plan_settings(batch_size=256, max_length=2048, micro_batch_rows=4), epoch=0)[:-1]
    totals = np.array([lengths[update.examples].sum() for update in plan])
    spread = lengths.std() * np.sqrt(256)
    assert np.abs(totals - 256 * lengths.mean()).max() < 5 * spread
    halves = [np.concatenate([update.examples for update in half]) for half in (plan[:18], plan[18:])]
    assert abs(lengths[halves[0]].mean() / lengths[halves[1]].mean() - 1) < 0.06


def test_micro_batches_out_of_reach_leave_updates_alone() -> None:
    lengths = benchmark_lengths(2)
    far = plan_epoch(lengths, plan_settings(batch_size=256, max_length=2048, micro_batch_rows=64), epoch=0)
    near = plan_epoch(lengths, plan_settings(batch_size=256, max_length=2048, micro_batch_rows=4), epoch=0)
    order = np.argsort(np.random.Philox(key=np.array([0, 0], np.uint64)).random_raw(len(lengths)), kind="stable")
    shuffled = [set(order[start : start + 256].tolist()) for start in range(0, len(order), 256)]
    assert [set(update.examples.tolist()) for update in far] == shuffled
    moved = [len(set(update.examples.tolist()) - before) for update, before in zip(near, shuffled, strict=True)]
    assert 0 < np.mean(moved) < 80


def test_bucketed_rows_are_little_longer_than_their_examples() -> None:
    lengths = benchmark_lengths(0)
    chosen = plan_settings(layout="bucketed", batch_size=32, max_length=2048, micro_batch_rows=4)
    plan = plan_epoch(lengths, chosen, epoch=0)
    assert {update.row_length for update in plan} <= set(bucket_lengths(2048))
    assert share_of_real_tokens(lengths, plan, 4) > 0.55
    shortest = [update.row_length for update in plan]
    assert shortest != sorted(shortest)


@pytest.mark.parametrize("max_length", [1, 7, 8, 100, 512, 1299, 2048, 4096])
def test_buckets_end_at_the_limit(max_length: int) -> None:
    buckets = bucket_lengths(max_length)
    assert buckets == sorted(set(buckets))
    assert buckets[-1] == max_length
    assert buckets[0] >= 1
    assert all(bucket % 8 == 0 for bucket in buckets[:-1])
    assert len(buckets) <= 9


def test_best_fit_takes_the_tightest_row() -> None:
    # 6 and 5 open a row each; 4 fits both and goes where it fills the row; 3 then goes to the other.
    assert pack_rows(np.array([6, 5, 4, 3]), 10) == [[0, 2], [1, 3]]
    assert pack_rows(np.array([10, 10]), 10) == [[0], [1]]


@pytest.mark.parametrize("lengths", [[], [0], [257]])
def test_lengths_out_of_range_are_refused(lengths: list[int]) -> None:
    for layout in ("packed", "bucketed"):
        with pytest.raises(ValueError, match=r"examples|tokens"):
            plan_epoch(np.array(lengths, np.int64), plan_settings(layout=layout), epoch=0)


def test_settings_come_from_the_config() -> None:
    values = {
        "model": {"source": "toy"},
        "data": {"train": ["sample"], "max_length": 96, "layout": "bucketed"},
        "training": {"run_dir": "run", "epochs": 1, "seed": 3, "batch_size": 6, "micro_batch_rows": 2},
    }
    assert PlanSettings.of(parse_config(values, "test")) == PlanSettings(3, 6, "examples", 96, "bucketed", 2)
