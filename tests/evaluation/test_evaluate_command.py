"""`mentallama evaluate` as a user meets it."""

import argparse
import csv
import json

import pytest

from mentallama_jax.cli import evaluate_command as evaluate
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.tasks import TASKS


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    evaluate.add_parser(parser.add_subparsers())
    options = parser.parse_args(["evaluate", *map(str, arguments)])
    return options.run(options)


@pytest.fixture
def gold_folder(tmp_path):
    """A `DATASET.csv` of each data set, in which a model answers with the gold of both formats."""
    folder = tmp_path / "gold"
    folder.mkdir()
    for task in TASKS.values():
        golds = [*task.sentences.values(), *(f" {word}." for word in task.completion_words.values())]
        with (folder / f"{task.name}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["goldens", "generated_text"])
            writer.writerows([f'{gold} Reasoning: A "made-up" one,\nin two lines.'] * 2 for gold in golds)
    return folder


def test_gold_scored_as_its_own_prediction_is_perfect(gold_folder, tmp_path, capsys):
    assert run(gold_folder, "--out", tmp_path / "scores") == 0
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert list(scores["datasets"]) == list(TASKS)
    assert {(each["accuracy"], each["unparsed"]) for each in scores["datasets"].values()} == {(1.0, 0)}
    printed = capsys.readouterr().out
    assert "pooled" in printed
    assert "no post_id" in printed


def test_reading_as_upstream(gold_folder, tmp_path, capsys):
    assert run(gold_folder, "--out", tmp_path / "s", "--as-upstream") == 0
    scores = json.loads((tmp_path / "s" / "scores.json").read_text())
    assert scores["signature"]["reader"] == "as-upstream"
    printed = capsys.readouterr().out
    assert "domain" in printed
    # Released golds of SAD and CAMS hold labels for which the released scorer looks in vain.
    failing = {name for name, each in scores["datasets"].items() if each["as_upstream"]["fails_on"]}
    assert failing == {"SAD", "CAMS"}
    assert all(f"{name}: the released scorer fails on this data set" in printed for name in failing)


def test_strays_and_unreadable_gold_are_told_and_do_not_stop_the_run(gold_folder, tmp_path, capsys):
    (gold_folder / "notes.csv").write_text("a,b\n1,2\n")
    with (gold_folder / "DR.csv").open("a", encoding="utf-8") as stream:
        stream.write("a marker and so no label at all,Yes.\n")
    (gold_folder / "SAD.csv").rename(gold_folder / "SAD.CSV")
    assert run(gold_folder, "--out", tmp_path / "scores") == 0
    printed = capsys.readouterr().out
    assert "passed over 'notes.csv': unknown data set 'notes'" in printed
    assert "1 row is not scored: " in printed
    assert "DR.csv, row 5: its gold does not begin with a label of DR" in printed
    assert "marker" not in printed
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert (scores["datasets"]["DR"]["left_out"], scores["datasets"]["SAD"]["left_out"]) == (1, 0)
    assert scores["datasets"]["SAD"]["accuracy"] == 1
    assert scores["signature"]["passed_over"]


def test_the_same_command_writes_the_same_file(gold_folder, tmp_path):
    for name in ("a", "b"):
        run(gold_folder / "DR.csv", "--out", tmp_path / name)
    assert (tmp_path / "a" / "scores.json").read_bytes() == (tmp_path / "b" / "scores.json").read_bytes()


def test_wrong_use_is_told(gold_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file; give a folder to --out"):
        run(gold_folder, "--out", tmp_path / "file")
    with pytest.raises(UserError, match="no such file or folder"):
        run(tmp_path / "absent", "--out", tmp_path / "s")
    assert not (tmp_path / "s").exists()
