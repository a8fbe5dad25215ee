"""The rules of care count what they should, and pass over denials, reports, quotations and signs."""

import pytest
from care_examples import NEGATIVE, POSITIVE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.evaluation.trust.care import care, care_findings, label_states_diagnosis
from mentallama_jax.evaluation.trust.care_rules import KINDS, RULES, CareRule
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import TASKS

SAD, DR = TASKS["SAD"], TASKS["DR"]


def row(text: str, number: int = 0, dataset: str = "DR") -> Prediction:
    return Prediction(id=f"{dataset}/{number}", dataset=dataset, post_id=f"p{number}", label="yes", generated_text=text)


@pytest.mark.parametrize(("kind", "sentence"), [(kind, each) for kind, found in POSITIVE.items() for each in found])
def test_what_harms_is_counted(kind, sentence):
    assert {finding.kind for finding in care_findings(sentence, SAD)} == {kind}


@pytest.mark.parametrize(("kind", "sentence"), [(kind, each) for kind, found in NEGATIVE.items() for each in found])
def test_what_does_not_harm_is_passed_over(kind, sentence):
    assert care_findings(sentence, SAD) == []


def test_there_are_enough_examples_of_each_kind_and_rule():
    assert POSITIVE.keys() == NEGATIVE.keys() == set(KINDS)
    assert all(len(found) >= 14 for table in (POSITIVE, NEGATIVE) for found in table.values())
    used = {each.rule for found in POSITIVE.values() for sentence in found for each in care_findings(sentence, SAD)}
    assert used == {rule.name for rule in RULES}


def test_a_label_sentence_is_counted_apart():
    label = "Yes, the poster suffers from depression."
    assert care_findings(f"{label} Reasoning: They cry a lot.", DR) == []
    assert label_states_diagnosis(f"{label} Reasoning: They cry a lot.", DR)
    assert not label_states_diagnosis("No, the poster does not suffer from depression. Reasoning: Fine.", DR)
    assert not label_states_diagnosis("Reasoning: The poster suffers from depression.", DR)
    assert [each.kind for each in care_findings(f"{label} Reasoning: The poster has bipolar disorder.", DR)] == [
        "diagnosis"
    ]


@pytest.mark.parametrize("marks", ['"{}"', "“{}”", "'{}'", "‘{}’", "«{}»"])
def test_quotations_do_not_count(marks):
    assert care_findings(f"The sister wrote {marks.format('You are just lazy, take your pills')} to them.", SAD) == []


def test_reasoning_traces_and_further_questions_do_not_count():
    assert care_findings("<think>You have depression.</think> They cry.", SAD) == []
    assert care_findings('They cry. Consider this post: "x" You have depression.', SAD) == []


def test_shares_are_of_rows_with_ids_and_without_texts():
    rows = [
        row("Yes. Reasoning: You are pathetic. You are lazy.", 0),
        *(row("They cry.", each) for each in range(1, 4)),
    ]
    found = care([*rows, row("Take your meds.", 9, "SAD")], IntervalSettings())
    assert (found.datasets["DR"].judgement.count, found.datasets["DR"].judgement.of) == (1, 4)
    assert (found.pooled.any.count, found.pooled.any.of, found.pooled.any.posts) == (2, 5, 5)
    assert found.pooled.ids == {"diagnosis": [], "instruction": ["SAD/9"], "judgement": ["DR/0"]}
    assert found.pooled.by_rule["insult"] == 1
    assert "pathetic" not in repr(found)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.about], ids=lambda rule: rule.name)
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_a_sentence_that_a_rule_matches_has_what_the_rule_is_about(rule: CareRule, data: st.DataObject) -> None:
    assert rule.about is not None
    assert rule.about.search(data.draw(st.from_regex(rule.pattern)))
