"""`mentallama data`, as a user meets it: exit status, files, messages."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from mentallama_jax.cli import main as command_line
from mentallama_jax.cli.data_command import STYLES
from mentallama_jax.config import Style
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.data_files.writers import write_records
from mentallama_jax.imhi.records import Record

SAMPLE_ROWS = len(read_records(["sample"]).records)

Data = Callable[..., int]


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Data:
    """Runs `mentallama data ...`; the exit status is returned."""
    monkeypatch.setattr(command_line, "COMMANDS", ("data",))

    def run(*arguments: str | Path) -> int:
        return command_line.main(["data", *map(str, arguments)])

    return run


def record(post: str, label: str = "yes", dataset: str = "DR", split: str = "train") -> Record:
    return Record(f"{dataset}/{split}/{post}", dataset, post, label, "reasons", split=split)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


# check


def test_the_sample_is_clean(data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data("check", "sample", "--json", tmp_path / "report.json", "--strict") == 0
    shown = capsys.readouterr()
    assert "no validation or test post is a training post" in shown.out
    assert shown.err == ""
    report = read_json(tmp_path / "report.json")
    assert sum(part["rows"] for part in report["parts"]) == SAMPLE_ROWS
    risks = ("mojibake", "spreadsheet_errors", "conflicting_questions", "empty_explanations")
    assert [part for part in report["parts"] if any(part[risk] for risk in risks)] == []
    assert {leak["any"] for leak in report["shared"]["leaks"]} == {0}
    assert report["bad_rows"] == report["unreadable"] == []


MALFORMED = {
    "nul.csv": (b"query,gpt-3.5-turbo\n\0,\n", "NUL byte"),
    "columns.csv": (b"query,answer\na,b\n", "needs the columns"),
    "latin.csv": ("query,gpt-3.5-turbo\ncafé,b\n".encode("latin-1"), "not UTF-8"),
    "half.csv": (b'query,gpt-3.5-turbo\n"Consider', "not valid CSV"),
    "image.csv": (b"\x89PNG\r\n\x1a\n\xff", "not UTF-8"),
    "label.jsonl": (b'{"dataset": "DR", "post": "p", "label": "perhaps"}\n', "'perhaps' is not a label of DR"),
    "table.parquet": (b"PAR1", "not a valid .parquet file"),
    "nothing.csv": (b"", "holds no rows"),
    "marks.csv": (b"text,label,m,fluency\na,1,x,3\n", "human marks"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_one_line_and_the_others_are_reported(
    name: str, data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, what = MALFORMED[name]
    (tmp_path / name).write_bytes(content)
    assert data("check", tmp_path / name, "sample:test", "--json", tmp_path / "report.json") == 2
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert line.startswith(f"error: {tmp_path / name}")
    assert what in line
    assert "dreaddit" in shown.out
    assert read_json(tmp_path / "report.json")["unreadable"] == [line.removeprefix("error: ")]


def test_missing_and_empty_places_are_a_line_each(
    data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert data("check", tmp_path, tmp_path / "absent", "sample:nonsense") == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 3
    assert "holds no" in shown.err
    assert "no such file or folder" in shown.err


def test_bad_rows_are_named_and_fail_when_strict(
    data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    write_records(path, [record("a post")])
    with path.open("a") as stream:
        stream.writelines('{"dataset": "DR", "post": "hidden words", "label": "perhaps"}\n' for _ in range(12))
    assert data("check", path, "--json", tmp_path / "report.json") == 0
    shown = capsys.readouterr().out
    assert f"{path}, row 2: 'perhaps' is not a label of DR" in shown
    assert "and 2 more" in shown
    assert "hidden words" not in shown
    assert [bad["row"] for bad in read_json(tmp_path / "report.json")["bad_rows"]] == list(range(2, 14))
    assert data("check", path, "--strict") == 1


def test_no_text_of_a_post_is_shown(data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [record("hidden words"), record("hidden words", "no"), record("hidden words", split="test")]
    write_records(tmp_path / "rows.jsonl", [replace(row, id=f"r{number}") for number, row in enumerate(rows)])
    assert data("check", tmp_path / "rows.jsonl", "--json", tmp_path / "report.json", "--tokenizer", "sample") == 0
    shown = capsys.readouterr()
    assert "conflicting labels: 1" in shown.out
    assert "Leaks" in shown.out
    assert "hidden words" not in shown.out + shown.err + (tmp_path / "report.json").read_text("utf-8")


def test_repairing_first_shows_what_is_left(data: Data, tmp_path: Path) -> None:
    write_records(tmp_path / "rows.jsonl", [record("don‚Äôt"), record("‚Äô and д")])
    counts = []
    for extra in ((), ("--repair",)):
        assert data("check", tmp_path / "rows.jsonl", "--json", tmp_path / "report.json", *extra) == 0
        counts.append(read_json(tmp_path / "report.json")["parts"][0]["mojibake"])
    assert counts == [2, 1]


def test_lengths_and_padding_are_those_of_training(data: Data, tmp_path: Path) -> None:
    from mentallama_jax.jobs.open_tokenizer import open_tokenizer
    from mentallama_jax.training.data.batches import TrainingData
    from mentallama_jax.training.data.packing import PlanSettings
    from mentallama_jax.training.data.tokens import tokenize

    arguments = ("--tokenizer", "sample", "--style", "llama2-chat", "--max-length", "256")
    assert data("check", "sample:train", *arguments, "--json", tmp_path / "report.json") == 0
    report = read_json(tmp_path / "report.json")
    records = read_records(["sample:train"]).records
    store = tokenize(records, "llama2-chat", open_tokenizer("sample"), 256, tmp_path / "cache")
    assert report["padding"]["tokens"] == store.lengths.sum()
    assert report["padding"]["padded"] == pytest.approx(1 - store.lengths.sum() / (len(store) * 256))
    for layout in ("packed", "bucketed"):
        settings = PlanSettings(0, 256, "examples", 256, layout, 4)
        assert report["padding"][layout] == pytest.approx(TrainingData(store, settings, epochs=1).pad_share)
    assert sum(part["too_long"] for part in report["lengths"]) == store.truncated_examples
    assert sum(part["cut_tokens"] for part in report["lengths"]) == store.truncated_tokens


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tokenizer", "sample", "--style", "chatml"), "has no token <|im_end|>"),
        (("--tokenizer", "no/such/folder"), "no/such/folder"),
        (("--max-length", "0"), "--max-length must be 1 or more"),
        (("--json", "."), "is a folder"),
    ],
)
def test_impossible_options_are_one_line(
    arguments: tuple[str, ...], message: str, data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    assert data("check", "sample:test", *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_the_styles_are_those_of_the_config() -> None:
    assert get_args(Style) == STYLES


# build and convert


def test_a_raw_table_becomes_records(data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw.csv"
    raw.write_text("post,label,explanation\none,stressed,why\ntwo,0,\nthree,7,\n", "utf-8")
    build = ("build", raw, "--dataset", "dreaddit")
    assert data(*build, "--split", "train", "--out", tmp_path / "rows.jsonl") == 0
    shown = capsys.readouterr().out
    assert f"left out: {raw}, row 3: '7' is not a label of dreaddit" in shown
    assert "dreaddit train: 2 rows, 2 posts" in shown
    records = read_records([tmp_path / "rows.jsonl"]).records
    assert [(row.post, row.label, row.explanation, row.split) for row in records] == [
        ("one", "yes", "why", "train"),
        ("two", "no", "", "train"),
    ]
    assert data(*build, "--out", tmp_path / "strict.jsonl", "--strict") == 2
    assert not (tmp_path / "strict.jsonl").exists()


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_converting_keeps_every_record(name: str, data: Data, tmp_path: Path) -> None:
    assert data("convert", "sample", "--out", tmp_path / name) == 0
    assert read_records([tmp_path / name]).records == read_records(["sample"]).records


def test_a_folder_in_the_released_layout_holds_both_wordings(data: Data, tmp_path: Path) -> None:
    assert data("convert", "sample", "--out", tmp_path / "release") == 0

    def content(source: str | Path) -> Counter[tuple[str, ...]]:
        rows = read_records([source]).records
        return Counter((row.dataset, row.split, row.aspect, row.post, row.label, row.explanation) for row in rows)

    assert content(tmp_path / "release") == content("sample")
    assert content(tmp_path / "release/train_data/complete_data") + content(
        tmp_path / "release/test_data/test_complete"
    ) == content("sample")
    assert data("check", tmp_path / "release", "--json", tmp_path / "report.json") == 0
    wordings = read_json(tmp_path / "report.json")["wordings"]
    assert sum(part["compared"] for part in wordings) == SAMPLE_ROWS
    assert [part for part in wordings if part["rows"]] == []


def test_repair_is_done_on_request(data: Data, tmp_path: Path) -> None:
    write_records(tmp_path / "rows.jsonl", [record("don‚Äôt")])
    assert data("convert", tmp_path / "rows.jsonl", "--out", tmp_path / "same.jsonl") == 0
    assert data("convert", tmp_path / "rows.jsonl", "--repair", "--out", tmp_path / "repaired.jsonl") == 0
    posts = [read_records([tmp_path / name]).records[0].post for name in ("same.jsonl", "repaired.jsonl")]
    assert posts == ["don‚Äôt", "don’t"]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    rows = [record(f"post {number}") for number in range(20)] + [record("held out"), record("seen")]
    rows += [record("held out", dataset="dreaddit", split="test"), record("own", dataset="dreaddit")]
    rows += [record("seen", split="test"), record("post", dataset="loneliness")]
    write_records(tmp_path / "mixed.jsonl", rows)
    return tmp_path / "mixed.jsonl"


def written(path: Path) -> Counter[tuple[str, str]]:
    return Counter((row.dataset, row.split) for row in read_records([path]).records)


def test_the_general_mixture_leaves_out_tasks_and_their_test_posts(
    mixed: Path, data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert data("convert", mixed, "--general", "--split", "train", "--out", tmp_path / "general.jsonl") == 0
    assert written(tmp_path / "general.jsonl") == {("DR", "train"): 21, ("loneliness", "train"): 1}
    shown = capsys.readouterr().out
    assert "in --drop-posts-in: 1\n" in shown
    assert "no test rows of T-SID, CAMS, IRF were read" in shown


def test_a_mixture_is_chosen_weighted_and_cut(mixed: Path, data: Data, tmp_path: Path) -> None:
    convert = ("convert", f"{mixed}:train")
    assert data(*convert, "--drop-posts-in", f"{mixed}:test", "--out", tmp_path / "a.jsonl") == 0
    assert written(tmp_path / "a.jsonl")["DR", "train"] == 20
    assert data(*convert, "--datasets", "DR", "--weights", "reddit=2", "--out", tmp_path / "b.jsonl") == 0
    assert written(tmp_path / "b.jsonl") == {("DR", "train"): 44}
    write_records(
        tmp_path / "rare.jsonl", [record("a", label="yes"), *(record(f"b {n}", label="no") for n in range(3))]
    )
    assert data("convert", tmp_path / "rare.jsonl", "--balance-labels", "--out", tmp_path / "even.jsonl") == 0
    assert [row.post for row in read_records([tmp_path / "even.jsonl"]).records].count("a") == 2
    assert data(*convert, "--exclude", "DR", "--out", tmp_path / "c.jsonl") == 0
    assert written(tmp_path / "c.jsonl") == {("dreaddit", "train"): 1, ("loneliness", "train"): 1}
    chosen: list[list[str]] = []
    for seed in (1, 1, 2):
        out = tmp_path / f"d{len(chosen)}.jsonl"
        assert data(*convert, "--max-rows", "8", "--seed", str(seed), "--out", out) == 0
        chosen.append([row.id for row in read_records([out]).records])
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(chosen[0]) == len(chosen[2]) == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "rows.csv"), "ends in .jsonl or .parquet"),
        (("--out", "there.jsonl"), "exists already"),
        (("--out", "new.jsonl", "--weights", "DR"), "expected NAME=NUMBER"),
        (("--out", "new.jsonl", "--weights", "DR=0"), "above 0"),
        (("--out", "new.jsonl", "--datasets", "dredit"), "did you mean dreaddit?"),
        (("--out", "new.jsonl", "--datasets", "SWMH"), "no record of SWMH was read"),
        (("--out", "new.jsonl", "--split", "tets"), "unknown split 'tets'"),
        (("--out", "new.jsonl", "--split", "val"), "holds no row of the split val"),
        (("--out", "new.jsonl", "--max-rows", "0"), "above 0"),
        (("--out", "new"), "has no split"),
    ],
)
def test_what_cannot_be_written_leaves_nothing(
    arguments: tuple[str, ...],
    message: str,
    data: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_records(tmp_path / "there.jsonl", [record("with a split"), record("without", split="")])
    before = (tmp_path / "there.jsonl").read_bytes()
    assert data("convert", "there.jsonl", *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert [path.name for path in tmp_path.iterdir()] == ["there.jsonl"]
    assert (tmp_path / "there.jsonl").read_bytes() == before
