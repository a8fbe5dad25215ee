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
    "a hundred and fifty dollars, and one thousand and one nights": ["a hundred and fifty", "one thousand and one"],
    "from one hundred and two hundred people, six and seven": ["one hundred", "two hundred", "six", "seven"],
    "two hundred and fifty thousand and twenty-one": ["two hundred and fifty thousand and twenty-one"],
    "a hundred times, a thousand and more, five dozen and six": ["five dozen", "six"],
    "The 1st sign, the 2ND, the 23rd of May and 4th; 5 thieves": ["May", "5"],
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
        ("they owe one hundred and fifty dollars", "$150 gone", []),
        ("they owe a hundred and fifty dollars", "one hundred fifty", []),
        ("they owe one hundred and sixty dollars", "$150 gone", ["one hundred and sixty"]),
        ("they owe $150", "a hundred and fifty dollars", []),
        ("they owe $100", "about a hundred dollars", []),
        ("they owe 250,000 and 1,001", "two hundred and fifty thousand, a thousand and one", []),
        ("from one hundred and fifty to nothing", "100 then 50", []),
        ("they owe $0", "one hundred and fifty", ["0"]),
        ("the 1st sign, the first sign, the 7th", "first", []),
    ],
)
def test_what_a_post_does_not_have_is_absent(explanation, post, absent):
    found = NamedPost(QuotedPost(post))
    assert [explanation[t.start : t.end] for t in named_things(explanation) if not found.has(t)] == absent


NUMBER_WORDS = ["a", "and", "one", "seven", "twenty", "hundred", "thousand", "million", "dozen", "100", "5th", "x"]


@given(st.text(max_size=60) | st.lists(st.sampled_from(NUMBER_WORDS), max_size=9).map(" ".join))
def test_a_text_has_its_own_names_and_numbers(text):
    post = NamedPost(QuotedPost(text))
    assert all(post.has(thing) for thing in named_things(text))
