"""Predictions of several seeds, scored as one."""

import argparse
import csv
import json
from pathlib import Path

import pytest

from mentallama_jax.cli import evaluate_command as command
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.correctness import evaluate
from mentallama_jax.evaluation.row_labels import COLUMNS, LABELS_BY_ROW
from mentallama_jax.evaluation.schema import FIELDS
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.evaluation.system_predictions import Predictions, pool
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.jobs.score import score
from mentallama_jax.jobs.system_names import system_names


def predictions(name: str, answers: list[str]) -> Predictions:
    """Twelve posts, alternately gold yes and no."""
    rows = tuple(
        Prediction(
            id=f"DR/test/{i}",
            dataset="DR",
            post_id=f"post{i}",
            label=("yes", "no")[i % 2],
            generated_text=answer,
        )
        for i, answer in enumerate(answers)
    )
    return Predictions(rows, ({"file": name, "sha256": name},), {"seed": name}, "label of each row", True)


def scores(parts: list[Predictions]):
    return evaluate(pool(parts), reader="templates+words", settings=IntervalSettings())


def test_pooled_counts_are_the_sum_and_posts_stay_one() -> None:
    right = ["Yes.", "No."] * 6
    wrong = [*right[:9], "Yes.", "Yes.", "Yes."]
    pooled = scores([predictions("a", right), predictions("b", wrong)]).pooled
    assert (pooled.n, pooled.posts) == (24, 12)
    assert pooled.accuracy == pytest.approx(22 / 24)


def test_repeating_the_same_answers_does_not_narrow_the_interval() -> None:
    answers = ["Yes."] * 12
    once, thrice = (scores([predictions(str(k), answers) for k in range(times)]).pooled for times in (1, 3))
    assert once.weighted_f1_interval == pytest.approx(thrice.weighted_f1_interval)
    assert once.weighted_f1 == pytest.approx(thrice.weighted_f1)


def test_one_part_is_itself_and_several_keep_their_signatures() -> None:
    first, second = predictions("a", ["Yes."]), predictions("b", ["Yes."])
    assert pool([first]) is first
    both = pool([first, second])
    assert [file["file"] for file in both.files] == ["a", "b"]
    assert both.generation == {"pooled": [{"seed": "a"}, {"seed": "b"}]}
    assert len({row.id for row in both.rows}) == 2


def write(path: Path, answers: list[str], dataset: str = "DR", **meta: object) -> Path:
    """Predictions on posts whose gold is alternately yes and no, with a signature where one is given."""
    rows = [
        {
            "id": f"{dataset}/test/{i}", "dataset": dataset, "split": "test", "post_id": f"p{i}",
            "label": ("yes", "no")[i % 2], "generated_text": answer, "aspect": "",
        }
        for i, answer in enumerate(answers)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if meta:
        path.with_suffix(".meta.json").write_text(json.dumps(meta))
    return path


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    options = parser.parse_args(["evaluate", *map(str, arguments)])
    return options.run(options)


def test_several_are_pooled_on_request_alone(tmp_path: Path, capsys) -> None:
    files = [write(tmp_path / "a.jsonl", ["Yes."] * 4), write(tmp_path / "b.jsonl", ["No."] * 4)]
    assert run(*files, "--pool", "--out", tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["pooled"]["n"] == 8
    with pytest.raises(UserError, match="pool=True"):
        score(files, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_several_stand_side_by_side(tmp_path: Path, capsys) -> None:
    right = write(tmp_path / "right.jsonl", ["Yes.", "No."] * 3)
    wrong = write(tmp_path / "wrong.jsonl", ["No.", "Yes.", "No."])
    assert run(right, wrong, "--out", tmp_path / "out") == 0
    figures = {
        name: json.loads((tmp_path / "out" / name / "scores.json").read_text())["pooled"]["accuracy"]
        for name in ("right", "wrong")
    }
    assert figures == {"right": 1.0, "wrong": 0.0}
    assert not (tmp_path / "out" / "scores.json").exists()
    printed = capsys.readouterr().out
    assert printed.count("side by side, correctness") == 1
    assert "--pool" in printed
    page = (tmp_path / "out" / "report.html").read_text()
    assert "right" in page
    assert "wrong" in page
    assert (tmp_path / "out" / "right" / "report.html").is_file()
    assert run(right, wrong, "--out", tmp_path / "out", "--json") == 0
    assert json.loads(capsys.readouterr().out)["wrong"]["pooled"]["n"] == 3


def test_systems_are_called_after_their_files(tmp_path: Path) -> None:
    assert system_names([tmp_path / "base.jsonl", tmp_path / "tuned.v2.jsonl"]) == ["base", "tuned.v2"]
    assert system_names([tmp_path / "a" / "p.jsonl", tmp_path / "b" / "p.jsonl"]) == ["a-p", "b-p"]
    with pytest.raises(UserError, match="given twice"):
        system_names([tmp_path / "p.jsonl", tmp_path / "x" / ".." / "p.jsonl"])
    with pytest.raises(UserError, match="given twice"):
        system_names([tmp_path / "p.jsonl", tmp_path / "p.csv"])


@pytest.mark.parametrize("more", [(), ("--pool",)])
def test_the_same_file_twice_is_refused(tmp_path: Path, more: tuple[str, ...]) -> None:
    first, copy = (write(tmp_path / name, ["Yes."] * 4) for name in ("a.jsonl", "copy.jsonl"))
    with pytest.raises(UserError, match=r"a\.jsonl: given twice"):
        run(first, first, *more, "--out", tmp_path / "out")
    with pytest.raises(UserError, match=r"a\.jsonl and .*copy\.jsonl: the same content twice"):
        run(first, copy, *more, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_systems_side_by_side_are_not_calibrated_on_one_file(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", ["Yes."] * 4)
    other = write(tmp_path / "b.jsonl", ["No."] * 4)
    with pytest.raises(UserError, match="--calibrate-on belongs to one system"):
        run(first, other, "--calibrate-on", first, "--out", tmp_path / "out")


def test_seeds_that_answer_alike_are_no_copies(tmp_path: Path) -> None:
    seeds = [write(tmp_path / f"seed{seed}.jsonl", ["Yes."] * 4, model="m", seed=seed) for seed in (0, 1)]
    assert run(*seeds, "--pool", "--out", tmp_path / "out") == 0


def test_a_part_of_the_benchmark_says_so(tmp_path: Path, capsys) -> None:
    forty = write(tmp_path / "DR.jsonl", ["Yes."] * 40)
    assert run(forty, "--out", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "40/405" in printed
    assert "a part of the benchmark: DR 40 of 405 test rows" in printed
    written = json.loads((tmp_path / "out" / "scores.json").read_text())["coverage"]
    assert written == {"DR": [{"split": "test", "stated": True, "rows": 40, "of": 405}]}
    assert list(written["DR"][0]) == list(FIELDS["coverage"])
    assert "DR 40 of 405 test rows" in (tmp_path / "out" / "report.html").read_text()
    whole = write(tmp_path / "whole.jsonl", ["Yes."] * 405)
    assert run(whole, "--out", tmp_path / "whole") == 0
    assert "part of the benchmark" not in capsys.readouterr().out


def test_seeds_cover_each_row_once_and_rows_without_a_split_are_of_the_test(tmp_path: Path, capsys) -> None:
    seeds = [write(tmp_path / f"seed{seed}.jsonl", ["Yes."] * 4, seed=seed) for seed in (0, 1)]
    assert run(*seeds, "--pool", "--out", tmp_path / "out") == 0
    assert "DR 4 of 405 test rows" in capsys.readouterr().out
    (tmp_path / "DR.csv").write_text("goldens,generated_text\nyes,Yes.\nno,Yes.\n")
    assert run(tmp_path / "DR.csv", "--out", tmp_path / "csv") == 0
    assert "DR 2 of 405 test rows; rows that do not say their split are taken for test" in capsys.readouterr().out


def test_each_row_says_which_label_was_read_and_by_which_rule(tmp_path: Path) -> None:
    said = [
        "Yes, the poster suffers from depression.",
        "Hard to say.",
        "The post tells of work. Final answer: no",
        "The post shows clear signs of depression.",
        "Yes. Wait, no.",
    ]
    rows = write(tmp_path / "=a.jsonl", said)
    rows.write_text(rows.read_text().replace("DR/test/4", "=1+1"))
    assert run(rows, "--out", tmp_path / "out") == 0
    with (tmp_path / "out" / LABELS_BY_ROW).open(newline="") as stream:
        found = list(csv.DictReader(stream))
    assert tuple(found[0]) == COLUMNS
    assert [(row["gold"], row["read"], row["right"]) for row in found] == [
        ("yes", "yes", "1"), ("no", "", "0"), ("yes", "no", "0"), ("no", "yes", "0"), ("yes", "no", "0"),
    ]  # fmt: skip
    assert [row["rule"] for row in found] == [
        "opening",
        "no label found",
        "final answer",
        "claim in words",
        "behind a correction, opening",
    ]
    assert [row["id"] for row in found] == [*(f"DR/test/{i}" for i in range(4)), "'=1+1"]
    assert run(rows, "--as-upstream", "--out", tmp_path / "up") == 0
    with (tmp_path / "up" / LABELS_BY_ROW).open(newline="") as stream:
        assert {row["rule"] for row in csv.DictReader(stream)} <= {
            "first substring",
            "default class, as no label is found",
        }
