"""Scores, comparisons and reports of made-up predictions."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.comparison import compare
from mentallama_jax.evaluation.correctness import evaluate
from mentallama_jax.evaluation.predictions import Prediction, Predictions
from mentallama_jax.evaluation.report import write_report
from mentallama_jax.evaluation.statistics import Bootstrap
from mentallama_jax.imhi.tasks import TASKS

BOOTSTRAP = Bootstrap(resamples=50)


def prediction(number, dataset, gold, text, aspect="", post=None) -> Prediction:
    return Prediction(f"{dataset}/{number}", dataset, aspect, post or f"post {number}", gold, text)


def predictions(*rows, name="made.jsonl") -> Predictions:
    return Predictions(rows, ({"file": name, "sha256": "0"},), {"model": "toy"}, "label of each row", True)


def scored(*rows, reader="templates+words"):
    return evaluate(predictions(*rows), reader=reader, bootstrap=BOOTSTRAP)


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
        assert summary.weighted_f1_interval == (1, 1)
    assert set(scores.mean_over_datasets.values()) > {1.0}


def test_silence_is_wrong_and_counted():
    scores = scored(*every_label(lambda *_: ""))
    for summary in (*scores.datasets.values(), scores.pooled):
        assert (summary.accuracy, summary.weighted_f1, summary.unparsed) == (0, 0, summary.n)


def test_an_unparsed_output_is_a_class_of_its_own():
    scores = scored(
        prediction(1, "DR", "yes", "Yes."),
        prediction(2, "DR", "yes", "It is hard to tell."),
        prediction(3, "DR", "no", "No."),
        prediction(4, "DR", "no", "Yes."),
    ).datasets["DR"]
    assert scores.unparsed == 1
    assert scores.accuracy == 0.5
    # yes: 1 hit, 2 gold, 2 predicted; no: 1 hit, 2 gold, 1 predicted; unparsed: predicted once.
    assert scores.weighted_f1 == pytest.approx((2 * 1 / 2 + 2 * 2 / 3) / 4)
    assert scores.macro_f1 == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert scores.majority_weighted_f1 == pytest.approx(2 / 6 * 2 / 2)
    assert scores.per_class["unparsed"].support == 0
    assert scores.confusion == {"yes": {"yes": 1, "no": 0, "unparsed": 1}, "no": {"yes": 1, "no": 1, "unparsed": 0}}


def test_as_upstream_puts_a_default_class_where_nothing_is_read():
    silent = prediction(1, "DR", "no", "Reasoning: Yes, the poster suffers from depression.")
    assert scored(silent).datasets["DR"].accuracy == 0
    upstream = scored(silent, reader="as-upstream")
    assert (upstream.datasets["DR"].accuracy, upstream.datasets["DR"].unparsed) == (1, 0)
    assert upstream.signature["reader"] == "as-upstream"


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


def test_comparison_pairs_rows_by_id():
    better = [
        prediction(number, "DR", "yes" if number % 2 else "no", "Yes." if number % 2 else "No.") for number in range(40)
    ]
    worse = [replace(row, text="Yes.") for row in better]
    found = compare(
        predictions(*better), predictions(*reversed(worse)), reader="templates+words", bootstrap=Bootstrap()
    )
    assert found.datasets["DR"].difference == pytest.approx(1 - 1 / 3)
    assert found.datasets["DR"].interval[0] > 0
    assert found.pooled == found.datasets["DR"]
    same = compare(predictions(*better), predictions(*better), reader="templates+words", bootstrap=BOOTSTRAP)
    assert (same.pooled.difference, same.pooled.interval) == (0, (0, 0))


def test_other_rows_or_gold_cannot_be_compared():
    one, two = prediction(1, "DR", "yes", "Yes."), prediction(2, "DR", "yes", "Yes.")
    with pytest.raises(UserError, match=r"1 rows, such as DR/2, are only in b.jsonl"):
        compare(predictions(one), predictions(one, two, name="b.jsonl"), reader="templates+words", bootstrap=BOOTSTRAP)
    with pytest.raises(UserError, match="the gold of 1 rows, such as DR/1, differs"):
        compare(predictions(one), predictions(replace(one, gold="no")), reader="templates+words", bootstrap=BOOTSTRAP)


def test_the_report_holds_figures_signature_and_drawings(tmp_path):
    first = predictions(prediction(1, "DR", "yes", "Yes."), prediction(1, "T-SID", "ptsd", "Who knows."))
    scores = evaluate(first, reader="templates+words", bootstrap=BOOTSTRAP)
    comparison = compare(first, first, reader="templates+words", bootstrap=BOOTSTRAP)
    paths = write_report(tmp_path / "new", scores, comparison)
    assert sorted(path.name for path in paths) == ["confusion_DR.png", "confusion_T-SID.png", "scores.json"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths if path.suffix == ".png")
    written = json.loads((tmp_path / "new" / "scores.json").read_text())
    assert {"n", "accuracy", "weighted_f1", "macro_f1", "unparsed", "per_class", "per_aspect"} <= set(
        written["datasets"]["DR"]
    )
    assert written["datasets"]["DR"]["per_class"]["yes"] == {"precision": 1, "recall": 1, "f1": 1, "support": 1}
    signature = written["signature"]
    assert signature["generation"] == {"model": "toy"}
    assert signature["bootstrap"] == {"resamples": 50, "seed": 0, "confidence": 0.95}
    assert signature["reader"] == "templates+words"
    assert {"mentallama_jax", "numpy", "python"} <= set(signature["versions"])
    assert written["comparison"]["pooled"] == {"difference": 0, "interval": [0, 0]}


def test_metrics_load_without_drawing_or_models():
    code = (
        "import sys, mentallama_jax.evaluation.correctness, mentallama_jax.evaluation.report;"
        "print({'jax', 'torch', 'sklearn', 'matplotlib', 'transformers', 'pandas'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
