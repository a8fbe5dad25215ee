"""A line of a predictions file: what is written is read back, and what is damaged is one line that quotes no text."""

import json
import math

import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.predictions import Prediction, parse_prediction

MARKER = "marker of a post that nobody may see in a message, and long enough to be one"
WHOLE = Prediction(
    id="IRF/test/3",
    dataset="IRF",
    aspect="thwarted belongingness",
    split="test",
    post_id="0f",
    label="no",
    goldens="No, the post does not show this risk. Reasoning: A made-up one. Reasoning: twice. ",
    prompt_truncated=3,
    generated_text="é\n\0 " + MARKER,
    finish="label",
    new_tokens=7,
    label_log_probabilities={"yes": {"sum": -2.5, "mean": -0.5}, "no": {"sum": -1.0, "mean": -0.25}},
    decided_label="no",
    examples=("IRF/train/1", "IRF/train/2"),
    votes={"no": 2, "yes": 1},
    samples=(MARKER, "", "é"),
)
OLD = {"id": "DR/1", "dataset": "DR", "post_id": "0f", "label": "yes", "generated_text": MARKER}


def line(**changes: object) -> bytes:
    return json.dumps(OLD | changes).encode()


def test_what_is_written_is_read_back() -> None:
    assert parse_prediction(WHOLE.to_line().encode(), "p") == WHOLE
    assert WHOLE.to_line().count("\n") == 1
    bare = Prediction(id="1", dataset="DR", post_id="p", label="", generated_text="")
    assert not {"label_log_probabilities", "decided_label", "examples", "votes", "samples"} & bare.to_json().keys()
    assert parse_prediction(bare.to_line().encode(), "p") == bare


def test_the_gold_explanation_is_kept() -> None:
    assert WHOLE.explanation == "A made-up one. Reasoning: twice."
    assert parse_prediction(line(), "p").explanation == ""


def test_lines_of_older_versions_and_aliases_are_read() -> None:
    row = parse_prediction(line(dataset="Irf", aspect="", more={"a": [1]}), "p")
    assert (row.dataset, row.generated_text, row.finish, row.new_tokens) == ("IRF", MARKER, "", 0)


def test_a_long_text_is_read() -> None:
    assert len(parse_prediction(line(generated_text="x" * 1_000_000), "p").generated_text) == 1_000_000


@pytest.mark.parametrize(
    ("damaged", "expected"),
    [
        (line()[:40], "not valid JSON"),
        (line().replace(b'"DR/1"', b"NaN"), "NaN"),
        (line(new_tokens=1)[:-2] + b"1e999}", "too large"),
        (line(new_tokens=1)[:-2] + b"1" * 5000 + b"}", "digits is too large"),
        (line()[:-1] + b', "id": "2"}', "the key 'id' stands twice"),
        (line(generated_text="\ud800 " + MARKER), "half of a surrogate pair"),
        (line().replace(b"marker", b"mar\0ker"), "not valid JSON"),
        (line().replace(b"marker", b"mar\xffker"), "is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "expected a JSON object, found list"),
        (line(generated_text=None), "generated_text is a NoneType, not a text"),
        (line(label=[MARKER]), "label is a list, not a text"),
        (line(goldens=3), "goldens is a int, not a text"),
        (line(new_tokens=True), "new_tokens is not a whole number"),
        (line(prompt_truncated=-1), "prompt_truncated is not a whole number"),
        (line(label_log_probabilities={"yes": 1}), "does not hold the `sum` and `mean`"),
        (line(label_log_probabilities={"yes": {"sum": MARKER}}), "a value that is not a number"),
        (line(decided_label=MARKER), "is no label of DR"),
        (line(decided_label=1), "decided_label is a int, not a text"),
        (line(examples=MARKER), "examples is not a list of texts"),
        (line(samples=[MARKER, 1]), "samples is not a list of texts"),
        (line(samples=[MARKER], samples_finish=["eos", "eos"]), "samples_finish has another length than samples"),
        (line(votes={"yes": -1}), "votes does not hold a whole number"),
        (line(votes=[MARKER]), "votes does not hold a whole number"),
        (line(dataset=MARKER), "unknown data set"),
        (line(aspect=MARKER), "is not an aspect of DR"),
        (json.dumps({"id": MARKER}).encode(), "has no dataset, post_id, label, generated_text"),
    ],
)
def test_a_damaged_line_is_one_message_that_names_its_place(damaged: bytes, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_prediction(damaged, "p.jsonl, line 4")
    told = str(caught.value)
    assert told.startswith("p.jsonl, line 4: ")
    assert expected in told
    assert "marker" not in told
    assert "\n" not in told
    assert len(told) < 300


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_no_number_is_never_written(number: float) -> None:
    row = Prediction(
        id="1",
        dataset="DR",
        post_id="p",
        label="yes",
        generated_text="",
        label_log_probabilities={"yes": {"sum": number, "mean": -1.0}},
    )
    with pytest.raises(UserError, match="prediction '1': not valid JSON"):
        row.to_line()
