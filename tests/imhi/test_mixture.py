"""Mixtures keep posts together, forget nothing silently, and depend on records and seed alone."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.mixture import group_by_post, held_out_rows, mix, sample_rows, split_by_post
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS, held_out


def questions(dataset: str, post: str, split: str = "train") -> list[Record]:
    task = TASKS[dataset]
    return [
        Record(f"{dataset}/{split}/{post}/{aspect}", dataset, post, task.labels[0], "", aspect, split)
        for aspect in task.aspects or ("",)
    ]


RECORDS = [record for name in TASKS for number in range(40) for record in questions(name, f"post {name} {number}")]


def ids(records: list[Record]) -> list[str]:
    return [record.id for record in records]


def test_data_sets_are_taken_and_left_out_by_any_of_their_names() -> None:
    assert mix(RECORDS) == RECORDS
    assert {record.dataset for record in mix(RECORDS, datasets=["Irf", "t-sid"])} == {"IRF", "T-SID"}
    general = mix(RECORDS, exclude=held_out())
    assert {record.dataset for record in general} == set(TASKS) - set(held_out())


def test_a_held_out_task_keeps_its_test_posts_out_of_training() -> None:
    shared = questions("CAMS", "POST  multiwd 3", "test")
    trained = questions("MultiWD", "post MultiWD 3")
    assert len(trained) == 6
    assert mix([*trained, *RECORDS[:1]]) == [*trained, *RECORDS[:1]]
    assert mix([*trained, *RECORDS[:1], *shared], exclude=["CAMS"]) == RECORDS[:1]
    assert mix([*trained, *RECORDS[:1], *shared], exclude=["CAMS"], drop_posts=()) == [*trained, *RECORDS[:1]]
    assert mix([*trained, *RECORDS[:1]], drop_posts={record.post_id for record in held_out_rows(shared)}) == RECORDS[:1]
    assert held_out_rows([replace(shared[0], split="train")]) == []


def test_weights_repeat_whole_posts() -> None:
    chosen = mix(RECORDS, datasets=["MultiWD", "DR"], weights={"multiwd": 2.5})
    times = Counter(ids(chosen))
    assert {times[record.id] for record in RECORDS if record.dataset == "DR"} == {1}
    per_post = [{times[record.id] for record in group} for group in group_by_post(RECORDS).values()]
    per_post = [
        seen
        for seen, group in zip(per_post, group_by_post(RECORDS).values(), strict=True)
        if group[0].dataset == "MultiWD"
    ]
    assert all(seen in ({2}, {3}) for seen in per_post)
    assert 5 < sum(seen == {3} for seen in per_post) < 35


def test_fractions_sample_and_grow_with_the_weight() -> None:
    shares = [set(ids(mix(RECORDS, weights=dict.fromkeys(TASKS, weight)))) for weight in (0.2, 0.5, 0.8)]
    assert shares[0] < shares[1] < shares[2] < set(ids(RECORDS))
    assert 0.35 < len(shares[1]) / len(RECORDS) < 0.65
    assert mix(RECORDS, weights={"DR": 0.5}, seed=1) != mix(RECORDS, weights={"DR": 0.5}, seed=2)


def answered(label: str, count: int, dataset: str = "DR", aspect: str = "") -> list[Record]:
    names = [f"{dataset} {aspect} {label} {number}" for number in range(count)]
    return [Record(name, dataset, name, label, "", aspect, "train") for name in names]


def test_balanced_labels_are_seen_alike_and_data_sets_keep_their_size() -> None:
    of_label = {"school": 90, "work": 30, "everyday decision making": 0, "family issues": 3}
    rows = [row for label, count in of_label.items() for row in answered(label, count, "SAD")]
    rows += answered("yes", 12) + answered("no", 12) + answered("", 7)
    chosen = mix(rows, balance_labels=True, weights={"SAD": 0.5})
    seen = Counter((row.dataset, row.label) for row in chosen)
    assert {answer: seen[answer] for answer in (("DR", "yes"), ("DR", "no"), ("DR", ""))} == {
        ("DR", "yes"): 12,
        ("DR", "no"): 12,
        ("DR", ""): 7,
    }
    assert abs(sum(row.dataset == "SAD" for row in chosen) - 61.5) <= 12  # half of 123
    balanced = Counter(row.label for row in mix(rows, datasets=["SAD"], balance_labels=True))
    assert all(abs(balanced[label] - 41) <= 8 for label in ("school", "work"))
    assert 39 <= balanced["family issues"] <= 42  # 13.67 times each of three
    assert set(balanced) == {"school", "work", "family issues"}


def test_labels_are_balanced_within_an_aspect() -> None:
    rows = [
        *answered("yes", 10, "MultiWD", "social"),
        *answered("no", 10, "MultiWD", "social"),
        *answered("yes", 10, "MultiWD", "physical"),
        *answered("no", 30, "MultiWD", "physical"),
    ]
    seen = Counter((row.aspect, row.label) for row in mix(rows, balance_labels=True))
    assert (seen["social", "yes"], seen["social", "no"], seen["physical", "yes"]) == (10, 10, 20)
    assert 12 <= seen["physical", "no"] <= 28


def test_balance_is_of_the_rows_that_may_occur() -> None:
    rows = answered("yes", 10) + answered("no", 10)
    dropped = {row.post_id for row in rows[2:10]}
    seen = Counter(row.label for row in mix(rows, balance_labels=True, drop_posts=dropped))
    assert seen["yes"] == 6  # each of two three times


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), order=st.randoms(use_true_random=False))
def test_choices_do_not_depend_on_the_order_of_the_input(seed: int, order: random.Random) -> None:
    records = [replace(one, label=one.task.labels[place % 3 == 0]) for place, one in enumerate(RECORDS)]
    shuffled = order.sample(records, len(records))
    options = {"weights": {"DR": 0.5, "IRF": 1.7}, "max_rows": 70, "seed": seed, "balance_labels": True}
    first, second = mix(records, **options), mix(shuffled, **options)
    assert Counter(ids(first)) != Counter(ids(mix(records, **options | {"balance_labels": False})))
    assert Counter(ids(first)) == Counter(ids(second))
    assert len(first) == 70
    position = {record.id: index for index, record in enumerate(shuffled)}
    assert [position[id_] for id_ in ids(second)] == sorted(position[id_] for id_ in ids(second))


def test_max_rows_is_a_fair_sample() -> None:
    seen = Counter(record.dataset for seed in range(20) for record in sample_rows(RECORDS, 64, seed))
    expected = Counter(record.dataset for record in RECORDS)
    for name, count in expected.items():
        share = 20 * 64 * count / len(RECORDS)
        assert abs(seen[name] - share) < 5 * share**0.5
    assert sample_rows(RECORDS, 10_000, 0) == RECORDS


@settings(max_examples=30)
@given(seed=st.integers(0, 1000))
def test_parts_never_share_a_post(seed: int) -> None:
    twins = [replace(record, id=f"{record.id}/twin", post=record.post.upper()) for record in RECORDS[:30]]
    parts = split_by_post([*RECORDS, *twins], {"train": 0.8, "val": 0.1, "test": 0.1}, seed)
    posts = {name: {record.post_id for record in part} for name, part in parts.items()}
    assert not posts["train"] & posts["val"]
    assert not (posts["train"] | posts["val"]) & posts["test"]
    assert sum(map(len, parts.values())) == len(RECORDS) + len(twins)
    assert len(posts["train"]) > 250


def test_a_posts_part_stays_when_records_are_added() -> None:
    shares = {"train": 0.5, "test": 0.5}
    few, all_of_them = split_by_post(RECORDS[:50], shares), split_by_post(RECORDS, shares)
    assert set(ids(few["test"])) <= set(ids(all_of_them["test"]))
    assert split_by_post(RECORDS, {"all": 1.0, "none": 0.0})["none"] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"datasets": ["DR"], "exclude": ["dr"]}, "no record of none is left"),
        ({"datasets": ["drea"]}, "unknown data set 'drea'; did you mean dreaddit"),
        ({"weights": {"DR": 0.0}}, "weight of DR is 0.0"),
        ({"exclude": ["DR"], "weights": {"DR": 2.0}}, "not among the data sets taken"),
        ({"max_rows": 0}, "max_rows is 0"),
        ({"datasets": ["DR"], "drop_posts": {record.post_id for record in RECORDS}}, "after dropping 400 posts"),
    ],
)
def test_mistakes_are_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        mix(RECORDS, **options)


def test_a_data_set_that_was_not_read_is_named() -> None:
    with pytest.raises(UserError, match=r"no record of SAD was read \(there are: DR\)"):
        mix(questions("DR", "p"), datasets=["SAD"])
    with pytest.raises(UserError, match="add up to 1"):
        split_by_post(RECORDS, {"train": 0.9})
