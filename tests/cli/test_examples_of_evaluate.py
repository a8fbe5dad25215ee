"""The examples of `evaluate --help` run, on stand-ins of the files that they name."""

import json
import shlex
from pathlib import Path

import pytest

from mentallama_jax.cli import evaluate_command
from mentallama_jax.cli.main import main
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.predictions import answer_to, label_answer

LEFT_OUT = ("--metrics", "--classifiers", "results/my_model")
EXAMPLES = [
    line.strip().split("  ")[0]
    for line in evaluate_command._EPILOG.splitlines()
    if line.strip().startswith("mentallama") and not any(word in line for word in LEFT_OUT)
]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sandbox")
    records = read_records(["sample:test"]).records[::3]
    for number, name in enumerate(("predictions", "base", "tuned", "seed0", "seed1", "seed2")):
        answers = [answer_to(row, row.task.sentences[row.task.labels[number % 2]]) for row in records]
        text = "".join(answer.to_line() for answer in answers) + "\n" * number
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    for name, part in (("test", records), ("validation", read_records(["sample:val"]).records)):
        scored = [label_answer(row, [-1.0 - place for place in range(len(row.task.labels))]) for row in part]
        (folder / f"{name}.jsonl").write_text("".join(row.to_line() for row in scored), encoding="utf-8")
    (folder / "DR_llama3.csv").write_text("answer,output\nyes,Yes.\nno,Yes.\n")
    (folder / "model_output").mkdir()
    (folder / "model_output" / "DR.csv").write_text("goldens,generated_text\nyes,Yes.\nno,No.\n")
    (folder / "data" / "imhi").mkdir(parents=True)
    row = {"id": "DR/test/1", "dataset": "DR", "post": "A post.", "label": "no", "split": "test"}
    (folder / "data" / "imhi" / "rows.jsonl").write_text(json.dumps(row) + "\n")
    body = {"choices": [{"message": {"content": "No."}}]}
    batch = {"custom_id": "DR/test/1", "response": {"status_code": 200, "body": body}}
    (folder / "batch_output.jsonl").write_text(json.dumps(batch) + "\n")
    return folder


def test_most_examples_are_run() -> None:
    assert len(EXAMPLES) >= 8


@pytest.mark.parametrize("command", EXAMPLES)
def test_an_example_runs(
    command: str, sandbox: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(sandbox)
    assert main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
