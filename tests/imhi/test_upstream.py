"""The released rule scorer as reproduced here; every text was written for the tests."""

import pytest

from mentallama_jax.imhi.labels.upstream import (
    read_as_upstream,
    upstream_crashes_on,
    upstream_gold,
    upstream_label,
    upstream_leaves_out,
)
from mentallama_jax.imhi.tasks import TASKS

EVERY_LABEL = [(task.name, label) for task in TASKS.values() for label in task.labels]
CRASHES = {("SAD", "emotional turmoil"), ("SAD", "other causes"), ("CAMS", "none")}


@pytest.mark.parametrize(
    ("name", "text", "label", "out_of_domain"),
    [
        ("DR", "Yes, it does. Reasoning: so", "yes", False),
        ("DR", "Reasoning: Yes, the poster suffers from depression.", "no", True),
        ("DR", "", "no", True),
        ("DR", "I know. Reasoning: yes", "no", False),
        ("SAD", "This post shows the stress cause related to emotion turmoil.", "other causes", True),
        ("SAD", "This post shows other stress causes.", "other causes", False),
        ("CAMS", "This post shows no causes of depression.", "none", True),
        ("T-SID", "This post shows nothing.", "no mental disorders", True),
        ("SWMH", "bipolar", "bipolar disorder", False),
    ],
)
def test_outputs_out_of_domain_are_told(name, text, label, out_of_domain):
    reading = read_as_upstream(text, TASKS[name])
    assert (reading.label, reading.out_of_domain) == (label, out_of_domain)
    assert upstream_label(text, TASKS[name]) == label


@pytest.mark.parametrize(("name", "label"), EVERY_LABEL)
def test_golds_of_the_instruction_format_on_which_the_released_scorer_fails(name, label):
    gold = f"{TASKS[name].sentences[label]} Reasoning: The text is short."
    assert upstream_crashes_on(gold, TASKS[name]) == ((name, label) in CRASHES)
    assert upstream_gold(gold, TASKS[name]) == (None if (name, label) in CRASHES else label)
    assert not upstream_leaves_out(gold, TASKS[name])


@pytest.mark.parametrize(("name", "label"), EVERY_LABEL)
def test_golds_of_the_completion_format_do_not_make_it_fail(name, label):
    gold = f"{TASKS[name].completion_words[label]}. Reasoning: The text is short."
    assert upstream_gold(gold, TASKS[name]) == label


def test_a_gold_that_says_nothing():
    assert upstream_crashes_on("Reasoning: yes", TASKS["DR"])
    assert not upstream_crashes_on("Reasoning: depression", TASKS["SWMH"])
    assert upstream_leaves_out("Reasoning: depression", TASKS["SWMH"])


@pytest.mark.parametrize("name", ["SAD", "CAMS", "T-SID"])
def test_a_gold_must_hold_more_of_a_label_than_an_output(name):
    text = {"SAD": "family", "CAMS": "bias", "T-SID": "suicide"}[name]
    assert not read_as_upstream(text, TASKS[name]).out_of_domain
    assert upstream_crashes_on(text, TASKS[name])
