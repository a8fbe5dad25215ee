"""What a signature says of how answers came about, whatever stands in it."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_scores import made_rows

from mentallama_jax.evaluation.correctness import evaluate, label_rows
from mentallama_jax.evaluation.how_answered import answering, is_unusual, without_ids
from mentallama_jax.evaluation.label_readers import AS_UPSTREAM, RULES, ReadingOnce, label_of
from mentallama_jax.evaluation.reports.composition import compose
from mentallama_jax.evaluation.reports.markdown import markdown_text
from mentallama_jax.evaluation.reports.systems import read_scores_folder
from mentallama_jax.evaluation.score_report import score_table, write_report
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.evaluation.system_predictions import Predictions
from mentallama_jax.imhi.predictions import Prediction

SHOTS = {"per_class": 2, "choice": "balanced", "seed": 3, "examples": ["DR/train/1", "DR/train/2"], "contents": "ab"}
FEW = {"mode": "generate", "style": "chatml", "prompt": {"kind": "zero-shot"}, "shots": SHOTS, "label_first": True}


@pytest.mark.parametrize(
    ("generation", "text"),
    [
        ({"mode": "generate"}, "prompt: instruction; examples: none; generated"),
        ({"mode": "generate", "style": "completion"}, "prompt: completion; examples: none; generated"),
        ({"mode": "score-labels"}, "prompt: instruction; examples: none; likeliest label sentence"),
        (FEW, "prompt: zero-shot; examples: 2 a class, balanced, seed 3; label sentence first"),
        ({"pooled": [FEW, FEW]}, "prompt: zero-shot; examples: 2 a class, balanced, seed 3; label sentence first"),
        (
            {"mode": "generate", "votes": {"count": 5, "keep": False}},
            "prompt: instruction; examples: none; vote of 5 samples",
        ),
        ({"mode": "other", "prompt": 3, "shots": [], "votes": "x"}, "prompt: instruction; examples: none; other"),
    ],
)
def test_what_is_said(generation, text: str) -> None:
    found = answering(generation)
    assert found is not None
    assert found.text == text
    assert is_unusual(found) == (generation != {"mode": "generate"})


@pytest.mark.parametrize(
    "generation", [None, {}, {"pooled": []}, {"pooled": [None]}, {"mode": "classifier"}, {"mode": 1}]
)
def test_what_says_nothing(generation) -> None:
    assert answering(generation) is None
    assert not is_unusual(answering(generation))


def test_a_decided_label_stands_for_the_rules_and_for_no_other_reader() -> None:
    text = "Yes, the poster suffers from stress. Reasoning: It seems so. Final answer: no."
    row = Prediction(id="1", dataset="dreaddit", post_id="p", label="yes", generated_text=text)
    decided = replace(row, decided_label="yes")
    assert [label_of(each, RULES) for each in (row, decided)] == [None, "yes"]
    assert label_of(decided, ReadingOnce(RULES)) == "yes"
    assert label_of(replace(row, decided_label="no"), AS_UPSTREAM) == "yes"
    assert label_rows([row, decided], RULES)[1].predicted == "yes"


def test_the_scores_and_the_report_show_prompt_and_examples(tmp_path: Path) -> None:
    made = Predictions(made_rows(0.6, 1), ({"file": "few.jsonl", "sha256": "0"},), FEW, "label of each row", True)
    scores = evaluate(made, reader="templates+words", settings=IntervalSettings())
    assert "prompt: zero-shot; examples: 2 a class" in str(score_table(scores).title)
    write_report(tmp_path / "few", scores)
    page = markdown_text(compose([read_scores_folder(tmp_path / "few", "few")]))
    assert "How answers were made" in page
    assert "2 a class, balanced, seed 3" in page
    assert "DR/train/1" not in page
    assert without_ids({"generation": {"pooled": [FEW, None]}})["generation"]["pooled"][0]["shots"]["examples"] == 2
