"""`mentallama evaluate` as a user meets it."""

import argparse
import csv
import json
import shlex
from pathlib import Path

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
    assert "1 of 73 rows are not scored: " in printed
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


def next_words(printed: str, out: Path, **names: object) -> list[str]:
    """The words of the command that was offered, with files in the place of its names in capitals."""
    said = next(line for line in printed.splitlines() if line.startswith("next: mentallama compare "))
    return [str(names.get(word, word)) for word in shlex.split(said)[2:-1]] + [str(out)]


def test_what_comes_next_compares_the_scores_as_they_were_read(tmp_path, capsys):
    """Two systems of one file, each read by columns of its own: the comparison reads each as it was scored."""
    both = tmp_path / "both.csv"
    rows = [f"{'yes' if number % 2 else 'no'},{'Yes.' if number % 2 else 'No.'},{'Yes.'}" for number in range(20)]
    both.write_text("\n".join(["answer,llama,gpt", *rows]) + "\n")
    for name in ("llama", "gpt"):
        columns = ["--columns", f"gold=answer,text={name}", "--dataset", "DR"]
        assert main(["evaluate", str(both), *columns, "--out", str(tmp_path / name)]) == 0
    words = next_words(capsys.readouterr().out, tmp_path / "comparison", OTHER_SCORES=tmp_path / "gpt")
    assert main(words) == 0
    found = json.loads((tmp_path / "comparison" / "comparison.json").read_text())
    first = next(each for each in found["differences"] if each["metric"] == "accuracy")
    assert (first["first_value"], first["second_value"]) == (1, 0.5)


def answers(path: Path, rows: int, wrong: int = 0) -> Path:
    lines = [
        {
            "id": f"DR/test/{n}",
            "dataset": "DR",
            "post_id": str(n),
            "label": "yes",
            "generated_text": "No." if n < wrong else "Yes.",
        }
        for n in range(rows)
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_what_comes_next_of_several_systems_and_of_seeds(tmp_path, capsys):
    a, b = answers(tmp_path / "a/test.jsonl", 30, 3), answers(tmp_path / "b/test.jsonl", 30, 8)
    other = answers(tmp_path / "other.jsonl", 30, 20)
    assert run(a, b, "--out", tmp_path / "each") == 0
    words = next_words(capsys.readouterr().out, tmp_path / "first")
    assert "--matched-only" not in words
    assert main(words) == 0
    assert run(a, b, "--pool", "--out", tmp_path / "seeds") == 0
    words = next_words(capsys.readouterr().out, tmp_path / "second", **{"OTHER.jsonl": other})
    assert main(words) == 0
    systems = json.loads((tmp_path / "second" / "comparison.json").read_text())["systems"]
    assert {name: len(seeds) for name, seeds in systems.items()} == {"other": 1, "SEEDS": 2}
    fewer = answers(tmp_path / "fewer.jsonl", 25, 9)
    capsys.readouterr()
    assert run(a, fewer, "--out", tmp_path / "unequal") == 0
    words = next_words(capsys.readouterr().out, tmp_path / "third")
    assert "--matched-only" in words
    assert main(words) == 0
    # Parts of a benchmark are one system, which `compare` cannot take in parts.
    assert run(a, fewer, "--pool", "--out", tmp_path / "parts") == 0
    assert "next:" not in capsys.readouterr().out


def test_other_scores_are_not_replaced_without_a_word(tmp_path, capsys):
    first, second = answers(tmp_path / "first.jsonl", 20), answers(tmp_path / "second.jsonl", 20, 4)
    for _ in range(2):
        assert run(first, "--out", tmp_path / "scores") == 0
        assert "take their place" not in capsys.readouterr().out
    assert run(second, "--out", tmp_path / "scores") == 0
    assert f"scores held the scores of {first}: these take their place" in capsys.readouterr().out


def test_explanations_of_several_systems_stand_side_by_side(tmp_path, capsys, monkeypatch):
    pytest.importorskip("sacrebleu")
    monkeypatch.setenv("COLUMNS", "120")
    files = []
    for name, said in (("good", "They lie awake and cry."), ("bad", "Nothing of it.")):
        row = {"dataset": "DR", "post_id": "p", "label": "yes", "goldens": "Yes. Reasoning: They lie awake and cry."}
        files.append(tmp_path / f"{name}.jsonl")
        lines = [row | {"id": f"DR/test/{n}", "generated_text": f"Yes. Reasoning: {said}"} for n in range(20)]
        files[-1].write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run(*files, "--metrics", "bleu,chrf", "--out", tmp_path / "scores") == 0
    printed = capsys.readouterr().out
    assert printed.count("Explanations beside the gold responses") == 1
    table = printed.partition("Explanations beside the gold responses")[2]
    rows = [line.split() for line in table.splitlines()]
    of_explanation = rows[rows.index(next(row for row in rows if row[:2] == ["explanation", "good"])) :][:3]
    assert of_explanation[0][3] == "100.0"
    assert next(row for row in of_explanation if row[0] == "bad")
