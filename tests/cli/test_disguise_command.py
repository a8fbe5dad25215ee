"""`mentallama data disguise`, as a user meets it: files, report, key, refusals."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mentallama_jax.cli import main as command_line
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.data_files.writers import write_records, write_release
from mentallama_jax.imhi.predictions import answer_to
from mentallama_jax.imhi.records import Record

POST = (
    "Hi Zebulon, I'm 23. I wrote to u/lantern_zebra7 and zebra@lantern.com, and I felt so very low in all those days."
)
MARKS = ("Zebulon", "lantern", "zebra", "at 23")

Data = Callable[..., int]


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Data:
    """Runs `mentallama data disguise ...`; the exit status is returned."""
    monkeypatch.setattr(command_line, "COMMANDS", ("data",))

    def run(*arguments: str | Path) -> int:
        return command_line.main(["data", "disguise", *map(str, arguments)])

    return run


def rows() -> list[Record]:
    first = Record(
        "DR/train/lantern-1", "DR", POST, "yes", "Zebulon is asked at 23.", split="train", source="zebra.csv:1"
    )
    return [
        first,
        replace(first, id="DR/train/lantern-2", post="A fine day.", explanation=""),
        Record("IRF/test/1", "IRF", POST, "yes", "", "perceived burdensomeness", "test", "zebra.csv:2"),
    ]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "rows.jsonl"
    path.parent.mkdir()
    write_records(path, rows())
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def marked(text: str) -> list[str]:
    return [mark for mark in MARKS if mark.lower() in text.lower()]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


@pytest.mark.parametrize("name", ["new.jsonl", "new.parquet"])
def test_records_are_written_with_a_report_that_holds_no_text(
    name: str, data: Data, source: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "keys" / "a.key"
    assert data(source, "--out", out / name, "--new-key", key) == 0
    new = read_records([out / name]).records
    assert [marked(row.post + row.explanation + row.id + row.source) for row in new] == [[]] * 3
    assert [(row.dataset, row.label, row.split, row.aspect) for row in new] == [
        (row.dataset, row.label, row.split, row.aspect) for row in rows()
    ]
    assert new[0].post == new[2].post
    assert new[1].post == "A fine day."
    report = read_json(out / "new.disguise.json")
    replaced = report["all"]["replaced_in_posts"]
    assert replaced | {"name": 2, "age": 2, "handle": 2, "e-mail": 2} == replaced
    assert report["datasets"]["DR"]["replaced_in_answers"]["age"] == 1
    assert report["all"]["posts"] == 3
    assert report["all"]["posts_changed"] == 2
    assert report["all"]["runs_in_posts"]["searchable"] == 2
    assert set(report["longest_run_by_post"]) == {row.id for row in new}
    assert max(report["longest_run_by_post"].values()) == 10
    shown = capsys.readouterr()
    secret = key.read_text().strip()
    for text in (shown.out, shown.err, (out / "new.disguise.json").read_text()):
        assert marked(text.replace(str(source), "")) == []
        assert secret not in text
        assert secret[:16] not in text
    assert "with a run of 8 words or more: 2 of 3" in shown.out


def test_the_same_key_gives_the_same_file_and_another_one_another(
    data: Data, source: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert data(source, "--out", out / "one.jsonl", "--new-key", tmp_path / "a.key") == 0
    assert data(source, "--out", out / "two.jsonl", "--key-file", tmp_path / "a.key") == 0
    monkeypatch.setenv("MENTALLAMA_DISGUISE_KEY", (tmp_path / "a.key").read_text())
    assert data(source, "--out", out / "three.jsonl") == 0
    assert data(source, "--out", out / "four.jsonl", "--new-key", tmp_path / "b.key") == 0
    one, two, three, four = ((out / f"{name}.jsonl").read_text() for name in ("one", "two", "three", "four"))
    assert one == two == three
    assert not set(one.splitlines()) & set(four.splitlines())


def test_names_of_rows_are_kept_on_request(data: Data, source: Path, out: Path, tmp_path: Path) -> None:
    assert data(source, "--out", out / "new.jsonl", "--new-key", tmp_path / "a.key", "--keep-ids") == 0
    assert [row.id for row in read_records([out / "new.jsonl"]).records] == [row.id for row in rows()]


def test_the_released_layout_goes_in_and_out_and_is_not_disguised_twice(
    data: Data, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_release(tmp_path / "release", rows())
    key = tmp_path / "a.key"
    assert data(tmp_path / "release", "--out", out, "--new-key", key) == 0
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) == 5
    assert [marked(path.read_text("utf-8").replace(str(tmp_path), "")) for path in files] == [[]] * 5
    assert len(read_records([out]).records) == 3
    for again in (out, out / "train_data" / "instruction_data" / "DR" / "train.csv"):
        assert data(again, "--out", tmp_path / "second" / "twice.jsonl", "--key-file", key) == 2
        assert "is disguised already" in capsys.readouterr().err
    assert not (tmp_path / "second" / "twice.jsonl").exists()


def test_records_are_not_disguised_twice_wherever_they_are_moved(
    data: Data, source: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "a.key"
    assert data(source, "--out", out / "new.jsonl", "--new-key", key) == 0
    (out / "new.jsonl").rename(tmp_path / "moved.jsonl")
    capsys.readouterr()
    assert data(tmp_path / "moved.jsonl", "--out", out / "twice.jsonl", "--key-file", key) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds rows that are disguised already" in line


def test_outputs_of_models_are_disguised(data: Data, source: Path, out: Path, tmp_path: Path) -> None:
    records = read_records([source]).records
    answers = tmp_path / "answers.jsonl"
    answers.write_text(
        "".join(
            replace(
                answer_to(row, "Yes. Reasoning: u/lantern_zebra7 is a 23-year-old."), examples=("DR/train/lantern",)
            ).to_line()
            for row in records
        )
    )
    key = tmp_path / "a.key"
    assert data(source, "--out", out / "new.jsonl", "--new-key", key) == 0
    assert data(answers, "--out", out / "answers.jsonl", "--key-file", key, "--data", source) == 0
    text = (out / "answers.jsonl").read_text()
    assert marked(text) == []
    assert "DR/train/lantern" not in text
    new = read_records([out / "new.jsonl"]).records
    made = [json.loads(line) for line in text.splitlines()]
    assert [row["id"] for row in made] == [row.id for row in new]
    account = new[0].post.split("u/")[1].split(" ")[0]
    assert f"u/{account} is a" in made[0]["generated_text"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "no key is given"),
        (("--new-key", "{out}/a.key"), "beside the data"),
        (("--new-key", "{tmp}/a.key", "--key-file", "{tmp}/b.key"), "two ways"),
        (("--key-file", "{tmp}/absent.key"), "no such file"),
        (("--new-key", "{tmp}/a.key", "--run-words", "0"), "--run-words"),
        (("--new-key", "{tmp}/a.key", "--paraphrase", "x", "--bound", "2"), "--bound 2.0: give a number from 0 to 1"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    options: tuple[str, ...], message: str, data: Data, source: Path, out: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = [option.format(out=out, tmp=tmp_path) for option in options]
    assert data(source, "--out", out / "new.jsonl", *given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (out / "new.jsonl").exists()
