"""Copies of posts in another spelling are found, and other posts are not taken for copies."""

import json
import random
from pathlib import Path

import pytest

from mentallama_jax.imhi.audit.near_copies import ALIKE, near_copies_among, near_copies_of
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.mixture import forbidden_posts, mix
from mentallama_jax.imhi.records import Record, post_id

POSTS = {record.post_id: record.post for record in read_records(["sample"]).records}
_TEXTS = list(POSTS.values())
LONG = {f"long {start}": " ".join(_TEXTS[start : start + 6]) for start in range(0, len(_TEXTS) - 5, 6)}


def half(text: str) -> str:
    return " ".join(text.split()[: len(text.split()) // 2 + 1])


CHANGES = {
    "a link added": lambda text: f"{text} https://example.org/r/x?y=1",
    "a link in front": lambda text: f"www.example.org/a {text}",
    "dots": lambda text: f"{text}...",
    "case": str.upper,
    "punctuation": lambda text: text.replace(".", " !! ").replace(",", " ;"),
    "apostrophes": lambda text: text.replace("'", "’"),
    "a word in front": lambda text: f"Edit: {text}" if len(text.split()) > 7 else text.upper(),
}
CUTS = {
    "the last quarter cut": lambda text: text[: -len(text) // 4],
    "the last half cut": half,
    "the first third cut": lambda text: text[len(text) // 3 :],
    "a word changed in the midst": lambda text: " ".join(
        ["otherwise" if place == 20 else word for place, word in enumerate(text.split())]
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_post_in_another_spelling_is_found(change: str) -> None:
    changed = {f"copy {key}": CHANGES[change](post) for key, post in POSTS.items()}
    found = {(pair.first, pair.second) for pair in near_copies_of(POSTS, changed)}
    assert {key for key in POSTS if (key, f"copy {key}") not in found} == set()


@pytest.mark.parametrize("change", CUTS)
def test_a_long_post_that_was_cut_is_found(change: str) -> None:
    changed = {f"copy {key}": CUTS[change](post) for key, post in LONG.items()}
    found = {(pair.first, pair.second) for pair in near_copies_of(LONG, changed)}
    assert {key for key in LONG if (key, f"copy {key}") not in found} == set()


@pytest.mark.parametrize("posts", [POSTS, LONG])
def test_posts_of_their_own_are_no_copies(posts: dict[str, str]) -> None:
    assert near_copies_among(posts, lambda first, second: True) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("I am so stressed because of work", "I am so stressed because of money"),
        ("My mother is ill and I do not sleep", "My brother is ill and I do not sleep"),
        ("I feel so tired and I want to quit my job", "I feel so tired and I want to see my friends again soon"),
        ("...", "!?"),
        ("", "x"),
    ],
)
def test_posts_on_one_topic_are_no_copies(first: str, second: str) -> None:
    assert near_copies_among({"a": first, "b": second}, lambda one, two: True) == []


def test_the_figures_are_exact_and_the_same_in_every_order() -> None:
    words = [f"w{number}" for number in range(40)]
    posts = {"a": " ".join(words), "b": " ".join([*words, "one", "two"]), "c": " ".join(words[:30])}
    by_pair = {(p.first, p.second): p.similarity for p in near_copies_among(posts, lambda one, two: True)}
    assert by_pair == {("a", "b"): 1.0, ("a", "c"): 1.0, ("b", "c"): 1.0}  # all of the shorter one
    short = {"a": " ".join(words[:12]), "b": " ".join(words[:14])}
    (pair,) = near_copies_among(short, lambda one, two: True)
    assert pair.similarity == pytest.approx(10 / 12, abs=1e-4)
    assert pair.similarity >= ALIKE
    everything = POSTS | {f"copy {key}": f"{post} https://example.org" for key, post in POSTS.items()}
    shuffled = list(everything.items())
    random.Random(1).shuffle(shuffled)
    sets = [
        {(frozenset((p.first, p.second)), p.similarity) for p in near_copies_among(posts, lambda one, two: True)}
        for posts in (everything, dict(shuffled))
    ]
    assert sets[0] == sets[1]
    assert len(sets[0]) == len(POSTS)


def test_every_one_of_many_alike_posts_is_found() -> None:
    posts = {str(number): f"{next(iter(LONG.values()))} {number}" for number in range(3000)}
    pairs = near_copies_of({"test": next(iter(LONG.values()))}, posts)
    assert {pair.second for pair in pairs} == set(posts)


def test_near_copies_of_held_out_posts_are_dropped() -> None:
    text = next(iter(LONG.values()))
    rows = [
        Record("a", "DR", text + " https://example.org", "yes", split="train"),
        Record("b", "DR", "The week was calm and we went to the lake.", "no", split="train"),
        Record("c", "CAMS", text, "none", split="test"),
    ]
    assert [record.id for record in mix(rows, datasets=["DR"], exclude=["CAMS"])] == ["b"]
    forbidden = forbidden_posts([rows[2]], rows[:2])
    assert forbidden.near_copies == (("a", "c", 1.0),)
    assert (forbidden.originals, len(forbidden.posts)) == (1, 2)
    assert post_id(text) in forbidden.posts


def test_the_released_files_hold_those_that_were_looked_at(imhi_release: Path) -> None:
    """Pairs across splits and data sets; each of them was looked at, and is one post twice."""
    first: dict[str, Record] = {}
    parts: dict[str, set[tuple[str, str]]] = {}
    for record in read_records([imhi_release]).records:
        first.setdefault(record.post_id, record)
        parts.setdefault(record.post_id, set()).add((record.dataset, record.split))
    posts = {key: record.post for key, record in first.items()}
    pairs = near_copies_among(posts, lambda one, two: parts[one] != parts[two])
    assert sorted(json.dumps([first[pair.first].id, first[pair.second].id]) for pair in pairs) == [
        '["IRF/val/319", "MultiWD/val/973"]',
        '["SAD/test/15", "SAD/train/385"]',
        '["SAD/test/335", "SAD/train/141"]',
        '["SAD/test/597", "SAD/val/446"]',
        '["SAD/train/737", "SAD/val/175"]',
        '["SAD/train/892", "SAD/val/596"]',
    ]


def test_near_copies_are_found_where_words_have_no_blanks_between_them() -> None:
    post = "最近吃什么都没味道，一天只喝了半碗粥，晚上也睡不着，早上起来就累"
    posts = {"a": post, "b": f"转发：{post}。", "c": "今天和朋友去爬山，回来吃了两碗饭，晚上睡得很香，早上起来很精神"}
    assert [(pair.first, pair.second) for pair in near_copies_among(posts, lambda one, two: True)] == [("a", "b")]
