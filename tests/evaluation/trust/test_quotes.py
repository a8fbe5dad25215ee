"""Quotes are found whatever their marks are, and located in posts whatever case, blanks and marks they have there."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentallama_jax.evaluation.trust.quotes import (
    MOST_QUOTES,
    QuotedPost,
    find_quotes,
    locate_quote,
    without_quotes,
    words_of,
)

FOUND = {
    'She says "I am tired" and “no one cares”.': ["I am tired", "no one cares"],
    "the poster's parents' house isn't 'cold' they say": ["cold"],
    "He says 'my parents' house is cold' often": ["my parents' house is cold"],
    "'sad' and the parents' house": ["sad"],
    "'feels' and 'numb'": ["feels", "numb"],
    "rock 'n' roll in the '90s 'cause 'I like it'": ["I like it"],
    "a \"he told me 'go away' then\" b": ["he told me 'go away' then"],
    'say "a "b" c" d': ['a "b" c'],
    "“a “b” c” and “d”": ["a “b” c", "d"],
    "« je suis » et »ja« „gut“ ‚x y‘ ‹z›": [" je suis ", "ja", "gut", "x y", "z"],
    'the "unclosed and\n\nnew "one"': ["one"],
    "5'4\" and 6'2\" tall": [],
    "“I can’t” and ‘it’s over’ ok": ["I can’t", "it’s over"],
    'He said:"x". "Yes," she says, "I do."': ["x", "Yes,", "I do."],
    'Not "self-harm"-related (“so sad”)': ["self-harm", "so sad"],
    "no quotes, don't, the dogs' food, 'til then": [],
    '"" and " " and "': [],
}
POST = "I CAN'T sleep... it's\n\nso hard. Café‚Äôs closed, I don‚Äôt know; 😢 re\u0301sume\u0301"
LOCATED = {
    "can’t sleep": ["CAN'T sleep"],
    "I can't ... so hard.": ["I CAN'T", "so hard"],
    "it's so hard, cafés": ["it's\n\nso hard. Café‚Äôs"],
    "“I don't know,”": ["I don‚Äôt know"],
    "…closed…": ["closed"],
    "I [really] can't sleep": ["I", "CAN'T sleep"],
    "😢": ["😢"],
    "résumé": ["re\u0301sume\u0301"],
    "can't sle ep its": ["CAN'T sleep... it's"],
    "closed ... sleep": [],
    "hard sleep": [],
    "an't": [],
    "I can't know": [],
    "🙂": [],
    "": [],
}


@pytest.mark.parametrize("text", FOUND)
def test_quotes_are_found(text):
    quotes = find_quotes(text)
    assert [quote.text for quote in quotes] == FOUND[text]
    assert all(text[quote.start : quote.end] == quote.text for quote in quotes)


def test_quotes_are_replaced_with_their_marks():
    assert without_quotes("He is “lazy”, not 'bad', isn't he?", "Q") == "He is Q, not Q, isn't he?"


@pytest.mark.parametrize("quote", LOCATED)
def test_quotes_are_located(quote):
    assert [POST[start:end] for start, end in locate_quote(quote, POST)] == LOCATED[quote]


def test_quotes_beyond_the_most_are_not_looked_at():
    assert len(find_quotes('"a" ' * (MOST_QUOTES + 5))) == MOST_QUOTES


TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(" .'\"“”‘’«»…[]\n"), max_size=80)


@given(TEXTS)
def test_offsets_give_back_the_text(text):
    assert all(text[quote.start : quote.end] == quote.text for quote in find_quotes(text))
    words = words_of(text)
    assert all(text[word.start : word.end].strip() for word in words)
    assert all(one.end <= other.start for one, other in pairwise(words))


@settings(max_examples=200)
@given(TEXTS, st.data())
def test_words_cut_from_a_post_are_located(post, data):
    words = words_of(post)
    if not words:
        return
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, len(words) - 1))
    cut = post[words[first].start : words[last].end]
    change = data.draw(st.sampled_from([str.upper, str.lower, str.casefold, str.swapcase, str]))
    blank = data.draw(st.sampled_from([" ", "\n", "  ", "\u00a0"]))
    quote = re.sub(r" ", blank, change(cut)) + data.draw(st.sampled_from(["", ".", ",", "!?", "...", "…"]))
    spans = locate_quote(quote, post)
    assert len(spans) == 1
    [(start, end)] = spans
    assert [word.folded for word in words_of(post[start:end])] == [word.folded for word in words[first : last + 1]]


@given(st.lists(st.sampled_from("so sad today and i never sleep at all".split()), min_size=4, max_size=12), st.data())  # noqa: SIM905
def test_parts_around_an_ellipsis_are_located_in_order(words, data):
    one = data.draw(st.integers(1, len(words) - 2))
    other = data.draw(st.integers(one, len(words) - 1))
    post = " ".join(words)
    quote = f"{' '.join(words[:one])} ... {' '.join(words[other:])}"
    spans = locate_quote(quote, post)
    assert spans
    assert " ".join(post[start:end] for start, end in spans).split() == words[:one] + words[other:]
    assert all(one[1] <= other[0] for one, other in pairwise(spans))


@pytest.mark.parametrize(
    ("quote", "places"),
    [
        ("a lot", ["a lot", "A LOT", "alot"]),
        ("a ... more", ["a", "more", "A", "more"]),
        (":(", [":(", ":("]),
        ("nothing", []),
    ],
)
def test_all_places_of_a_quote_are_found(quote, places):
    post = "I cry a lot, more :( and A LOT. No more, alot :("
    assert [post[start:end] for start, end in QuotedPost(post).locate_all(quote)] == places


@given(st.lists(st.sampled_from(["ab", "a", "b", "AB,", "…", "!"]), max_size=12), st.sampled_from(["ab", "a b", "!"]))
def test_all_places_are_those_that_the_first_leaves(pieces, quote):
    post = " ".join(pieces)
    spans = QuotedPost(post).locate_all(quote)
    assert spans[:1] == locate_quote(quote, post)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    behind = spans[-1][1] if spans else 0
    assert locate_quote(quote, post[behind:]) == []
