"""`mentallama evaluate` as a user meets it."""

import argparse
import csv
import json
import shlex

import pytest

from mentallama_jax.cli import evaluate_command as evaluate
from mentallama_jax.cli import report_command
from mentallama_jax.cli.main import main
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.tasks import TASKS


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    evaluate.add_parser(parser.add_subparsers())
    options = parser.parse_args(["evaluate", *map(str, arguments)])
    return options.run(options)


def report(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    report_command.add_parser(parser.add_subparsers())
    options = parser.parse_args(["report", *map(str, arguments)])
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


def test_the_report_is_made_and_made_again_without_scoring(gold_folder, tmp_path, capsys):
    out = tmp_path / "scores"
    run(gold_folder, "--out", out)
    assert "report.html written" in capsys.readouterr().out
    names = ("report.html", "report.md", "tables.tex")
    made = [(out / name).read_bytes() for name in names]
    for path in gold_folder.iterdir():
        path.unlink()
    assert report(out) == 0
    assert [(out / name).read_bytes() for name in names] == made
    assert b'Reasoning: A "made-up" one' not in b"".join(made)


def test_json_alone_is_on_standard_output(gold_folder, tmp_path, capsys):
    out = tmp_path / "scores"
    run(gold_folder / "DR.csv", "--out", out, "--json")
    shown = capsys.readouterr()
    assert json.loads(shown.out) == json.loads((out / "scores.json").read_text())
    assert "weighted" in shown.err
    report(out, "--json")
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {str(out): json.loads((out / "scores.json").read_text())}
    assert "report.html written" in shown.err


def test_outputs_are_shown_only_where_asked_for_and_masked(tmp_path, capsys):
    text = "Hi Anna, write to jo@mail.example.org"
    with (tmp_path / "DR.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(
            [["goldens", "generated_text"], ["Yes, the poster suffers from depression.", text]]
        )
    out = tmp_path / "scores"
    pages = ("report.html", "report.md")

    def said() -> str:
        return "".join((out / name).read_text("utf-8") for name in pages)

    run(tmp_path / "DR.csv", "--out", out)
    assert "write to" not in said()
    with pytest.raises(UserError, match="evaluate --show-posts"):
        report(out, "--show-posts")
    run(tmp_path / "DR.csv", "--out", out, "--show-posts")
    assert said().count("write to") == 2
    assert "[name]" in said()
    assert "jo@mail" not in said()
    report(out)
    assert "write to" not in said()
    report(out, "--show-posts")
    assert said().count("write to") == 2
    run(tmp_path / "DR.csv", "--out", out, "--show-posts", "--raw")
    assert said().count("Hi Anna") == 2
    run(tmp_path / "DR.csv", "--out", out)
    assert not (out / "examples.json").exists()
    with pytest.raises(UserError, match="--raw goes with --show-posts"):
        run(tmp_path / "DR.csv", "--out", out, "--raw")


def test_what_comes_next_reads_files_of_other_programs_as_they_were_read(tmp_path, capsys):
    for name, second in (("DR_ours", "Yes."), ("OTHERS", "No.")):
        (tmp_path / f"{name}.csv").write_text(f"answer,output,set\nyes,Yes.,DR\nno,{second},DR\n")
    columns = ["--columns", "gold=answer,text=output,dataset=set"]
    assert main(["evaluate", str(tmp_path / "DR_ours.csv"), *columns, "--out", str(tmp_path / "scores")]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("next: mentallama compare ")
    words = shlex.split(said)[2:]
    words[words.index("OTHERS.csv")] = str(tmp_path / "OTHERS.csv")
    words[words.index("COMPARISON")] = str(tmp_path / "comparison")
    assert main(words) == 0
    found = json.loads((tmp_path / "comparison" / "comparison.json").read_text())
    assert "DR" in json.dumps(found)
    assert main(["compare", *words[1:3], "--out", str(tmp_path / "none")]) == 2
    assert "say it by --columns gold=COLUMN" in capsys.readouterr().err
