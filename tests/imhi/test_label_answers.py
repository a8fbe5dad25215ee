"""Answers in the styles of chat and reasoning models, written for the tests and labelled by hand.

`answers.jsonl` holds them: 200 that were labelled before the reader was written, and 60 ("held out") before it was run
on them for the first time. The label is null where the answer states none, or is ambiguous.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

from mentallama_jax.imhi.labels import read_label
from mentallama_jax.imhi.tasks import TASKS

ANSWERS = [json.loads(line) for line in (Path(__file__).parent / "answers.jsonl").read_text("utf-8").splitlines()]


def read(answer):
    return read_label(answer["text"], TASKS[answer["task"]], answer["aspect"])


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer["text"][:40])
def test_no_clear_answer_is_read_wrongly(answer):
    assert read(answer) in (answer["label"], None)


@pytest.mark.parametrize("name", ["first", "held out"])
def test_few_answers_that_state_a_label_are_unparsed(name):
    stated = [answer for answer in ANSWERS if answer["set"] == name and answer["label"] is not None]
    unparsed = [answer for answer in stated if read(answer) is None]
    assert len(unparsed) <= 0.08 * len(stated)


def test_the_answers_are_of_all_data_sets_and_labels_are_known():
    rows = Counter(answer["task"] for answer in ANSWERS)
    assert rows == dict.fromkeys(TASKS, 26)
    for answer in ANSWERS:
        assert answer["label"] in (*TASKS[answer["task"]].labels, None)
        assert answer["aspect"] in (TASKS[answer["task"]].aspects or ("",))
