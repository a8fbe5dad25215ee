"""Samples that vote: the majority, ties, samples that state nothing, and shares that calibration can read."""

from dataclasses import replace

import numpy as np
import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.trust.label_probabilities import label_probabilities, outcomes
from mentallama_jax.generation.votes import Votes, voted
from mentallama_jax.imhi.predictions import answer_to, parse_prediction
from mentallama_jax.imhi.records import Record

RECORD = Record("q", "dreaddit", "Late again.", "yes", "Because.", split="test")
YES = "Yes, the poster suffers from stress. Reasoning: {}."
NO = "No, the poster does not suffer from stress. Reasoning: {}."
NOTHING = "Buses are often late {}."


def samples(*texts: str):
    return [answer_to(RECORD, text.format(place)) for place, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("texts", "label", "kept", "votes"),
    [
        ((NO, YES, YES), "yes", 1, {"yes": 2, "no": 1}),
        ((NOTHING, NOTHING, NO), "no", 2, {"no": 1}),
        ((NO, YES, YES, NO), "no", 0, {"yes": 2, "no": 2}),
        ((NOTHING, YES, NO, NO, YES), "yes", 1, {"yes": 2, "no": 2}),
        ((NOTHING, NOTHING), "", 0, {}),
    ],
)
def test_the_majority_wins_and_of_equals_the_first_that_was_voted_for(texts, label, kept, votes) -> None:
    given = samples(*texts)
    row = voted(given)
    assert (row.decided_label, row.votes) == (label, votes)
    assert row.generated_text == given[kept].generated_text
    assert row.samples == ()
    assert voted(given, keep=True).samples == tuple(sample.generated_text for sample in given)
    assert row.samples_finish == ()
    kept_all = voted(
        [replace(each, finish="length" if place else "eos") for place, each in enumerate(given)], keep=True
    )
    assert kept_all.samples_finish == ("eos", *["length"] * (len(given) - 1))
    for each in (row, kept_all):
        assert parse_prediction(each.to_line().encode(), "line 1") == each


def test_the_tokens_of_all_samples_were_written() -> None:
    given = [replace(sample, new_tokens=count) for count, sample in enumerate(samples(NO, YES, YES), start=3)]
    assert voted(given).new_tokens == 3 + 4 + 5


def test_a_label_that_was_decided_is_the_vote_whatever_the_text_goes_on_to_say() -> None:
    given = [replace(sample, decided_label="no") for sample in samples(YES, YES)]
    assert voted(given).decided_label == "no"


def test_shares_are_the_probabilities_that_calibration_reads() -> None:
    rows = [voted(samples(YES, YES, YES, NO)), voted(samples(NO, YES)), voted(samples(NOTHING))]
    found = label_probabilities("dreaddit", rows)
    assert (found.rows, found.without) == (2, 1)
    np.testing.assert_allclose(np.exp(found.log_RC[0]), [3.5 / 5, 1.5 / 5], rtol=1e-6)
    assert [found.labels[place] for place in found.likeliest_R] == ["yes", "no"]
    np.testing.assert_allclose(outcomes(found).confidence_R, [0.7, 0.5], rtol=1e-6)


def test_votes_of_equal_samples_and_of_none_are_refused() -> None:
    with pytest.raises(UserError, match=r"--votes: samples differ only at a --temperature above 0"):
        Votes(3).check(0.0)
    Votes(1).check(0.0)
    with pytest.raises(UserError, match=r"--votes 0: give a number"):
        Votes(0)
