"""A post planted where it does not belong never comes into a message, a report or a file that is not for posts."""

import csv
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mentallama_jax.cli import main as command_line
from mentallama_jax.cli.main import main
from mentallama_jax.imhi.data_files.annotations import read_annotations
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.tasks import TASKS

PLANTED = "some nights the zebra lantern on our stairs is all that keeps me from leaving: 7"
MARKS = ("zebra lantern", "zebra", "lantern")

Row = dict[str, str]

_OWN = {
    "id": "DR/train/1",
    "dataset": "DR",
    "post": "All is grey.",
    "label": "yes",
    "explanation": "Grey.",
    "aspect": "",
    "split": "train",
    "source": "DR.csv:1",
    "original_label": "no",
}
_QUESTION = "Does the poster suffer from depression?"
_PREFIX = TASKS["DR"].completion_prefix
LAYOUTS: dict[str, Row] = {
    "own": _OWN,
    "aspects": _OWN | {"dataset": "IRF", "aspect": "perceived burdensomeness", "id": "IRF/train/1"},
    "query": {
        "query": f'Consider this post: "All is grey." Question: {_QUESTION}',
        "gpt-3.5-turbo": "Yes, the poster suffers from depression. Reasoning: Grey.",
    },
    "parts": {"post": "Post: All is grey.", "question": f" Question: {_PREFIX} ", "response": "yes. Reasoning: Grey."},
    "raw": {"post": "All is grey.", "label": "yes", "explanation": "Grey.", "aspect": "", "split": "test", "id": "r1"},
    "posts": {"post": "All is grey.", "id": "t3_a"},
    "marks": {"text": "All is grey.", "label": "1", "gpt3": "Yes."}
    | dict.fromkeys(("fluency", "completeness", "reliability", "overall"), "[1, 2, 3]"),
    "outputs": {"goldens": "yes. Reasoning: Grey.", "generated_text": "Yes.", "aspect": "", "post_id": "a"},
}


def planted(row: Row) -> Iterator[tuple[str, Sequence[str], list[Sequence[str]]]]:
    """What is wrong, the header and the rows of a table with a right row and a wrong one."""
    names, cells = list(row), list(row.values())
    for place, name in enumerate(names):
        yield f"cell {name}", names, [cells, [*cells[:place], PLANTED, *cells[place + 1 :]]]
        yield f"only cell {name}", names, [[*cells[:place], PLANTED, *cells[place + 1 :]]]
        yield f"column {name}", [*names[:place], PLANTED, *names[place + 1 :]], [cells]
    yield "header missing", [PLANTED if len(cell) > 10 else cell for cell in cells], [cells]
    yield "index column", ["", *names], [["0", *cells], [PLANTED, *cells]]
    yield "shifted to the right", names, [cells, [PLANTED, *cells[:-1]]]
    yield "shifted to the left", names, [cells, [*cells[1:], PLANTED]]
    yield "a cell too many", names, [cells, [*cells, PLANTED]]
    yield "twice", [PLANTED, PLANTED, *names], [["a", "b", *cells]]


def write(path: Path, header: Sequence[str], rows: list[Sequence[str]]) -> Path | None:
    """The table as a file; None where its form cannot hold it."""
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([header, *rows])
        return path
    if any(len(row) != len(header) for row in rows):
        return None
    if path.suffix == ".jsonl":
        objects = (
            "{" + ", ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in zip(header, row, strict=True)) + "}"
            for row in rows
        )
        path.write_text("\n".join(objects) + "\n", encoding="utf-8")
        return path
    table = pyarrow.Table.from_arrays([pyarrow.array(cells) for cells in zip(*rows, strict=True)], names=list(header))
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        with pyarrow.ipc.new_stream(str(path), table.schema) as stream:
            stream.write_table(table)
    return path


@pytest.fixture
def leaks(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """Run a command; the places in which the planted post shows: the terminal, and files but for those for posts."""
    monkeypatch.chdir(tmp_path)

    def run(arguments: Sequence[object], *for_posts: Path) -> list[str]:
        before = {path for path in tmp_path.rglob("*") if path.is_file()}
        words = list(map(str, arguments))
        monkeypatch.setattr(command_line, "COMMANDS", (words[0],))  # the parsers of the others take most of the time
        status = main(words)
        shown = capfd.readouterr()
        found = [
            f"{name} of {words[:2]}: {text[:300]}"
            for name, text in zip(("stdout", "stderr"), shown, strict=True)
            if marked(text)
        ]
        if status not in (0, 1, 2):
            found.append(f"status {status}")
        if status == 2 and any(len(line) > 2000 for line in shown.err.splitlines()):
            found.append("a long line")
        new = {path for path in tmp_path.rglob("*") if path.is_file()} - before
        found += [
            f"{path} of {words[:2]}"
            for path in new
            if path not in for_posts and marked(path.read_bytes().decode("utf-8", "replace"))
        ]
        for path in new:
            path.unlink()
        return found

    return run


def marked(text: str) -> bool:
    return any(mark in text.casefold() for mark in MARKS)


CASES = [
    pytest.param(layout, suffix, id=f"{layout} {suffix}")
    for layout, suffix in itertools.product(LAYOUTS, ("csv", "jsonl", "parquet", "arrow"))
    if suffix != "arrow" or layout in ("own", "raw")  # rows of Arrow and Parquet come from one reader
]


@pytest.mark.parametrize(("layout", "suffix"), CASES)
def test_commands_over_data(layout: str, suffix: str, tmp_path: Path, leaks: Callable[..., list[str]]) -> None:
    found = []
    for number, (what, header, rows) in enumerate(planted(LAYOUTS[layout])):
        path = write(tmp_path / f"data{number}" / f"DR.{suffix}", header, rows)
        if path is None:
            continue
        out = tmp_path / "out.jsonl"
        commands: list[list[object]] = [
            ["data", "check", path, "--json", tmp_path / "report.json", "--tokenizer", "sample"],
            ["data", "check", path, "--strict"],
            ["data", "convert", path, "--out", out],
            ["data", "convert", path, "--strict", "--out", out],
            ["data", "convert", "sample:train", "--drop-posts-in", path, "--max-rows", "5", "--out", out],
            ["data", "build", path, "--dataset", "DR", "--out", out],
            ["data", "build", path, "--dataset", "IRF", "--strict", "--out", out],
            ["generate", tmp_path / "no-model", "--data", path, "--out", tmp_path / "answers.jsonl"],
            ["generate", tmp_path / "no-model", "--data", path, "--task", "IRF", "--out", tmp_path / "answers.jsonl"],
        ]
        for command in commands:
            found += [f"{what}: {leak}" for leak in leaks(command, out)]
    assert found == []


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_what_a_run_records_of_its_data(suffix: str, tmp_path: Path) -> None:
    from importlib import resources

    from mentallama_jax.config import parse_config
    from mentallama_jax.errors import UserError
    from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer
    from mentallama_jax.training.data.examples import load_examples

    tokenizer = load_tokenizer(Path(str(resources.files("mentallama_jax.imhi"))) / "sample" / "tokenizer")
    recorded: list[str] = []
    for layout in ("own", "aspects", "query", "parts"):
        for number, (_, header, rows) in enumerate(planted(LAYOUTS[layout])):
            path = write(tmp_path / f"{layout}{number}" / f"DR.{suffix}", header, rows)
            sections: dict[str, Any] = {
                "model": {"source": "toy", "weights": "random"},
                "data": {"train": [str(path)], "validation": [str(path)], "drop_posts_in": ["sample:test"]},
                "training": {"run_dir": str(tmp_path / "run"), "steps": 1},
                "evaluation": {"generate_rows": 2},
            }
            sections["data"]["cache_dir"] = str(tmp_path / "cache")
            try:
                examples = load_examples(parse_config(sections, "test"), tokenizer, recorded.append)
            except UserError as error:
                recorded.append(str(error))
            else:
                recorded.append(json.dumps(examples.facts) + " ".join(examples.train.ids))
    assert len(recorded) > 40
    assert [text for text in recorded if marked(text)] == []


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_commands_over_predictions(suffix: str, tmp_path: Path, leaks: Callable[..., list[str]]) -> None:
    row = LAYOUTS["outputs"]
    if suffix == "jsonl":
        row = {"id": "DR/1", "dataset": "DR", "label": "yes", "split": "test"} | row
    found = []
    for number, (what, header, rows) in enumerate(planted(row)):
        if "generated_text" in what or ("goldens" in what and "column" not in what and suffix == "jsonl"):
            continue  # those are for texts
        path = write(tmp_path / f"answers{number}" / f"DR.{suffix}", header, rows)
        if path is None:
            continue
        for command in (
            ["evaluate", path, "--out", tmp_path / "scores"],
            ["evaluate", path.parent, "--out", tmp_path / "scores"],
            ["evaluate", path, "--as-upstream", "--out", tmp_path / "scores"],
            ["compare", path, "--system", f"again={path}", "--out", tmp_path / "comparison"],
            ["evaluate", path, path, "--out", tmp_path / "scores"],
        ):
            found += [f"{what}: {leak}" for leak in leaks(command)]
    assert found == []


def test_human_marks(tmp_path: Path, leaks: Callable[..., list[str]]) -> None:
    from mentallama_jax.errors import UserError

    said, found = [], []
    for number, (_, header, rows) in enumerate(planted(LAYOUTS["marks"])):
        path = write(tmp_path / f"{number}.csv", header, rows)
        assert path is not None
        try:
            said += [str(problem) for problem in read_annotations(path)[1]]
        except UserError as error:
            said.append(str(error))
        found += leaks(["agree", path, "--out", tmp_path / "agreement"])
    assert found == []
    assert len(said) > 20
    assert [text for text in said if marked(text)] == []


def test_problems_and_records_of_python(tmp_path: Path) -> None:
    """What the reading functions return: reasons and names, which programs log."""
    from mentallama_jax.errors import UserError

    said = []
    for layout, suffix in itertools.product(("own", "aspects", "query", "parts"), ("csv", "jsonl", "parquet")):
        for number, (_, header, rows) in enumerate(planted(LAYOUTS[layout])):
            path = write(tmp_path / f"{layout}{number}" / f"DR.{suffix}", header, rows)
            if path is None:
                continue
            try:
                result = read_records([path], need_labels=False)
            except UserError as error:
                said.append(str(error))
                continue
            said += map(str, result.problems)
            for record in result.records:
                said += [record.id, record.source, record.label, record.aspect, record.split, record.original_label]
    assert len(said) > 300
    assert [text for text in said if marked(text)] == []


def test_a_run_directory(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = [json.dumps(_OWN | {"id": "", "post": f"All is grey, day {number}."}) for number in range(4)]
    bad = [_OWN | {key: PLANTED} for key in ("id", "dataset", "label", "aspect", "split", "source", "original_label")]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([*lines, *map(json.dumps, bad)]) + "\n", encoding="utf-8")
    config = Path(__file__).resolve().parents[2] / "configs" / "toy.yaml"
    changes = [
        f"data.train=[{path}]",
        "data.validation=[]",
        "data.max_length=128",
        f"data.cache_dir={tmp_path / 'cache'}",
        "training.compile_cache_dir=null",
        f"training.run_dir={tmp_path / 'run'}",
        "training.epochs=null",
        "training.steps=1",
        "evaluation.generate_rows=0",
        "evaluation.metric=validation_loss",
    ]
    assert main(["train", str(config), *changes]) == 0
    shown = "".join(capfd.readouterr())
    assert "7 rows cannot be read" in shown
    assert not marked(shown)
    data = json.loads((tmp_path / "run" / "data.json").read_text("utf-8"))
    assert [problem["row"] for problem in data["problems"]] == [5, 6, 7, 8, 9, 10, 11]
    files = [file for file in (tmp_path / "run").rglob("*") if file.is_file()]
    assert {"data.json", "log.txt", "metrics.jsonl"} <= {file.name for file in files}
    assert [file for file in files if marked(file.read_bytes().decode("utf-8", "replace"))] == []
