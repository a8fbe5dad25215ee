"""Negations in the evidence for a claim do not deny it; those on its verb do. Every sentence was written here."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallama_jax.imhi.labels import contradicts, read_label
from mentallama_jax.imhi.tasks import TASKS

CONDITIONS = {
    "DR": ("depression", "depressed"),
    "dreaddit": ("stress", "stressed"),
    "loneliness": ("loneliness", "lonely"),
}
EVIDENCE = (
    "Having no friends",
    "Having nobody to call and nothing to do",
    "Not sleeping for days",
    "Never laughing any more",
    "Feeling that nothing matters",
    "The poster having no friends",
    "The poster's having no friends",
    "Therefore, having no joy left",
    "The fact that the poster has no one to talk to",
    "The fact that nobody answers their calls",
    "The statement that nothing brings them joy",
    "Their remark that nobody cares",
    "That the poster has nobody to call",
)
"""Pieces of evidence with a negation of their own."""

VERBS = (
    "indicates that",
    "suggests that",
    "clearly shows that",
    "means that",
    "implies that",
    "demonstrates that",
    "is a sign that",
    "is a clear indication that",
    "confirms that",
    "makes it clear that",
)
CLAIMS = (
    "the poster suffers from {noun}",
    "the poster is {adjective}",
    "they suffer from {noun}",
    "they are {adjective}",
)
DENIALS = (
    "Nothing suggests that {claim}.",
    "Nothing in this post suggests that {claim}.",
    "Nothing the poster writes shows that {claim}.",
    "No evidence indicates that {claim}.",
    "No part of this post shows that {claim}.",
    "None of these lines implies that {claim}.",
    "Neither the tone nor the words indicate that {claim}.",
    "Being tired does not indicate that {claim}.",
    "The tone does not clearly show that {claim}.",
    "The post does not contain any statements that indicate that {claim}.",
    "The post does not express sadness or indicate that {claim}.",
    "There is no evidence in the post to suggest that {claim}.",
    "There is no indication that {claim}.",
    "I do not think this shows that {claim}.",
    "Not one line of this post shows that {claim}.",
)
NOT_SURE = (
    "I do not believe that having no friends means that {claim}.",
    "It is not true that having no friends means that {claim}.",
    "Having no friends does not mean that {claim}.",
    "Having no friends could mean that {claim}.",
    "The idea that having no friends means that {claim} finds no support.",
    "Saying that having no joy means that {claim} goes too far.",
    "The fact that the post contains no evidence suggests that {claim}.",
    "The poster gets no message indicating that {claim}.",
    "The poster sees no point in life showing that {claim}.",
    "Nothing brings them joy suggesting that {claim}.",
    "Nothing helps and this shows that {claim}.",
    "No one to talk to means that {claim}.",
)


def claim(name: str, pattern: str) -> str:
    noun, adjective = CONDITIONS[name]
    return pattern.format(noun=noun, adjective=adjective)


@given(
    st.sampled_from(sorted(CONDITIONS)),
    st.sampled_from(EVIDENCE),
    st.sampled_from(VERBS),
    st.sampled_from(CLAIMS),
    st.sampled_from(["", "The week was long. ", "Reasoning: ", "Overall, "]),
)
def test_a_negation_in_the_evidence_denies_no_claim(name, evidence, verb, pattern, before):
    text = f"{before}{evidence} {verb} {claim(name, pattern)}."
    assert read_label(text, TASKS[name]) != "no"
    assert not contradicts("yes", text, TASKS[name])


@pytest.mark.parametrize(("evidence", "verb"), list(itertools.product(EVIDENCE, VERBS)))
def test_evidence_with_a_negation_is_read_as_what_it_speaks_for(evidence, verb):
    assert read_label(f"{evidence} {verb} the poster is lonely.", TASKS["loneliness"]) == "yes"


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("pattern", CLAIMS[:2])
@pytest.mark.parametrize("sentence", DENIALS)
def test_a_negation_on_the_verb_or_of_all_evidence_denies(name, pattern, sentence):
    assert read_label(sentence.format(claim=claim(name, pattern)), TASKS[name]) == "no"


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("pattern", CLAIMS[:2])
@pytest.mark.parametrize("sentence", NOT_SURE)
def test_what_is_not_sure_states_nothing(name, pattern, sentence):
    assert read_label(sentence.format(claim=claim(name, pattern)), TASKS[name]) is None


@given(
    st.sampled_from(sorted(CONDITIONS)),
    st.sampled_from(["No joy, no energy", "No plans", "Not a single friend", "Never any sleep", "They cannot sleep"]),
    st.sampled_from([" — ", " – ", " - ", "—", " -- "]),
    st.sampled_from(CLAIMS[:2]),
)
def test_a_dash_ends_a_clause(name, before, dash, pattern):
    assert read_label(f"{before}{dash}{claim(name, pattern)}.", TASKS[name]) == "yes"


@pytest.mark.parametrize(
    ("name", "aspect", "text", "label"),
    [
        (
            "IRF",
            "thwarted belongingness",
            "The poster having no friends indicates that the post shows risk of thwarted belongingness.",
            "yes",
        ),
        ("IRF", "thwarted belongingness", "Nothing here indicates that the post shows this risk.", "no"),
        ("SAD", "", "Having no friends shows that the stress cause is social relationships.", None),
        ("SAD", "", "Nothing shows that the stress cause is social relationships.", None),
        ("DR", "", "The poster does not - in my view - suffer from depression.", "no"),
        ("DR", "", "I do not think, to be honest, the poster is depressed.", "no"),
        ("DR", "", "I do not think - to be honest - that the poster is depressed.", "no"),
        ("DR", "", "No - the poster suffers from depression.", None),
        ("DR", "", "No — the poster does not suffer from depression.", "no"),
        ("loneliness", "", "The fact that nobody answers the poster shows loneliness.", None),
    ],
)
def test_names_risks_and_asides(name, aspect, text, label):
    assert read_label(text, TASKS[name], aspect) == label
