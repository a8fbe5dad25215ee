"""Faults of outputs, each by examples that have it and examples that only look like it."""

import random

import pytest

from mentallama_jax.evaluation.correctness import label_rows
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.evaluation.trust.output_faults import DEFINITIONS, count_faults, faults, is_loop
from mentallama_jax.evaluation.trust.refusals import is_refusal
from mentallama_jax.evaluation.trust.trust_tables import fault_table
from mentallama_jax.imhi.predictions import Prediction


def output(text: str, finish: str = "eos", dataset: str = "DR", number: int = 0) -> Prediction:
    return Prediction(
        id=f"{dataset}/{number}", dataset=dataset, post_id=f"p{number}", label="yes", generated_text=text, finish=finish
    )


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that.",
        "I’m sorry, but I cannot provide a diagnosis.",
        "I am really sorry but I won't answer this.",
        "Sorry, I can't do that.",
        "I apologize, but I am unable to help with this post.",
        "Unfortunately, I am not able to judge a person.",
        "As an AI language model, I cannot diagnose anybody.",
        "As an AI, I don't have the ability to judge.",
        "I am sorry, but as an AI I am unable to do it.",
        "As a large language model, I'm not able to say.",
        "I'm just an AI and not qualified to judge this.",
        "I cannot fulfill this request.",
        "I can't help with that.",
        "It would not be appropriate for me to label this person.",
        "I must decline to answer.",
        "The post is sad. I cannot assess it.",
        "I'm not qualified to diagnose.",
    ],
)
def test_refusals(text):
    assert is_refusal(text)
    assert faults(output(text), unparsed=False) == {"refused", "any"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<think>I cannot help with that? I can.</think>No. Joy is there.", set()),
        ("<think>It is sad.</think>I cannot help with that.", {"refused", "any"}),
        ("<think>I cannot help with that.", {"unclosed_reasoning", "any"}),
        ("<think>" + "The poster is sad. " * 4 + "</think>Yes.", set()),
        ("<think>It is.</think>" + "The poster is sad. " * 4, {"repeated", "any"}),
        ("<think>It is.</think> \n", {"empty", "any"}),
        ("analysisI cannot help with that.assistantfinalYes.", set()),
    ],
)
def test_reasoning_traces_are_no_part_of_the_answer_that_is_looked_at(text, found):
    assert faults(output(text), unparsed=False) == found


@pytest.mark.parametrize(
    "text",
    [
        "Yes, the poster suffers from depression. Reasoning: They feel sorry, but cannot stop.",
        "Reasoning: The poster writes \"I'm sorry, but I can't go on\" and sleeps badly.",
        "Reasoning: The words “Sorry, I can’t help it” show guilt.",
        "No. The poster says that I can't help, which is anger.",
        "I cannot determine whether the poster is depressed.",
        "I can't help but notice how tired the poster is.",
        "I cannot help thinking that the poster is depressed.",
        "The poster cannot answer the phone. Unfortunately, it has been so for weeks.",
        "The post is about AI: as an AI student they cannot focus.",
        "",
    ],
)
def test_what_is_no_refusal(text):
    assert not is_refusal(text)


@pytest.mark.parametrize(
    ("text", "loop"),
    [
        ("the poster is sad " * 4, True),
        ("Yes. " + "The poster is sad. " * 4, True),
        ("The Poster is sad, the poster IS sad, the poster is sad, the poster is sad, ", True),
        ("the poster is sad " * 3, False),
        ("no " * 12, True),
        ("no " * 11, False),
        ("so sad " * 6, True),
        ("so sad " * 5, False),
        ("so very sad " * 4, True),
        ("!" * 12, True),
        ("-" * 80 + "\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |", False),
        ((" ".join(f"w{n}" for n in range(64)) + " ") * 4, True),
        ((" ".join(f"w{n}" for n in range(65)) + " ") * 4, False),
        ("The poster is sad and tired, and so the poster is likely to be sad and tired again.", False),
        ("", False),
    ],
)
def test_loops(text, loop):
    assert is_loop(text) is loop


def slow_is_loop(words: list[str]) -> bool:
    for size in range(1, 65):
        for start in range(len(words)):
            times = 1
            while words[start : start + size] == words[start + times * size : start + (times + 1) * size]:
                if start + (times + 1) * size > len(words):
                    break
                times += 1
            if times >= 4 and times * size >= 12:
                return True
    return False


def test_loops_are_those_of_a_slow_search():
    generator = random.Random(0)
    found = []
    for _ in range(400):
        block = [generator.choice("abc") for _ in range(generator.randrange(1, 6))]
        words = [*"xyz", *block * generator.randrange(1, 8), *block[:2], *"xyz"]
        if generator.random() < 0.5:
            words[generator.randrange(len(words))] = "w"
        found.append(is_loop(" ".join(words)))
        assert found[-1] == slow_is_loop(words)
    assert 40 < sum(found) < 360


def test_a_row_may_have_several_faults_and_all_are_counted():
    rows = [
        output("Yes, the poster suffers from depression.", number=0),
        output("  \n", number=1),
        output("<think>Is it so? " + "Let me see. " * 6, finish="length", number=2),
        output("<think>It is.</think> Yes, the poster suffers from depression.", number=3),
        output("I'm sorry, but I can't help.", finish="", number=4),
        output("Yes.", finish="", dataset="CLP", number=5),
    ]
    found = count_faults(rows, label_rows(rows, "templates+words"), IntervalSettings())
    assert faults(rows[2], unparsed=True) == {"unparsed", "over_length", "repeated", "unclosed_reasoning", "any"}
    counts = {name: share.count for name, share in found.datasets["DR"].items()}
    assert counts == {
        "unparsed": 3,
        "empty": 1,
        "over_length": 1,
        "repeated": 1,
        "refused": 1,
        "unclosed_reasoning": 1,
        "any": 3,
    }
    assert list(found.pooled) == list(DEFINITIONS) == list(found.definitions)
    assert {share.of for name, share in found.datasets["DR"].items() if name != "over_length"} == {5}
    # Two rows do not tell how they ended.
    assert (found.datasets["DR"]["over_length"].of, found.pooled["over_length"].of) == (4, 4)
    assert (found.datasets["CLP"]["over_length"].of, found.datasets["CLP"]["over_length"].share) == (0, None)
    assert found.pooled["any"].share == 0.5
    low, high = found.pooled["any"].interval
    assert low < 0.5 < high


def test_the_table_says_what_a_question_mark_is() -> None:
    made = [output(text, finish="", number=number) for number, text in enumerate(["Yes, the poster suffers.", ""])]
    table = fault_table(count_faults(made, label_rows(made, "templates+words"), IntervalSettings()))
    assert "?: the files do not say how outputs ended" in str(table.caption)
    told = [output("", number=1)]
    found = count_faults(told, label_rows(told, "templates+words"), IntervalSettings())
    assert "?" not in str(fault_table(found).caption)
