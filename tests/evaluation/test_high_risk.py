"""Labels of high risk: who is missed, said before all else."""

import argparse
import json

import pytest
from label_scores import scored_row

from mentallama_jax.cli import evaluate_command
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.correctness import label_rows
from mentallama_jax.evaluation.schema import FIELDS
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.evaluation.trust.high_risk import score_high_risk
from mentallama_jax.files import write_jsonl
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import TASKS

SUICIDE = "suicide or self-harm tendency"
FEW = IntervalSettings()


def answer(number: int, dataset: str, gold: str, stated: str, aspect: str = "") -> Prediction:
    text = TASKS[dataset].sentences.get(stated, stated)
    post = f"p{number}"
    return Prediction(
        id=f"{dataset}/{number}", dataset=dataset, aspect=aspect, post_id=post, label=gold, generated_text=text
    )


def test_the_table_of_data_sets_marks_labels_and_says_why():
    for task in TASKS.values():
        assert set(task.high_risk) <= set(task.labels)
        assert task.high_risk_reason
        assert task.high_risk_note.startswith("none: ") is not bool(task.high_risk)
    assert {name: task.high_risk for name, task in TASKS.items() if task.high_risk} == {
        "DR": ("yes",),
        "CLP": ("yes",),
        "loneliness": ("yes",),
        "SWMH": ("suicide",),
        "T-SID": (SUICIDE,),
        "IRF": ("yes",),
    }


def test_recall_and_misses_by_hand():
    rows = [
        *(answer(n, "T-SID", SUICIDE, SUICIDE) for n in range(5)),
        *(answer(10 + n, "T-SID", SUICIDE, "depression") for n in range(2)),
        answer(20, "T-SID", SUICIDE, "no mental disorders"),
        *(answer(30 + n, "T-SID", SUICIDE, "Who knows.") for n in range(2)),
        answer(40, "T-SID", "ptsd", SUICIDE),
        *(answer(50 + n, "T-SID", "ptsd", "ptsd") for n in range(40)),
        answer(99, "SAD", "work", "work"),
    ]
    found = score_high_risk(label_rows(rows, "templates+words"), FEW)
    assert list(found.datasets) == ["T-SID"]
    assert list(found.reasons) == ["T-SID", "SAD"]
    (suicide,) = found.datasets["T-SID"]
    assert (suicide.label, suicide.aspect, suicide.unparsed) == (SUICIDE, "", 2)
    assert (suicide.recall.count, suicide.recall.of, suicide.recall.share) == (5, 10, 0.5)
    assert (suicide.missed.count, suicide.missed.of, suicide.missed.share) == (5, 10, 0.5)
    assert (suicide.precision.count, suicide.precision.of) == (5, 6)
    assert suicide.read_as == {"depression": 2, "unparsed": 2, "no mental disorders": 1}
    # Ten posts are few, though the data set has more.
    assert "10 posts are few" in suicide.recall.warning
    (low, high), (missed_low, missed_high) = suicide.recall.interval, suicide.missed.interval
    assert (missed_low, missed_high) == pytest.approx((1 - high, 1 - low), abs=0.06)
    assert 0 < low < 0.5 < high < 1


def test_all_missed_all_found_and_no_row_of_the_label():
    missed, found, absent = (
        score_high_risk(
            label_rows([answer(n, "DR", gold, stated) for n in range(30)], "templates+words"), FEW
        ).datasets["DR"][0]
        for gold, stated in (("yes", "no"), ("yes", "yes"), ("no", "no"))
    )
    assert (missed.recall.share, missed.missed.share, missed.precision.share) == (0, 1, None)
    assert missed.recall.interval[0] == 0 < missed.recall.interval[1] < 0.2
    assert (found.recall.share, found.missed.share, found.precision.share) == (1, 0, 1)
    assert 0.8 < found.recall.interval[0] < found.recall.interval[1] == 1
    assert (absent.recall.of, absent.recall.share, absent.recall.interval, absent.read_as) == (0, None, None, {})


def test_aspects_stand_behind_the_whole():
    aspects = TASKS["IRF"].aspects
    rows = [answer(n, "IRF", "yes", "yes" if n % 2 else "no", aspects[n % 2]) for n in range(8)]
    found = score_high_risk(label_rows(rows, "templates+words"), FEW).datasets["IRF"]
    assert [(each.aspect, each.recall.share) for each in found] == [("", 0.5), (aspects[0], 0), (aspects[1], 1)]


def evaluate(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    evaluate_command.add_parser(parser.add_subparsers())
    options = parser.parse_args(["evaluate", *map(str, arguments)])
    return options.run(options)


def test_evaluate_says_first_what_was_missed_and_then_how_true_probabilities_are(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    rows = {
        split: [scored_row(n, (-1.0 - n % 3, -1.0 - n % 2), n % 2, split=split, post=f"{split} {n}") for n in range(40)]
        + [
            scored_row(n, (-1.0 - n % 3, -3.0, -2.0, -1.0 - n % 2), n % 4, dataset="T-SID", split=split)
            for n in range(17)
        ]
        for split in ("test", "val")
    }
    for split, of_split in rows.items():
        write_jsonl(tmp_path / f"{split}.jsonl", [row.to_json() for row in of_split])
    for out in ("a", "b"):
        more = ("--calibrate-on", tmp_path / "val.jsonl")
        assert evaluate(tmp_path / "test.jsonl", "--out", tmp_path / out, *more) == 0
    assert (tmp_path / "a" / "scores.json").read_bytes() == (tmp_path / "b" / "scores.json").read_bytes()
    printed = capsys.readouterr().out
    places = [printed.index(title) for title in ("High risk", "Correctness", "Calibration", "90 % sets")]
    assert places == sorted(places)
    assert max(len(line) for line in printed.splitlines() if line.startswith(" ")) <= 80
    assert "…" not in printed
    assert f"T-SID {SUICIDE} (4)" in printed
    assert "at T " in printed
    assert "No output is unparsed" in printed
    written = json.loads((tmp_path / "a" / "scores.json").read_text())
    assert list(written)[:2] == ["schema_version", "high_risk"]
    assert set(written["calibration"]) == set(FIELDS["calibration"])
    assert written["calibration"]["calibrated_on"]["predictions"][0]["file"].endswith("val.jsonl")
    assert set(written["calibration"]["datasets"]) == {"DR", "T-SID"}
    for key in written["calibration"]["datasets"]["DR"] | written["calibration"]["datasets"]["DR"]["as_given"]:
        assert f"`{key}`" in FIELDS["calibration"]["datasets"]
    for key in written["high_risk"]["datasets"]["DR"][0]:
        assert f"`{key}`" in FIELDS["high_risk"]["datasets"]
    with pytest.raises(UserError, match="of posts that are scored as well"):
        evaluate(tmp_path / "test.jsonl", "--out", tmp_path / "c", "--calibrate-on", tmp_path / "test.jsonl")
