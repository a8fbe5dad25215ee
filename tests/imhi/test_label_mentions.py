"""A name that is denied, or is a part of another noun, is not the label; every sentence was written for the tests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallama_jax.imhi.labels import read_label
from mentallama_jax.imhi.tasks import TASKS

DISORDERS = ("SWMH", "T-SID")
NOUNS = (
    "prevention information",
    "hotline numbers",
    "awareness material",
    "research",
    "dinner",
    "photos",
    "jokes",
    "news",
)
STATEMENTS = (
    "The post shows {name} {noun}.",
    "This post shows {name} {noun} for a friend.",
    "It is {name} {noun}.",
    "The message is about {name} {noun}.",
    "{cause} is {name} {noun}.",
    "This falls under the category of {name} {noun}.",
)


def named(name: str) -> list[str]:
    return [label for label in TASKS[name].labels if not label.startswith(("no", "other"))]


@st.composite
def name_and_noun(draw: st.DrawFn) -> tuple[str, str, str]:
    name = draw(st.sampled_from(["SWMH", "T-SID", "SAD", "CAMS"]))
    label = draw(st.sampled_from(named(name)))
    cause = {"SAD": "The stress cause", "CAMS": "The cause of depression"}.get(name, "The disorder")
    sentence = draw(st.sampled_from(STATEMENTS))
    return name, label, sentence.format(name=label, noun=draw(st.sampled_from(NOUNS)), cause=cause)


@given(name_and_noun())
def test_a_name_that_goes_on_to_another_noun_is_not_the_label(drawn):
    name, _, text = drawn
    assert read_label(text, TASKS[name]) is None


@given(name_and_noun(), st.sampled_from(["The answer is {}.", "Answer: {}"]), st.data())
def test_nor_does_it_stand_against_a_declared_answer(drawn, declaration, data):
    name, _, text = drawn
    label = data.draw(st.sampled_from(TASKS[name].labels))
    assert read_label(f"{text} {declaration.format(TASKS[name].completion_words[label])}", TASKS[name]) == label


@pytest.mark.parametrize("name", DISORDERS)
@pytest.mark.parametrize(
    "what",
    ["condition", "conditions", "disorder", "disorders", "disorder symptoms", "illness", "illnesses"],
)
@pytest.mark.parametrize("between", ["such as", "like", "related to"])
def test_a_disorder_that_a_denial_names_is_not_the_label(name, what, between):
    for label in named(name):
        for health in ("", "health "):
            sentence = f"The post shows no mental {health}{what} {between} {TASKS[name].completion_words[label]}."
            assert read_label(sentence, TASKS[name]) is None


@pytest.mark.parametrize("between", ["related to", "such as", "like", "due to"])
def test_a_cause_that_a_denial_names_is_not_the_label(between):
    for label in named("CAMS"):
        for cause in ("causes of depression", "cause of depression", "cause"):
            assert read_label(f"This post shows no {cause} {between} {label}.", TASKS["CAMS"]) is None


@pytest.mark.parametrize(
    ("name", "text", "label"),
    [
        ("T-SID", "The tweet has no mental disorder in it.", "no mental disorders"),
        ("SWMH", "So: no mental disorder symptoms", "no mental disorders"),
        ("CAMS", "I see no cause of depression.", "none"),
        ("CAMS", "None of these, not medication.", None),
        ("SWMH", "None of this is depression.", None),
        ("SAD", "The stress cause is family.", "family issues"),
        ("SAD", "The stress cause is work and nothing else.", "work"),
        ("SAD", "The stress is caused by work pressure.", "work"),
        ("SAD", "The text is about a class, making school the most appropriate label.", "school"),
        ("SWMH", "The post shows depression symptoms.", "depression"),
        ("SWMH", "The post shows depression and the poster asks for help.", "depression"),
        ("T-SID", "This is depression rather than PTSD.", "depression"),
    ],
)
def test_names_that_are_the_label_are_still_read(name, text, label):
    assert read_label(text, TASKS[name]) == label
