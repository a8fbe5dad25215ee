"""Names and numbers of explanations, and whether posts have them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallama_jax.evaluation.trust.named_things import NamedPost, named_things
from mentallama_jax.evaluation.trust.quotes import QuotedPost

THINGS = {
    "On Friday they saw Sarah Miller's aunt.": ["Friday", "Sarah Miller's"],
    "The poster and Reddit and PTSD and the DSM-5: Overall fine. Monday came.": [],
    "They owe $1,500 and 25%, twenty-five years, two hundred pages, 10k.": [
        "1,500", "25", "twenty-five", "two hundred", "10k",
    ],
    "1. first 2) second. (3) third; five reasons, two kids, one day, 24/7, COVID-19 now.": ["COVID"],
    'He says "I met Anna at 7" and Tom.': ["Tom"],
    "The Poster Has A Very Bad Day In Paris": [],
    "they moved to New York": ["New York"],
    "it does NOT help, they say I am": [],
}  # fmt: skip


@pytest.mark.parametrize("text", THINGS)
def test_names_and_numbers_are_found(text):
    assert [text[thing.start : thing.end] for thing in named_things(text)] == THINGS[text]


@pytest.mark.parametrize(
    ("explanation", "post", "absent"),
    [
        ("they met Anna's aunt", "i met ANNA today", []),
        ("they met Anna", "i met annabel", ["Anna"]),
        ("they met New York", "a new flat", ["New York"]),
        ("they are 25 and owe 10,000", "I'm twenty five, and 10k in debt", []),
        ("they are 25 and owe $300", "25F with 30 dollars", ["300"]),
        ("for two hundred and 2 days, 7 of them", "200 days, both of us, 24/7", []),
        ("since 2 and 12 years", "a couple of them, a dozen", ["12"]),
    ],
)
def test_what_a_post_does_not_have_is_absent(explanation, post, absent):
    found = NamedPost(QuotedPost(post))
    assert [explanation[t.start : t.end] for t in named_things(explanation) if not found.has(t)] == absent


@given(st.text(max_size=60))
def test_a_text_has_its_own_names_and_numbers(text):
    post = NamedPost(QuotedPost(text))
    assert all(post.has(thing) for thing in named_things(text))
