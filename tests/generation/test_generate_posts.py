"""`mentallama generate` on posts without labels, which is what a user has."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from tiny_decoder import random_params, shape

from mentallama_jax.cli.main import main
from mentallama_jax.formats.hf_folder import save_hf
from mentallama_jax.formats.model_card import ModelCard
from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer
from mentallama_jax.imhi.tasks import TASKS

SAMPLE_TOKENIZER = Path(__file__).resolve().parents[2] / "mentallama_jax" / "imhi" / "sample" / "tokenizer"
POSTS = ["I cannot sleep before exams and count the hours.", "My week was calm."]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    config = shape(vocab_size=1024, num_layers=1, max_positions=512)
    card = ModelCard("tiny", "org/base", base_is_hub_id=True)
    save_hf(folder, config, random_params(config), load_tokenizer(SAMPLE_TOKENIZER), card=card)
    return str(folder)


def generate(model: str, *more: object) -> int:
    return main(["generate", model, "--max-new-tokens", "4", *map(str, more)])


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def posts_csv(folder: Path, header: str = "post", *extra: str) -> Path:
    path = folder / "posts.csv"
    path.write_text("\n".join([header, *(f'"{post}"{"".join(extra)}' for post in POSTS)]) + "\n", encoding="utf-8")
    return path


def same_but_for_rounding(rows: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    def scores(row: dict[str, Any]) -> list[float]:
        return [value for of_label in row.get("label_log_probabilities", {}).values() for value in of_label.values()]

    def rest(row: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in row.items() if key != "label_log_probabilities"}

    return [rest(row) for row in rows] == [rest(row) for row in expected] and all(
        scores(row) == pytest.approx(scores(other), rel=1e-5) for row, other in zip(rows, expected, strict=True)
    )


@pytest.mark.long
@pytest.mark.parametrize("way", [[], ["--score-labels"]])
def test_posts_alone_are_answered_and_have_nothing_to_score(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], way: list[str]
) -> None:
    out = tmp_path / "answers.jsonl"
    arguments = ["--data", posts_csv(tmp_path), "--task", "DR", "--out", out, *way]
    assert generate(model, *arguments) == 0
    rows = rows_of(out)
    assert [row["id"] for row in rows] == ["DR/1", "DR/2"]
    assert {row["dataset"] for row in rows} == {"DR"}
    assert not any(row["label"] or row["goldens"] for row in rows)
    printed = capsys.readouterr().out
    assert "no gold labels" in printed
    assert "For research only" in printed
    assert "evaluate" not in printed
    whole = out.read_bytes()
    out.write_bytes(whole.splitlines(keepends=True)[0])
    assert generate(model, *arguments) == 0
    assert same_but_for_rounding(rows_of(out), rows)  # a batch of another size is another program
    capsys.readouterr()
    assert main(["evaluate", str(out), "--out", str(tmp_path / "scores")]) == 2
    error = capsys.readouterr().err
    assert "has no gold label" in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "scores").exists()


def test_records_without_labels_are_answered(model: str, tmp_path: Path) -> None:
    path = tmp_path / "posts.jsonl"
    rows = [
        {"dataset": name, "post": post, "id": f"{name}-x", "label": None}
        for name, post in zip(("DR", "SAD"), POSTS, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert generate(model, "--data", path, "--out", tmp_path / "out.jsonl") == 0
    assert [row["id"] for row in rows_of(tmp_path / "out.jsonl")] == ["DR-x", "SAD-x"]


@pytest.mark.parametrize("name", ["IRF", "MultiWD"])
def test_every_aspect_is_asked_about_or_one(model: str, tmp_path: Path, name: str) -> None:
    aspects = list(TASKS[name].aspects)
    path = posts_csv(tmp_path, "post,id", ",t3_abc")
    assert generate(model, "--data", path, "--task", name, "--out", tmp_path / "all.jsonl") == 0
    rows = rows_of(tmp_path / "all.jsonl")
    assert [row["aspect"] for row in rows] == aspects * 2
    assert rows[0]["id"] == f"t3_abc/{aspects[0].replace(' ', '-')}"
    assert len({row["id"] for row in rows}) == len(rows)
    one = tmp_path / "one.jsonl"
    assert generate(model, "--data", path, "--task", name, "--aspect", aspects[1].upper(), "--out", one) == 0
    assert [row["aspect"] for row in rows_of(one)] == [aspects[1]] * 2
    of_row = posts_csv(tmp_path, "post,aspect", f",{aspects[0]}")
    assert generate(model, "--data", of_row, "--task", name, "--out", tmp_path / "row.jsonl") == 0
    assert [row["aspect"] for row in rows_of(tmp_path / "row.jsonl")] == [aspects[0]] * 2


def test_labels_that_are_there_are_gold(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    assert generate(model, "--data", posts_csv(tmp_path, "post,label", ",1"), "--task", "dreaddit", "--out", out) == 0
    assert [row["label"] for row in rows_of(out)] == ["yes", "yes"]
    assert "next: mentallama evaluate" in capsys.readouterr().out


def test_rows_without_a_label_among_others_are_left_out(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"dataset": "DR", "post": post, "label": label} for post, label in zip(POSTS, ("yes", ""), strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert generate(model, "--data", path, "--out", tmp_path / "out.jsonl") == 0
    assert len(rows_of(tmp_path / "out.jsonl")) == 1
    assert "left out: 1 rows without a label" in capsys.readouterr().err


def test_one_post_is_answered_on_the_screen_and_nowhere_else(
    model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert generate(model, "--post", POSTS[0], "--task", "irf") == 0
    shown = capfd.readouterr()
    for aspect in TASKS["IRF"].aspects:
        assert f"Does the post show risk of {aspect}?" in shown.out
    assert "For research only" in shown.out
    assert POSTS[0] not in shown.out + shown.err
    assert list(tmp_path.iterdir()) == []
    assert generate(model, "--post", POSTS[0], "--task", "DR", "--score-labels") == 0
    assert "depression." in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--post", "p"], "--post needs --task"),
        (["--post", "p", "--task", "DR", "--out", "x.jsonl"], "--out goes with --data"),
        (["--post", " ", "--task", "DR"], "the post is empty"),
        (["--post", "p", "--task", "XY"], "unknown data set 'XY'"),
        (["--post", "p", "--task", "DR", "--aspect", "mood"], "'mood' is not an aspect of DR"),
        (["--post", "p", "--task", "IRF", "--aspect", "mood"], "'mood' is not an aspect of IRF"),
        (["--data", "sample:test"], "--data needs --out"),
        (["--data", "sample:test", "--out", "x.jsonl", "--aspect", "social"], "--aspect goes with --task"),
        (["--data", "sample:test", "--out", "x.jsonl", "--task", "DR"], "leave --task out"),
        (["--data", "posts.csv", "--out", "x.jsonl"], "--task NAME"),
        (
            ["--data", "texts.csv", "--out", "x.jsonl", "--task", "DR"],
            "column post is missing (found: text); rename the one that holds the posts",
        ),
        (["--data", "empty.csv", "--out", "x.jsonl", "--task", "DR"], "row 1: the post is empty; no row of the file"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    posts_csv(tmp_path)
    (tmp_path / "texts.csv").write_text("text\np\n")
    (tmp_path / "empty.csv").write_text('post\n" "\n')
    assert generate("no/such/model", *arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


@pytest.mark.long
def test_labels_of_answers_to_posts_without_gold_stand_in_a_table(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "answers.jsonl"
    words = ["--data", posts_csv(tmp_path), "--task", "DR", "--score-labels", "--out", out]
    assert generate(model, *words) == 0
    said = capsys.readouterr().out
    with (tmp_path / "answers.labels.csv").open(newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    assert [row["id"] for row in table] == [row["id"] for row in rows_of(out)]
    assert {row["read"] for row in table} <= {"yes", "no"}
    assert all(row["rule"] for row in table)
    for label in {row["read"] for row in table}:
        assert f"DR: {label} {sum(row['read'] == label for row in table)}" in said
    assert "answers.labels.csv has the label read from each answer" in said
