"""Reading gold responses, the odd ones too; every text was written for the tests."""

import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.labels.gold_response import read_gold
from mentallama_jax.imhi.tasks import TASKS

EVERY_LABEL = [(task.name, label) for task in TASKS.values() for label in task.labels]


@pytest.mark.parametrize(("name", "label"), EVERY_LABEL)
def test_both_formats_are_read(name, label):
    task = TASKS[name]
    for wording in (task.sentences[label], f" {task.completion_words[label]}. "):
        assert read_gold(f"{wording} Reasoning:  The week was long.\n", task) == (label, "The week was long.")


@pytest.mark.parametrize(
    ("name", "aspect", "text", "label", "explanation"),
    [
        ("IRF", "thwarted belongingness", "no, the post does not show this risk. Reasoning: So.", "no", "So."),
        (
            "IRF",
            "thwarted belongingness",
            "no. The post does not show risk of thwarted belongingness. Reasoning: So.",
            "no",
            "So.",
        ),
        ("IRF", "", "yes, the post shows this risk: it is there. Reasoning: So.", "yes", "So."),
        ("IRF", "", "yes - Reasoning: So.", "yes", "So."),
        (
            "IRF",
            "",
            "Reasoning: No, the post does not show this risk. So.",
            "no",
            "No, the post does not show this risk. So.",
        ),
        ("IRF", "", "yes. Friends are far away.", "yes", "Friends are far away."),
        ("IRF", "", "Yes, the post shows this risk. Friends are far away.", "yes", "Friends are far away."),
        ("MultiWD", "social", "no. The social dimension is not there.", "no", "The social dimension is not there."),
        ("MultiWD", "social", "no\n\nReasoning: So.", "no", "So."),
        ("MultiWD", "social", "The answer is no. Reasoning: So.", "no", "So."),
        ("MultiWD", "social", "The social wellness dimension exists in the post. Reasoning: So.", "yes", "So."),
        ("SAD", "", "school", "school", ""),
    ],
)
def test_odd_responses_are_read(name, aspect, text, label, explanation):
    assert read_gold(text, TASKS[name], aspect) == (label, explanation)


@pytest.mark.parametrize("name", list(TASKS))
@pytest.mark.parametrize(
    "text", ["", "Reasoning: So.", "Perhaps. Reasoning: So.", "The week was long.", "yes or no", "#NAME?"]
)
def test_what_states_no_label_is_refused(name, text):
    with pytest.raises(UserError, match=f"does not begin with a label of {name}"):
        read_gold(text, TASKS[name])


def test_the_message_quotes_no_post():
    post = "planted words of a post that nobody shall read in a log"
    for text in (post, f"{post} Reasoning: {post}", f"Reasoning: {post}"):
        with pytest.raises(UserError) as caught:
            read_gold(text, TASKS["DR"])
        assert "planted" not in str(caught.value)
