"""What stands in the reasons for an answer does not overrule it; every sentence was written for the tests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallama_jax.imhi.labels import contradicts, read_label
from mentallama_jax.imhi.tasks import TASKS

EVERY_LABEL = [(task.name, label) for task in TASKS.values() for label in task.labels]
NAMES = ("depression", "anxiety", "stress", "work", "school", "suicide", "medication", "loneliness", "PTSD", "risk")
YES_NO = ("DR", "CLP", "dreaddit", "loneliness", "MultiWD", "IRF")

KEYS = (
    "Family history of {name}: no.",
    "Family history of {name}: yes.",
    "Earlier episodes of {name}: none.",
    "Does the poster use the word {name}? No, but they come close.",
    "Is there some {name}? Yes, but the poster copes well.",
    "Any {name} in the family? No.",
    "{name}: no",
    "{name}: yes.",
    "Their grade in {name} is 62% and 80% of it is gone.",
    "They write that {name} takes 20%, {other} 80%.",
    "{name} (30 %), {other} (70 %).",
)
"""Keys, shares and questions that reasons hold: none of them is the answer."""

ORDINARY = (
    "They reach out, wait for an answer, and nobody writes back.",
    "They hold on and pretend.",
    "They plan, wait and then buy a house.",
    "They stop, hold on, and go home.",
    "The poster says - wait, no, I hate it here.",
    "They ask for a second (wait, a third) chance.",
    "They say let me think about it and leave.",
    "On reflection the week was long.",
    "Actually I am fine is what they write.",
    "Actually, nobody calls them.",
    "Actually, no one calls them.",
    "They wait. They hold on. Let me explain: the week was long.",
    "Wait, they also laugh.",
    "Hmm, the tone is mixed.",
)
"""Words that could take an answer back, where they do not."""

MARKERS = (" Reasoning: ", "\nReasoning: ", "\n\n**Reasoning:** ", "\nExplanation: ", "\nRationale: ", "\nReasons: ")


def reasons() -> st.SearchStrategy[str]:
    pairs = st.tuples(st.sampled_from(KEYS), st.sampled_from(NAMES), st.sampled_from(NAMES))
    keys = pairs.map(lambda drawn: drawn[0].format(name=drawn[1], other=drawn[2]))
    return st.lists(keys | st.sampled_from(ORDINARY), min_size=1, max_size=4).map(" ".join)


@given(st.sampled_from(EVERY_LABEL), st.sampled_from(MARKERS), reasons())
def test_an_answer_stays_whatever_keys_shares_and_ordinary_words_its_reasons_hold(labelled, marker, text):
    name, label = labelled
    task = TASKS[name]
    for aspect in task.aspects or ("",):
        for wording in (task.sentences[label], f"{task.completion_words[label]}."):
            assert read_label(f"{wording}{marker}{text}", task, aspect) == label


@pytest.mark.parametrize(
    ("name", "text", "label"),
    [
        ("DR", "Yes, the poster suffers from depression. Family history of depression: no.", "yes"),
        ("DR", "Yes, the poster suffers from depression. Depression: no", None),
        ("DR", "Depression: no. Yes, the poster suffers from depression.", None),
        ("SAD", "school. School: 20%, work: 80%", None),
        ("SWMH", "anxiety\nanxiety: no\ndepression: yes", None),
        ("DR", "Yes: 20%, No: 80%\nReasoning: They sleep.", "no"),
        ("DR", "Depression: no. Reasoning: Depression: yes, in the family.", "no"),
        ("DR", "Reasoning: The tone is light.\nDepression: no", "no"),
        ("DR", "Reasoning: The mother was ill. Family history of depression: yes.", None),
        ("DR", "The tone is light. Is the poster depressed? No.", "no"),
        ("DR", "The tone is light. Does the post show signs of depression? No.", "no"),
        ("DR", "The tone is light. Does the poster use the word depression? No.", None),
        ("SWMH", "History of anxiety: yes.", None),
        ("SAD", "No grade in school is over 62% and they work 80%.", None),
    ],
)
def test_keys_and_shares_begin_a_part_and_agree_with_the_opening(name, text, label):
    assert read_label(text, TASKS[name]) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Yes. Actually, no.", "no"),
        ("Yes, wait, no.", "no"),
        ("Yes - wait, no.", "no"),
        ("Yes ... no, wait, it is a joke. No.", "no"),
        ("Yes. Let me re-read the post. No.", "no"),
        ("Yes. Wait, they laugh.", None),
        ("Yes, the poster suffers from depression. Reasoning: They cry. Wait, no, I hate it here.", None),
        ("Yes, the poster suffers from depression. Reasoning: They cry. Wait, it is a song. Final answer: No.", "no"),
        ("Yes, the poster suffers from depression. Reasoning: They cry. Wait, a song. The answer is no.", "no"),
        ("Yes, the poster suffers from depression. Reasoning: They cry. Wait, a song. The poster is fine.", "yes"),
        ("Yes, the poster suffers from depression. Reasoning: A song. Wait, the poster is not depressed.", None),
        ("Reasoning: They cry. Wait, it is a song. Answer: no", "no"),
    ],
)
def test_corrections_open_a_sentence_and_in_reasons_overrule_only_by_a_declared_answer(text, label):
    assert read_label(text, TASKS["DR"]) == label


@pytest.mark.parametrize("name", ["DR", "dreaddit", "loneliness"])
def test_keys_in_an_explanation_contradict_no_label(name):
    noun = TASKS[name].question.removeprefix("Does the poster suffer from ").removesuffix("?")
    for label in ("yes", "no"):
        for value in ("yes", "no"):
            assert not contradicts(label, f"The week was long. Family history of {noun}: {value}.", TASKS[name])
