"""What a classifier reads of a record and of an output."""

import pytest

from mentallama_jax.imhi.class_inputs import output_text, record_text, with_question, without_label_sentences
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS

DR = Record("r", "DR", "I feel low.", "yes", "The poster says that they feel low.")
IRF = Record("r", "IRF", "Nobody calls.", "yes", "They are alone.", aspect="thwarted belongingness")
QUESTION = "Does the post show risk of thwarted belongingness?"


def test_a_record_gives_its_post_its_explanation_or_its_response() -> None:
    assert record_text(DR, "post") == "I feel low."
    assert record_text(DR, "explanation") == "The poster says that they feel low."
    assert record_text(DR, "response") == (
        "Yes, the poster suffers from depression. Reasoning: The poster says that they feel low."
    )
    without = Record("r", "DR", "I feel low.", "yes")
    assert (record_text(without, "explanation"), record_text(without, "response")) == ("", "")


def test_where_a_task_asks_several_questions_the_question_stands_before_the_text() -> None:
    assert record_text(IRF, "post") == f"{QUESTION} Nobody calls."
    assert record_text(IRF, "explanation") == f"{QUESTION} They are alone."
    assert with_question("", TASKS["IRF"], "thwarted belongingness") == ""
    row = Prediction(id="a", dataset="IRF", aspect=IRF.aspect, post_id="p", label="yes", generated_text="Yes. Alone.")
    assert output_text(row, "response") == f"{QUESTION} Yes. Alone."


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Yes, the poster suffers from depression. Reasoning: They feel low.", "They feel low."),
        ("Reasoning: They feel low. Yes, the poster suffers from depression.", "They feel low."),
        ("Reasoning: They feel low, so no, the poster does not suffer from depression", "They feel low, so"),
        ("YES, THE POSTER SUFFERS FROM DEPRESSION. They feel low.", "They feel low."),
        (
            "They think: yes, the poster suffers from depressions.",
            "They think: yes, the poster suffers from depressions.",
        ),
        ("Yes, the poster suffers from depression.", ""),
        ("", ""),
    ],
)
def test_an_explanation_is_read_without_its_label_sentence_wherever_it_stands(text: str, left: str) -> None:
    row = Prediction(id="a", dataset="DR", post_id="p", label="yes", generated_text=text)
    assert output_text(row, "explanation") == left


@pytest.mark.parametrize("trace", ["<think>No, it is a song.</think>", "[THINK]A song.[/THINK]\n", "A song.</think>"])
def test_reasoning_traces_are_not_read(trace: str) -> None:
    answer = "Yes, the poster suffers from depression. Reasoning: They feel low."
    for text, response, explanation in (
        (f"{trace}{answer}", answer, "They feel low."),
        (f"<think>{answer}", "", ""),
    ):
        row = Prediction(id="a", dataset="DR", post_id="p", label="yes", generated_text=text)
        assert (output_text(row, "response"), output_text(row, "explanation")) == (response, explanation)


def test_every_label_sentence_of_every_task_is_taken_out() -> None:
    for task in TASKS.values():
        for sentence in task.sentences.values():
            assert without_label_sentences(f"Before it. {sentence} Behind it.", task) == "Before it. Behind it."


def test_an_output_holds_no_post() -> None:
    row = Prediction(id="a", dataset="DR", post_id="p", label="yes", generated_text="Yes.")
    with pytest.raises(ValueError, match="holds no post"):
        output_text(row, "post")
