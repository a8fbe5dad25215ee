"""Rewards of answers that can be checked."""

from dataclasses import replace

import numpy as np
import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.rewards import Rewards, consistency_reward, open_rewards
from mentallama_jax.imhi.records import Record

RECORD = Record("r", "dreaddit", "My chest is tight all day and I cannot sleep before the exam.", "yes")
GOOD = 'Yes, the poster suffers from stress. Reasoning: The post says "my chest is tight all day", which is stress.'
TURNED = "Yes, the poster suffers from stress. Reasoning: The poster does not suffer from stress at all."
INVENTED = 'Yes, the poster suffers from stress. Reasoning: The post says "I want to run away from all this".'
BARE = "Yes, the poster suffers from stress."
WRONG = "No, the poster does not suffer from stress. Reasoning: The poster is not stressed."
UNREAD = "Hard to tell."
TEXTS = [GOOD, TURNED, INVENTED, BARE, WRONG, UNREAD]


def halves(records, texts):
    """A reward of one's own, for the test of `module:function`."""
    return [None if text == UNREAD else 0.5 for text in texts]


def one(name: str) -> list[float]:
    return open_rewards({name: 1.0}).of([RECORD] * len(TEXTS), TEXTS)[:, 0].tolist()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("label", [1, 1, 1, 1, 0, 0]),
        ("quotes", [1, 0, -1, 0, 0, 0]),
        ("format", [1, 1, 1, 0, 1, 0]),
        ("length:6-13", [0, 0, 0, 1, 1, 0]),
    ],
)
def test_each_reward(name: str, expected: list[float]) -> None:
    found = one(name)
    if name.startswith("length"):
        expected = [float(6 <= len(text.split()) <= 13) for text in TEXTS]
        assert 0 < sum(expected) < len(expected)
    assert found == expected


def test_an_explanation_that_says_another_label_is_not_consistent() -> None:
    found = one("consistency")
    assert found[1] == 0
    assert found[0] >= 0.5
    assert found[3:] == [0, found[4], 0]


def test_consistency_with_a_wrong_label_earns_nothing() -> None:
    sure = ["Yes, the poster suffers from stress. Reasoning: The poster is stressed.", WRONG]
    records, unlabelled = [RECORD] * 2, [replace(RECORD, label="")] * 2
    assert consistency_reward(records, sure) == [1, 1]
    rewards = open_rewards({"consistency": 1.0})
    assert rewards.of(records, sure)[:, 0].tolist() == [1, 0]
    assert rewards.of(unlabelled, sure)[:, 0].tolist() == [1, 1]


def test_the_sum_is_weighted_and_an_answer_without_any_reward_has_none() -> None:
    rewards = open_rewards({"label": 2.0, f"{__name__}:halves": -1.0})
    values = rewards.of([RECORD] * len(TEXTS), TEXTS)
    assert rewards.totals(values).tolist() == [1.5, 1.5, 1.5, 1.5, -0.5, 0.0]
    own = Rewards({"own": halves}, {"own": 1.0})
    assert np.isnan(own.totals(own.of([RECORD], [UNREAD]))).all()


def test_a_row_without_gold_has_no_reward_for_its_label() -> None:
    unlabelled = Record("r", "dreaddit", RECORD.post)
    assert np.isnan(open_rewards({"label": 1.0}).of([unlabelled], [GOOD])).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lable", "there is no reward 'lable'; there are: label, consistency, quotes, format"),
        ("length:9-3", "give a window of words"),
        ("length:x", "give a window of words"),
        ("no_such_module:f", "cannot be imported"),
        ("json:no_such_function", "cannot be imported"),
        ("json:__name__", "is no function"),
    ],
)
def test_what_is_no_reward_is_refused_by_its_name(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_rewards({name: 1.0})


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda records, texts: [], "gave 0 rewards for 1 answers"),
        (lambda records, texts: ["x"], "no number"),
        (lambda records, texts: [float("nan")], "not finite"),
    ],
)
def test_a_function_of_ones_own_must_give_numbers(function, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Rewards({"own": function}, {"own": 1.0}).of([RECORD], [GOOD])
