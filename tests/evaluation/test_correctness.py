"""Scores and reports of made-up predictions."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from mentallama_jax.evaluation.correctness import evaluate
from mentallama_jax.evaluation.label_readers import READERS
from mentallama_jax.evaluation.schema import FIELDS, SCHEMA_VERSION
from mentallama_jax.evaluation.score_report import notes, score_table, write_report
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.evaluation.system_predictions import LeftOut, Predictions
from mentallama_jax.evaluation.trust.trust_sections import score_trust
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import TASKS

INTERVALS = IntervalSettings()


def prediction(number, dataset, gold, text, aspect="", post=None, goldens="") -> Prediction:
    return Prediction(
        id=f"{dataset}/{number}",
        dataset=dataset,
        aspect=aspect,
        post_id=post or f"post {number}",
        label=gold,
        goldens=goldens,
        generated_text=text,
    )


def predictions(*rows, name="made.jsonl") -> Predictions:
    return Predictions(rows, ({"file": name, "sha256": "0"},), {"model": "toy"}, "label of each row", True)


def scored(*rows, reader="templates+words"):
    return evaluate(predictions(*rows), reader=reader, settings=INTERVALS)


def every_label(text_of) -> list[Prediction]:
    labels = [(task, label) for task in TASKS.values() for label in task.labels]
    return [
        prediction(number, task.name, label, text_of(task, label), task.aspects[0] if task.aspects else "")
        for number, (task, label) in enumerate(labels)
    ]


def test_a_perfect_model_scores_1_everywhere():
    scores = scored(*every_label(lambda task, label: task.sentences[label]))
    assert list(scores.datasets) == list(TASKS)
    for summary in (*scores.datasets.values(), scores.pooled):
        assert (summary.accuracy, summary.weighted_f1, summary.macro_f1, summary.unparsed) == (1, 1, 1, 0)
        assert 0 < summary.weighted_f1_interval[0] < summary.weighted_f1_interval[1] == 1
        assert set(summary.interval_methods.values()) == {"exact"}
    assert set(scores.mean_over_datasets.values()) > {1.0}


def test_silence_is_wrong_and_counted():
    scores = scored(*every_label(lambda *_: ""))
    for summary in (*scores.datasets.values(), scores.pooled):
        assert (summary.accuracy, summary.weighted_f1, summary.unparsed) == (0, 0, summary.n)


def test_an_unparsed_output_is_wrong_for_its_gold_and_no_class():
    scores = scored(
        prediction(1, "DR", "yes", "Yes."),
        prediction(2, "DR", "yes", "It is hard to tell."),
        prediction(3, "DR", "no", "No."),
        prediction(4, "DR", "no", "Yes."),
    ).datasets["DR"]
    assert scores.unparsed == 1
    assert scores.accuracy == 0.5
    # yes: 1 hit, 2 gold, 2 predicted; no: 1 hit, 2 gold, 1 predicted.
    assert scores.weighted_f1 == pytest.approx((2 * 1 / 2 + 2 * 2 / 3) / 4)
    assert scores.macro_f1 == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert scores.majority_weighted_f1 == pytest.approx(2 / 6 * 2 / 2)
    assert list(scores.per_class) == ["yes", "no"]
    assert scores.confusion == {"yes": {"yes": 1, "no": 0, "unparsed": 1}, "no": {"yes": 1, "no": 1, "unparsed": 0}}


def test_as_upstream_puts_a_default_class_where_nothing_is_read():
    silent = prediction(1, "DR", "no", "Reasoning: Yes, the poster suffers from depression.")
    assert scored(silent).datasets["DR"].accuracy == 0
    upstream = scored(silent, reader="as-upstream")
    assert (upstream.datasets["DR"].accuracy, upstream.datasets["DR"].unparsed) == (1, 0)
    assert upstream.datasets["DR"].as_upstream.out_of_domain == 1
    assert upstream.signature["reader"] == "as-upstream"


def test_as_upstream_says_what_the_released_scorer_counts_and_where_it_fails():
    scores = scored(
        prediction(1, "CAMS", "none", "This post shows no causes of depression."),
        prediction(2, "CAMS", "medication", "It is the medication."),
        prediction(3, "CAMS", "none", "none", goldens="none. Reasoning: a gold of the completion format"),
        prediction(4, "SWMH", "suicide", "Suicide."),
        reader="as-upstream",
    )
    cams, swmh = (scores.datasets[name].as_upstream for name in ("CAMS", "SWMH"))
    assert (cams.out_of_domain, cams.fails_on, cams.leaves_out) == (1, 1, 0)
    assert (swmh.out_of_domain, swmh.fails_on, swmh.leaves_out) == (0, 0, 0)
    told = notes(scores)
    assert any("CAMS: the released scorer fails on this data set" in line and "of 1 row;" in line for line in told)
    assert not any("SWMH: the released" in line for line in told)
    table = score_table(scores)
    assert dict(zip(table.columns[0].cells, table.columns[-1].cells, strict=True)) == {
        "SWMH": "0",
        "CAMS": "1",
        "pooled": "1",
        "mean": "",
    }
    assert "domain" in str(table.columns[-1].header)
    assert all(each.as_upstream is None for each in scored(prediction(1, "DR", "no", "No.")).datasets.values())


def test_a_reader_is_any_function_of_text_task_and_aspect():
    asked = []

    def classifier(text, task, aspect):
        asked.append((text, task.name, aspect))
        return None if "?" in text else task.labels[0]

    rows = [
        prediction(1, "IRF", "yes", "anything", "thwarted belongingness"),
        prediction(2, "DR", "yes", "who knows?"),
    ]
    scores = scored(*rows, reader=classifier)
    assert scores.signature["reader"] == "classifier"
    assert (scores.datasets["IRF"].accuracy, scores.datasets["DR"].unparsed) == (1, 1)
    assert sorted(asked) == [("anything", "IRF", "thwarted belongingness"), ("who knows?", "DR", "")]
    assert set(READERS) == {"templates+words", "as-upstream"}


def test_one_row_of_one_class():
    scores = scored(prediction(1, "SAD", "work", "Work."))
    assert (scores.datasets["SAD"].weighted_f1, scores.pooled.majority_weighted_f1) == (1, 1)


def test_the_pool_keeps_labels_of_data_sets_apart():
    rows = [
        *(prediction(number, "DR", "yes", "Yes.") for number in range(3)),
        *(prediction(number, "dreaddit", "no", "Yes.") for number in range(3)),
    ]
    scores = scored(*rows)
    assert scores.pooled.accuracy == 0.5
    assert scores.pooled.weighted_f1 == 0.5  # with labels in common, "yes" would score 2/3 and the pool 1/3
    assert scores.pooled.majority_weighted_f1 == 1
    assert scores.mean_over_datasets["weighted_f1"] == 0.5


def test_aspects_are_scored_where_every_row_tells_its_own():
    rows = [
        prediction(1, "IRF", "yes", "Yes.", "thwarted belongingness", post="a"),
        prediction(2, "IRF", "no", "Yes.", "perceived burdensomeness", post="a"),
    ]
    scores = scored(*rows).datasets["IRF"]
    assert (scores.n, scores.posts) == (2, 1)
    assert {aspect: each.accuracy for aspect, each in scores.per_aspect.items()} == {
        "thwarted belongingness": 1,
        "perceived burdensomeness": 0,
    }
    assert scored(rows[0], replace(rows[1], aspect="")).datasets["IRF"].per_aspect is None


def test_the_order_of_rows_does_not_matter():
    rows = every_label(lambda task, label: task.sentences[task.labels[0]])
    assert scored(*rows) == scored(*reversed(rows))


def test_scores_json_holds_figures_and_signature(tmp_path):
    first = predictions(prediction(1, "DR", "yes", "Yes."), prediction(1, "T-SID", "ptsd", "Who knows."))
    scores = evaluate(first, reader="templates+words", settings=INTERVALS)
    paths = write_report(tmp_path / "new", scores)
    assert [path.name for path in paths] == ["scores.json"]
    written = json.loads((tmp_path / "new" / "scores.json").read_text())
    assert {"n", "accuracy", "weighted_f1", "macro_f1", "unparsed", "per_class", "per_aspect"} <= set(
        written["datasets"]["DR"]
    )
    assert written["schema_version"] == SCHEMA_VERSION
    assert written["datasets"]["DR"]["per_class"]["yes"] == {"precision": 1, "recall": 1, "f1": 1, "support": 1}
    signature = written["signature"]
    assert signature["generation"] == {"model": "toy"}
    assert signature["confidence"] == 0.95
    assert signature["reader"] == "templates+words"
    assert {"mentallama_jax", "numpy", "python"} <= set(signature["versions"])


@pytest.mark.parametrize("reader", READERS)
def test_every_key_of_scores_json_is_documented_and_every_documented_key_is_there(tmp_path, reader):
    rows = every_label(lambda task, label: task.sentences[label])
    first = replace(predictions(*rows), left_out=(LeftOut("a.csv", 3, "why", "DR"),), passed_over=("'notes.csv'",))
    scored = evaluate(first, reader=reader, settings=INTERVALS)
    write_report(tmp_path, scored, trust=score_trust(first, None, reader, INTERVALS))
    written = json.loads((tmp_path / "scores.json").read_text())
    assert list(written) == [
        key for key in FIELDS if key not in ("explanations", "classifiers", "calibration", "lengths", "coverage")
    ]
    for scores in written["datasets"].values():
        assert list(scores) == list(FIELDS["datasets"])
    for summary in (written["pooled"], *written["datasets"]["IRF"]["per_aspect"].values()):
        assert list(summary) == list(FIELDS["pooled"])
    assert sorted(written["signature"]) == sorted(FIELDS["signature"])
    for section in ("high_risk", "output_faults"):
        assert set(written[section]) == set(FIELDS[section])
    assert written["datasets"]["DR"]["left_out"] == 1
    assert written["signature"]["left_out"] == [{"dataset": "DR", "file": "a.csv", "row": 3, "reason": "why"}]


def test_few_posts_are_marked_in_table_and_json():
    few, enough = (
        predictions(*(prediction(number, "DR", "yes", "Yes." if number else "No.") for number in range(count)))
        for count in (19, 20)
    )
    for rows, marked in ((few, True), (enough, False)):
        scores = evaluate(rows, reader="templates+words", settings=INTERVALS)
        assert (scores.datasets["DR"].warning is not None) is marked
        assert next(score_table(scores).columns[4].cells).endswith("*") is marked
        assert any("fewer than 20 posts" in line and "DR (19)" in line for line in notes(scores)) is marked


def test_metrics_load_without_drawing_or_models():
    code = (
        "import sys, mentallama_jax.evaluation.correctness, mentallama_jax.evaluation.score_report;"
        "print({'jax', 'torch', 'sklearn', 'matplotlib', 'transformers', 'pandas'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
