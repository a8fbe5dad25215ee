"""The time to read an explanation grows in proportion to its length, whatever it repeats."""

import gc
import time

import pytest

from mentallama_jax.evaluation.trust.care import care_findings, label_states_diagnosis
from mentallama_jax.evaluation.trust.grounding import row_grounding
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import TASKS

SHORT, LONG = 4_000, 40_000
MARKS = ('"', '"a ', "'a ", "“", "“a ", "«", "‚Äô", "'", "(", "[", "[a", "a'", '"a... ', '"a" ', "“a ” b", ". . ")
THINGS = ("a", "a ", "A ", "Aa ", "字", "1", "1,", "1,111", "1k", "1. ", "1.", "one ", "hundred ", "a-", "\n", " ")
WORDS = (
    *("you ", "you have ", "the poster is ", "the poster has very severe ", "take ", "you should not ", "and then "),
    *("just ", "so ", "take your the ", "i recommend that you ", "stop ", "medication ", "depression ", "not "),
    *("Yes, the poster suffers from depression. ", "<think>", "they are just very ", "eating mood ", "do not a b c "),
)


def seconds(text: str) -> tuple[float, float]:
    started = time.process_time()
    care_findings(text, TASKS["DR"])
    label_states_diagnosis(text, TASKS["DR"])
    between = time.process_time()
    row = Prediction(id="1", dataset="DR", post_id="1", label="yes", generated_text=text)
    row_grounding([row], {"1": text})
    return between - started, time.process_time() - between


@pytest.fixture(autouse=True)
def no_collection():
    """Collecting garbage takes as long as all that other tests have left takes."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("unit", [*MARKS, *THINGS, *WORDS])
def test_time_grows_in_proportion_to_length(unit):
    seconds("A first reading compiles the patterns.")
    first, second = seconds((unit * SHORT)[:SHORT]), seconds((unit * SHORT)[:SHORT])
    # Ten times the length may take ten times as long; a square would take 100 times. Short times say little.
    for short, long in zip(map(min, first, second), seconds((unit * LONG)[:LONG]), strict=True):
        assert long < 40 * max(short, 0.004)
        assert short < 0.2
