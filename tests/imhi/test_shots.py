"""Few-shot examples never give the question's post away, and are as many and as balanced as asked."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.audit.near_copies import near_copies_of
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.shots import Choice, Shots, choose_examples, distinct, shown_order

WORDS = ("rain", "sleep", "work", "home", "alone", "tired", "again", "nobody", "calls", "school", "money", "joy", "dog")
CHANGES = (
    lambda post: post,
    str.upper,
    lambda post: f"  {post}\n",
    lambda post: f"{post} https://example.org/a",
    lambda post: post.replace(" ", " , "),
    lambda post: f"{post} {post.split()[0]}" if len(post.split()) > 12 else post,
    lambda post: " ".join(post.split()[: max(2, len(post.split()) * 9 // 10)]) if len(post.split()) > 25 else post,
)


def written(source: random.Random, number: int, words: int) -> str:
    return " ".join([*source.choices(WORDS, k=words), str(number)])


def embed(texts: Sequence[str]) -> np.ndarray:
    """Counts of words, of length 1."""
    counts = np.array([[text.lower().count(word) + 0.01 for word in WORDS] for text in texts], np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def chosen_for(questions, pool, shots):
    return choose_examples(questions, pool, shots, embed)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(get_args(Choice)), st.integers(1, 3), st.integers(1, 12))
def test_no_example_is_of_the_questions_post_or_a_near_copy_of_it(
    seed: int, choice: Choice, per_class: int, rows: int
) -> None:
    source = random.Random(seed)
    pool, questions = [], []
    for number in range(rows):
        post = written(source, number, source.choice((1, 3, 8, 15, 40)))
        for copy in range(source.randrange(1, 4)):
            planted = source.choice(CHANGES)(post)
            split = source.choice(("train", "train", "train", "test", "val"))
            label = source.choice(("yes", "no"))
            pool.append(Record(f"p{number}-{copy}", "dreaddit", planted, label, split=split))
        if source.random() < 0.7:
            questions.append(Record(f"q{number}", "dreaddit", source.choice(CHANGES)(post), split="test"))
    usable = [record for record in pool if record.split == "train"]
    if not questions or not usable:
        return
    chosen = chosen_for(questions, pool, Shots(per_class, choice, seed))
    assert chosen.keys() == {question.id for question in questions}
    for question in questions:
        examples = chosen[question.id]
        assert {example.split for example in examples} <= {"train"}
        assert not [example.id for example in examples if example.id.startswith(f"p{question.id[1:]}-")]
        assert question.post_id not in {example.post_id for example in examples}
        assert near_copies_of({"q": question.post}, {example.id: example.post for example in examples}) == []
        assert len({example.post_id for example in examples}) == len(examples)
        # Nothing more could have been taken: what is left of a label that lacks examples clashes.
        counts = Counter(example.label for example in examples)
        if choice != "random":
            assert max(counts.values(), default=0) <= per_class
        assert len(examples) <= 2 * per_class


def rows_of(count: int, labels=("yes", "no"), dataset="dreaddit", aspect="", split="train", seed=0) -> list[Record]:
    source = random.Random(seed)
    return [
        Record(
            f"{split}{seed}-{n}",
            dataset,
            written(source, n, 20),
            labels[n % len(labels)],
            "Because.",
            aspect,
            split,
        )
        for n in range(count)
    ]


POOL = rows_of(60)
QUESTIONS = rows_of(5, split="test", seed=1)


def test_balanced_examples_are_the_same_for_all_and_in_rounds_of_labels() -> None:
    chosen = chosen_for(QUESTIONS, POOL, Shots(3, "balanced", 1))
    assert len(set(chosen.values())) == 1
    examples = chosen[QUESTIONS[0].id]
    assert [{a.label, b.label} for a, b in zip(examples[::2], examples[1::2], strict=True)] == [{"yes", "no"}] * 3
    assert chosen == chosen_for(QUESTIONS[::-1], POOL[::-1], Shots(3, "balanced", 1))
    assert chosen != chosen_for(QUESTIONS, POOL, Shots(3, "balanced", 2))
    assert distinct(chosen) == sorted(examples, key=lambda record: record.id)


def test_a_clash_with_one_question_leaves_the_examples_of_all_the_same() -> None:
    before = chosen_for(QUESTIONS, POOL, Shots(2))[QUESTIONS[0].id]
    clashing = Record("q", "dreaddit", before[0].post.upper() + "!", split="test")
    chosen = chosen_for([*QUESTIONS, clashing], POOL, Shots(2))
    assert len(set(chosen.values())) == 1
    assert before[0] not in chosen["q"]


def test_questions_of_the_pool_itself_get_examples_of_their_own() -> None:
    questions = [Record(f"q{row.id}", "dreaddit", row.post) for row in POOL[:8]]
    chosen = chosen_for(questions, POOL[:8], Shots(2))
    for question in questions:
        assert Counter(example.label for example in chosen[question.id]) == {"yes": 2, "no": 2}
        assert question.post_id not in {example.post_id for example in chosen[question.id]}


def test_random_examples_are_as_many_whatever_their_labels() -> None:
    counts = {
        seed: Counter(row.label for row in chosen_for(QUESTIONS, POOL, Shots(2, "random", seed))[QUESTIONS[0].id])
        for seed in range(20)
    }
    assert {count.total() for count in counts.values()} == {4}
    assert {count["yes"] for count in counts.values()} >= {1, 2, 3}


def test_nearest_examples_are_the_nearest_of_each_label_and_stand_next_to_the_question() -> None:
    chosen, ids = chosen_for(QUESTIONS, POOL, Shots(2, "nearest")), [row.id for row in POOL]
    for question in QUESTIONS:
        similar = dict(zip(ids, embed([row.post for row in POOL]) @ embed([question.post])[0], strict=True))
        for label in ("yes", "no"):
            best = sorted((similar[row.id] for row in POOL if row.label == label), reverse=True)[:2]
            assert [similar[row.id] for row in chosen[question.id] if row.label == label] == best
        assert shown_order(chosen[question.id], "nearest")[-1] == chosen[question.id][0]


def test_examples_ask_about_the_aspect_of_the_question() -> None:
    aspects = ("thwarted belongingness", "perceived burdensomeness")
    pool = [row for n, aspect in enumerate(aspects) for row in rows_of(8, dataset="IRF", aspect=aspect, seed=10 + n)]
    asked = [Record(f"q{aspect}", "IRF", "A post of its own.", aspect=aspect) for aspect in aspects]
    chosen = chosen_for(asked, pool, Shots(1))
    assert {row.aspect for row in chosen[f"q{aspects[0]}"]} == {aspects[0]}
    with pytest.raises(UserError, match=r"no labelled training row of IRF perceived burdensomeness"):
        chosen_for(asked, pool[:8], Shots(1))
    with pytest.raises(UserError, match=r"no labelled training row of dreaddit"):
        chosen_for(QUESTIONS, rows_of(8, split="test"), Shots(1))
    with pytest.raises(UserError, match=r"--shots 0: give a number"):
        Shots(0)


def test_posts_without_blanks_between_words_are_compared_too() -> None:
    post = "昨夜はまったく眠れなかったので今日は仕事に行けそうにないと思っています"
    pool = [
        Record("copy", "dreaddit", post.replace("今日", "明日"), "yes"),
        Record("other", "dreaddit", "雨が降る。", "yes"),
    ]
    chosen = chosen_for([Record("q", "dreaddit", post)], pool, Shots(1))
    assert [row.id for row in chosen["q"]] == ["other"]
