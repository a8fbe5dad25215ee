"""Traces, tags, boxes, JSON and corrections around a label; every text was written for the tests."""

import json

import pytest

from mentallama_jax.imhi.labels import read_label
from mentallama_jax.imhi.tasks import TASKS

YES_NO = ("DR", "CLP", "dreaddit", "loneliness", "MultiWD", "IRF")
EVERY_LABEL = [(task.name, label) for task in TASKS.values() for label in task.labels]
TAGS = [
    ("<think>", "</think>"),
    ("<THINK>", "</THINK>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<thought>", "</thought>"),
    ("<analysis>", "</analysis>"),
    ("[THINK]", "[/THINK]"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("◁think▷", "◁/think▷"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("analysis", "assistantfinal"),
]


def another(name, label):
    labels = TASKS[name].labels
    return labels[(labels.index(label) + 1) % len(labels)]


@pytest.mark.parametrize(("begin", "end"), TAGS)
@pytest.mark.parametrize(("name", "label"), EVERY_LABEL)
def test_a_trace_is_cut_away(name, label, begin, end):
    task = TASKS[name]
    trace = f"{task.sentences[another(name, label)]} Final answer: {another(name, label)}."
    for answer in (task.sentences[label], task.completion_words[label]):
        assert read_label(f"{begin}{trace}\n{end}\n\n{answer}", task) == label


@pytest.mark.parametrize(("begin", "end"), TAGS)
@pytest.mark.parametrize(("name", "label"), EVERY_LABEL)
def test_a_trace_that_never_closes_states_nothing(name, label, begin, end):
    task = TASKS[name]
    assert read_label(f"{begin}{task.sentences[label]} But wait", task) is None
    if begin != "analysis":  # Without its tokens a second trace cannot be known from an answer.
        assert read_label(f"{begin}A first thought.{end} {begin}{task.sentences[label]}", task) is None


def test_a_trace_whose_beginning_stood_in_the_prompt_is_cut_away():
    assert read_label("The poster is depressed. Or not?</think>No.", TASKS["DR"]) == "no"


def test_a_trace_alone_states_nothing():
    assert read_label("<think>The poster is depressed.</think>", TASKS["DR"]) is None


@pytest.mark.parametrize(("name", "label"), EVERY_LABEL)
@pytest.mark.parametrize("key", ["label", "answer", "prediction", "Final_Answer", "classification"])
def test_json_is_read(name, label, key):
    task = TASKS[name]
    word = task.completion_words[label]
    for value in ({key: word}, {"result": {key: word, "confidence": 0.8}}, {"why": "Because.", key: [word]}):
        text = json.dumps(value, indent=1)
        for wrapped in (text, f"```json\n{text}\n```", f"Here it is:\n\n```\n{text}\n```\nI hope that this helps!"):
            assert read_label(wrapped, task) == label
    assert read_label(f'{{"{key}": "{word}", "why": "It was cut o', task) == label
    assert read_label(f"{{'{key}': '{word}'}}", task) == label


@pytest.mark.parametrize(
    ("name", "aspect", "text", "label"),
    [
        ("DR", "", '{"depressed": true}', "yes"),
        ("DR", "", '{"depression": "no"}', "no"),
        ("MultiWD", "social", '{"physical": "yes", "social": "no"}', "no"),
        ("IRF", "thwarted belongingness", '{"risk": false}', "no"),
        ("SAD", "", '{"stress_cause": "work"}', "work"),
        ("SWMH", "", '{"disorder": "anxiety", "not": "depression"}', "anxiety"),
        ("SWMH", "", '{"labels": ["anxiety", "depression"]}', None),
        ("DR", "", '{"label": 1}', None),
        ("DR", "", '{"label": "unsure"}', None),
        ("DR", "", '{"label": null}', None),
    ],
)
def test_keys_that_name_what_is_asked(name, aspect, text, label):
    assert read_label(text, TASKS[name], aspect) == label


@pytest.mark.parametrize(("name", "label"), EVERY_LABEL)
@pytest.mark.parametrize(
    "wrapping",
    [
        r"\boxed{%s}",
        r"$\boxed{\text{%s}}$",
        r"The post is clear. \[\boxed{\textbf{%s}}\]",
        "**Answer:** %s",
        "**%s**",
        "<answer>%s</answer>",
        "Thought: It is clear.\nFinal Answer: %s",
        "### Label\n\n%s",
        "Label → %s",
        "Answer - %s",
        "(B) %s",
        "Answer: (B) %s",
        "Answer: %s ✅",
        "> %s",
        "`%s`",
        "Classification: %s",
        "%s<|im_end|>",
        "%s</s>",
        "I choose: %s",
    ],
)
def test_wrappings_are_taken_off(name, label, wrapping):
    assert read_label(wrapping % TASKS[name].completion_words[label], TASKS[name]) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Not depressed", "no"),
        ("not depressed.", "no"),
        ("Depressed", "yes"),
        ("depression: no", "no"),
        ("Depression: Yes", "yes"),
        ("Depressed? No.", "no"),
        ("No depression.", "no"),
        ("No signs of depression detected.", "no"),
        ("Not at all.", "no"),
        ("Absolutely not. The week went well.", "no"),
        ("Does the poster suffer from depression? Not at all.", "no"),
        ("Options:\nA) Yes\nB) No\n\nAnswer: B", "no"),
        ("Answer: B", None),
        ("Yes: 20%, No: 80%", "no"),
        ("No (35 %), yes (65 %)", "yes"),
        ("Yes: 50%, No: 50%", None),
        ("**Depression**\nIt is a serious illness.", None),
        ("Not sure", None),
    ],
)
def test_short_answers(text, label):
    assert read_label(text, TASKS["DR"]) == label


@pytest.mark.parametrize(
    ("name", "text", "label"),
    [
        ("DR", "No. Wait, she sleeps two hours. Final answer: Yes.", "yes"),
        ("DR", "No. Wait, yes.", "yes"),
        ("DR", "Yes, it does. Final answer: No.", None),
        ("DR", "Yes, it does. On reflection, it is a joke. Final answer: No.", "no"),
        ("DR", "Yes. Hmm, the tone is light.", None),
        ("DR", "The poster is depressed, some would say. Final answer: No.", "no"),
        ("DR", "Final answer: Yes. Final answer: No.", None),
        ("DR", "No. 1. There are many friends. 2. The sun shines.", "no"),
        ("DR", "No. 1) There are many friends.", "no"),
        ("DR", "No. 1 on the list is sleep.", None),
        ("CAMS", "jobs and career. The boss is named. Correction: the correct label is medication.", "medication"),
        ("CAMS", "This shows jobs and career ... Correction: the correct label is medication.", "medication"),
        ("SAD", "Work is not the problem here; school is.", "school"),
        ("SAD", "Not work but school.", "school"),
        ("SAD", "work: no\nschool: yes", "school"),
        ("SAD", "work: no", None),
        ("SAD", "School was my first thought, but it does not fit.", None),
    ],
)
def test_later_corrections_count(name, text, label):
    assert read_label(text, TASKS[name]) == label


@pytest.mark.parametrize(
    ("output", "label"),
    [
        ("[YES]", "yes"),
        ("**[No]**", "no"),
        ("Answer: [yes]", "yes"),
        ("[Yes] The poster is sad. Reasoning: So.", "yes"),
        ("Option (A) Yes", "yes"),
        ("Option (B): No, because of this.", "no"),
        ("(Yes)", "yes"),
        ("(no).", "no"),
        ("(Yes/No)", None),
        ("[Yes/No]", None),
        ("[Yes] [No]", None),
        ("[label]", None),
        ("Option (A) Yes\nOption (B) No", None),
    ],
)
def test_brackets_and_marks_of_options_around_a_label(output, label):
    assert read_label(output, TASKS["DR"]) == label
