"""The time to read an answer grows in proportion to its length, whatever the answer repeats."""

import random
import re
import time

import pytest

from mentallama_jax.imhi.labels import read_label
from mentallama_jax.imhi.labels.reader import reader
from mentallama_jax.imhi.tasks import TASKS

SHORT, LONG = 4_000, 32_000
MARKS = (
    "a",
    "a ",
    '"',
    "'",
    "(",
    "{",
    "}",
    "[[",
    "`",
    "$",
    "=",
    "-",
    " -",
    "->",
    "•",
    "%",
    "\n",
    "? ",
    ". ",
    ", ",
    ": ",
)
TAGS = (
    "<think>",
    "</think>",
    "<think></think>",
    "<|channel|>analysis<|message|>",
    "assistantfinal ",
    "analysisA ",
    "```json ",
    "\\boxed{",
    '{"a":',
    "{'a': 'b', ",
)
WORDS = (
    *("no ", "not ", "and ", "or ", "very ", "the ", "is ", "in fact ", "of the ", "nothing ", "if ", "it is ", "a) "),
    *("a) x\n", "however, ", ", however,", "wait, ", "main ", "risk ", "work, ", "work and ", "yes/no ", "1% ", "so, "),
    *("the poster ", "the poster is very very very ", "the post shows signs of ", "which shows ", "there is no "),
    *("the the my my final ", "answer: no ", "final answer: ", "label: ", "yes: 1% ", "depression: ", "depression "),
    *("no evidence of ", "not work but ", "school or work, ", "the cause of stress is ", "social wellness dimension "),
    *("symptoms related to ", "consider this post ", "reasoning: ", "question: ", "rather than ", "i cannot see "),
)
UNITS = MARKS + TAGS + WORDS


def aspect_of(name):
    return (TASKS[name].aspects or ("",))[0]


def seconds(text, name):
    started = time.process_time()
    read_label(text, TASKS[name], aspect_of(name))
    return time.process_time() - started


def repeated(unit, length):
    return (unit * (length // len(unit) + 1))[:length]


def mixtures(name):
    """Units in a random order, and words of the reader's own patterns: what comes nearest to matching them."""
    draw = random.Random(name)
    patterns = [*reader(TASKS[name], aspect_of(name)).words.statements, reader(TASKS[name], aspect_of(name)).words.lead]
    own = [word for pattern in patterns for word in re.findall(r"[a-z]{2,}", pattern.pattern)]
    for _ in range(4):
        yield "".join(draw.choices(UNITS, k=60))
        yield " ".join(draw.choices(own, k=60)) + " "


@pytest.mark.parametrize("name", TASKS)
def test_time_grows_in_proportion_to_length(name):
    seconds("A first reading compiles the patterns.", name)
    for unit in (*UNITS, *mixtures(name)):
        short = min(seconds(repeated(unit, SHORT), name) for _ in range(2))
        long = min(seconds(repeated(unit, LONG), name) for _ in range(2))
        # Eight times the length may take eight times as long; a square would take 64 times. Short times say little.
        assert long < 20 * max(short, 0.003), f"{unit[:60]!r}: {short:.4f} s, then {long:.4f} s"
        assert short < 0.1
