"""How many of the identifiers planted in made-up posts are found, kind by kind, and how much else is changed."""

from collections import Counter

import pytest
from planted_identifiers import CLEAN, NOTATIONS, PlantedPost, planted_corpus

from mentallama_jax.imhi.disguise.disguise_key import DisguiseKey
from mentallama_jax.imhi.disguise.identifier_rules import KINDS
from mentallama_jax.imhi.disguise.identifiers import find, replaced
from mentallama_jax.imhi.disguise.pseudonyms import Pseudonyms, folded

KEY = DisguiseKey(bytes(range(32)))
RECALL = 0.98


def replaced_places(post: PlantedPost) -> set[int]:
    """The characters of a post in whose place something else stands."""
    found = find(post.text, Pseudonyms(KEY, post.text))
    return {place for each in found if folded(each.old) != folded(each.new) for place in range(each.start, each.end)}


@pytest.fixture(scope="module")
def corpus() -> list[PlantedPost]:
    return planted_corpus(seed=16, posts=600)


def test_of_the_planted_identifiers_of_each_kind_98_of_100_are_replaced(corpus: list[PlantedPost]) -> None:
    planted: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    notations: Counter[str] = Counter()
    for post in corpus:
        gone = replaced_places(post)
        for each in post.planted:
            planted[each.kind] += 1
            letters = {place for place in range(each.start, each.end) if post.text[place].isalnum()}
            if not letters <= gone:
                missed[each.kind] += 1
                notations[NOTATIONS[each.notation][1]] += 1
    assert sum(planted.values()) >= 1000
    assert len(planted) == len(KINDS)
    assert min(planted.values()) >= 40
    recall = {kind: 1 - missed[kind] / count for kind, count in planted.items()}
    assert min(recall.values()) >= RECALL, (recall, notations)


def test_no_long_identifier_is_anywhere_in_the_result(corpus: list[PlantedPost]) -> None:
    left = 0
    for post in corpus:
        new = replaced(post.text, find(post.text, Pseudonyms(KEY, post.text)))
        for each in post.planted:
            text = post.text[each.start : each.end]
            left += each.kind in ("handle", "url", "e-mail", "phone", "address") and text in new
    assert left == 0


def test_little_of_a_text_without_identifiers_is_changed() -> None:
    changed = [(text, find(text, Pseudonyms(KEY, text))) for text in CLEAN]
    wrong = [(each.kind, each.old) for _, found in changed for each in found]
    assert len(CLEAN) >= 60
    assert wrong == []
