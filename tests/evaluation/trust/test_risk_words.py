"""Wordings of danger to life are found, and what only sounds like them is not."""

import time
from collections import Counter

import pytest
from risk_examples import DANGER, NO_DANGER

from mentallama_jax.evaluation.trust.risk_words import evened, risk_patterns, speaks_of_risk
from mentallama_jax.imhi.data_files.readers import read_records


@pytest.mark.parametrize("post", DANGER)
def test_danger_is_not_missed(post):
    assert speaks_of_risk(post)


@pytest.mark.parametrize("post", NO_DANGER)
def test_other_things_raise_no_alarm(post):
    assert not speaks_of_risk(post)


def test_text_is_evened_to_words_and_ends_of_sentences():
    assert evened("I DON’T\u200b know…  Café?!\nOk") == " i dont know . cafe . ok . "
    assert evened("لا أعرف") == "  . "
    assert evened("") == "  . "


def test_an_expression_has_no_part_that_was_not_filled():
    for expression in risk_patterns().values():
        assert "{few}" not in expression
        assert not any(f"{{{name}}}" in expression for name in ("self", "whose", "wants"))


@pytest.mark.parametrize("piece", ["want to ", "i do not want to be ", "a", "better for everyone if i ", ". ", "  "])
def test_long_posts_are_read_in_a_moment(piece):
    start = time.process_time()
    speaks_of_risk(piece * (100_000 // len(piece)))
    assert time.process_time() - start < 2


def test_posts_of_the_benchmark(imhi_release):
    found = Counter()
    rows = read_records([f"{imhi_release}:test"]).records
    for row in rows:
        found[row.dataset, row.label, speaks_of_risk(row.post)] += 1
    assert found["T-SID", "suicide or self-harm tendency", True] == 7
    assert found["T-SID", "suicide or self-harm tendency", False] == 0
    for dataset, label, most in (("dreaddit", "no", 0.03), ("T-SID", "no mental disorders", 0.0), ("DR", "no", 0.06)):
        alarms, calm = (found[dataset, label, risk] for risk in (True, False))
        assert alarms + calm > 20
        assert alarms / (alarms + calm) <= most
