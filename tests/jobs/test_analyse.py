"""Analyses of posts: equal to the passes that they are made of, calibrated, with quotes where the post has them."""

import json
import re
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
from toy_answerer import toy_answerer

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.trust.kept_temperatures import KeptTemperatures, read_temperatures
from mentallama_jax.generation.answers import answer_batches, score_batches
from mentallama_jax.generation.engine import Settings
from mentallama_jax.imhi.labels.gold_response import explanation_in
from mentallama_jax.imhi.predictions import answer_to
from mentallama_jax.imhi.prompts import answer_opening, label_answers
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.jobs.analyse import (
    LONGEST_POST,
    Analyser,
    Analysis,
    AnalysisSettings,
    analyse,
    analyse_posts,
    analysis_of,
)
from mentallama_jax.jobs.answer import Answerer

POSTS = [
    "I count the cracks of the ceiling until it is light.",
    "The rain stopped and I went out.",
    "No.",
    "Ünïcode 🙂",
]
SHORT = AnalysisSettings(max_new_tokens=6, batch_size=2)
SECRET = "zanzibar"


@pytest.fixture(scope="module")
def answerer() -> Answerer:
    return toy_answerer()


@pytest.fixture(scope="module")
def found(answerer: Answerer) -> list[Analysis]:
    return analyse_posts(answerer, POSTS, "dr", settings=SHORT)


def test_label_and_explanation_are_those_of_the_passes_behind_them(answerer: Answerer, found: list[Analysis]) -> None:
    task = TASKS["DR"]
    records = [Record(f"post-{number}", "DR", post) for number, post in enumerate(POSTS, 1)]
    how = {"style": "plain", "max_length": 256, "settings": Settings(6, batch_size=2)}
    scored = {row.id: row for row in chain(*score_batches(answerer.engine, answerer.tokenizer, records, **how))}
    labels = []
    for record, analysis in zip(records, found, strict=True):
        sums = {label: scores["sum"] for label, scores in scored[record.id].label_log_probabilities.items()}
        assert analysis.label == max(sums, key=sums.get)
        assert analysis.confidence == max(analysis.probabilities.values()) == analysis.probabilities[analysis.label]
        assert sum(analysis.probabilities.values()) == pytest.approx(1)
        assert list(analysis.probabilities) == list(task.labels)
        assert not analysis.calibrated
        labels.append(analysis.label)
    beginnings = label_answers(task, "plain", answer_opening("plain", answerer.tokenizer))
    openings = [f"{beginnings[label]} Reasoning:" for label in labels]
    batches = answer_batches(answerer.engine, answerer.tokenizer, records, openings=openings, **how)
    texts = {row.id: row.generated_text for row in chain(*batches)}
    assert [explanation_in(texts[record.id], task) for record in records] == [one.explanation for one in found]
    assert len({one.explanation for one in found}) > 1


def test_a_post_alone_is_analysed_as_in_a_batch(answerer: Answerer, found: list[Analysis]) -> None:
    alone = analyse(answerer, POSTS[1], "DR", settings=SHORT)
    assert alone.explanation == found[1].explanation
    assert alone.probabilities == pytest.approx(found[1].probabilities, rel=1e-4)
    told: list[int] = []
    assert analyse_posts(answerer, [], "DR", settings=SHORT, on_done=told.append) == []
    assert told == []


def test_an_aspect_is_needed_where_a_task_has_some_and_only_there(answerer: Answerer) -> None:
    found = analyse(answerer, POSTS[0], "MultiWD", aspect="Social", settings=SHORT)
    assert (found.task, found.aspect) == ("MultiWD", "social")
    assert found.to_json()["aspect"] == "social"
    with pytest.raises(UserError, match="one of spiritual, physical"):
        analyse(answerer, POSTS[0], "MultiWD")
    with pytest.raises(UserError, match="not an aspect of DR"):
        analyse(answerer, POSTS[0], "DR", aspect="social")


@pytest.mark.parametrize(
    ("post", "message"),
    [
        ("", "the post is empty"),
        (" \n\u200b\t\ufeff", "the post is empty"),
        (f"{SECRET} " * 300, r"the post is too long by [\d,]+ tokens: 256 are allowed"),
        (SECRET * LONGEST_POST, r"the post has 800,000 characters; shorten it"),
        (f"{SECRET} \ud800", "half of a surrogate pair"),
        (7, "expected a text, found int"),
    ],
    ids=["nothing", "nothing to see", "long", "very long", "no text", "a number"],
)
def test_what_cannot_be_analysed_is_refused_and_not_quoted(answerer: Answerer, post: str, message: str) -> None:
    for posts, what in (([post], "the post"), ([POSTS[0], post], "post 2")):
        with pytest.raises(UserError, match=message.replace("the post", what)) as caught:
            analyse_posts(answerer, posts, "DR", settings=SHORT)
        assert SECRET not in str(caught.value)


def test_settings_that_leave_no_room_are_refused(answerer: Answerer) -> None:
    with pytest.raises(UserError, match="max_new_tokens 0"):
        AnalysisSettings(max_new_tokens=0)
    with pytest.raises(UserError, match=r"abstain_below 1\.5"):
        AnalysisSettings(abstain_below=1.5)
    with pytest.raises(UserError, match=r"max_new_tokens 500: give less than 2\d\d"):
        analyse(answerer, POSTS[0], "DR", settings=AnalysisSettings(max_new_tokens=500))


def of_dr(yes: float, no: float, settings: AnalysisSettings, post: str = POSTS[0], explanation: str = "") -> Analysis:
    record = Record("post-1", "DR", post)
    sums = {label: {"sum": value, "mean": value} for label, value in (("yes", yes), ("no", no))}
    scored = replace(answer_to(record, ""), label_log_probabilities=sums)
    return analysis_of(record, scored, explanation, settings, complete=True)


def test_a_temperature_changes_how_sure_an_analysis_is_and_not_its_label() -> None:
    plain = of_dr(-1.0, -3.0, AnalysisSettings(abstain_below=0.8))
    kept = KeptTemperatures("scores.json", {"DR": 4.0})
    tempered = of_dr(-1.0, -3.0, AnalysisSettings(abstain_below=0.8, temperatures=kept))
    assert plain.confidence == pytest.approx(1 / (1 + 2.718281828459045**-2))
    assert tempered.confidence == pytest.approx(1 / (1 + 2.718281828459045**-0.5))
    assert (plain.calibrated, tempered.calibrated) == (False, True)
    assert (plain.abstained, tempered.abstained) == (False, True)
    assert plain.label == tempered.label == "yes"
    other = KeptTemperatures("scores.json", {"SAD": 4.0})
    assert not of_dr(-1.0, -3.0, AnalysisSettings(temperatures=other)).calibrated


def test_risk_is_a_likely_label_of_high_risk_or_the_words_of_the_post() -> None:
    def because(yes: float, no: float, post: str = POSTS[0]) -> tuple[str, ...]:
        settings = AnalysisSettings(words_point_to_risk=lambda text: "end it" in text)
        return of_dr(yes, no, settings, post).risk.because

    assert because(-1.0, -3.0) == ("label",)
    assert because(-2.0, -1.0) == ("label",)  # the likelier label is no, but yes is at 27 %
    assert because(-3.0, -1.0) == ()
    assert because(-3.0, -1.0, "I want to end it.") == ("words",)
    assert because(-1.0, -3.0, "I want to end it.") == ("label", "words")
    assert of_dr(-3.0, -1.0, AnalysisSettings(), "I want to kill myself.").risk.because == ("words",)


def test_quotes_are_given_as_the_post_has_them() -> None:
    post = "🙂 I can’t sleep, I count the cracks. And I can’t sleep."
    explanation = 'They say "i can\'t sleep" and "count ... cracks", but never "all is well". It shows "depression".'
    found = of_dr(-1.0, -3.0, AnalysisSettings(), post, explanation)
    assert [quote.text for quote in found.quotes] == ["I can’t sleep", "count", "cracks"]
    assert [post[quote.start : quote.end] for quote in found.quotes] == [quote.text for quote in found.quotes]
    values = json.loads(json.dumps(found.to_json()))
    assert values["quotes"][0] == {"text": "I can’t sleep", "start": 2, "end": 15}
    assert values["risk"] == {"high": True, "because": ["label"]}
    assert values["aspect"] is None
    assert values["notice"].startswith("For research only")


def scores_file(folder: Path, calibration: object) -> Path:
    path = folder / "scores.json"
    path.write_text(json.dumps({"schema_version": 3, "datasets": {}, "calibration": calibration}))
    return path


def calibration(value: object = 2.0, remark: str | None = None, generation: object = None) -> dict[str, object]:
    datasets = {"DR": {"temperature": {"value": value, "remark": remark}}, "SAD": {"temperature": None}}
    return {"datasets": datasets, "calibrated_on": {"generation": generation}}


def test_temperatures_are_read_from_scores(tmp_path: Path) -> None:
    signature = {"weights": "w", "dtype": "float32", "tokenizer": "t", "style": "chatml", "mode": "score-labels"}
    kept = read_temperatures(scores_file(tmp_path, calibration(generation={"pooled": [signature, signature]})))
    assert kept.values == {"DR": 2.0}
    same = {"weights": "w", "dtype": "float32", "style": "chatml", "tokenizer": "t"}
    kept.check(**same)
    kept.check(
        **same | {"weights": "w in bfloat16", "dtype": "bfloat16"}
    )  # a fingerprint of another dtype says nothing
    for key, value in {"weights": "v", "style": "plain", "tokenizer": "u"}.items():
        with pytest.raises(UserError, match=f"another model or other prompts.*{key}"):
            kept.check(**same | {key: value})
    voted = read_temperatures(scores_file(tmp_path, calibration(generation=signature | {"mode": "generate"})))
    with pytest.raises(UserError, match="way to score labels"):
        voted.check(**same)
    read_temperatures(scores_file(tmp_path, calibration())).check(**same)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "no calibration in it"),
        ([], "no calibration in it"),
        (calibration(remark="stands at the lower end"), "no temperature in it"),
        (calibration("2"), "is no number from"),
        (calibration(0), "is no number from"),
        (calibration(value=True), "is no number from"),
    ],
)
def test_scores_without_a_usable_temperature_are_refused(tmp_path: Path, value: object, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        read_temperatures(scores_file(tmp_path, value))
    with pytest.raises(UserError, match="no such file"):
        read_temperatures(tmp_path / "other.json")


def test_temperatures_of_another_model_are_refused_before_anything_is_computed(answerer: Answerer) -> None:
    kept = KeptTemperatures("scores.json", {"DR": 2.0}, ({"weights": "others", "dtype": "float32"},))
    with pytest.raises(UserError, match=r"^scores\.json: .*weights differs"):
        Analyser(answerer, AnalysisSettings(temperatures=kept))
