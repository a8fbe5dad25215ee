"""Transfer matrices: the figures by hand, and the command from a config to the pages."""

import json
from pathlib import Path

import pytest

from mentallama_jax.cli.generation_progress import GenerationProgress
from mentallama_jax.cli.main import main
from mentallama_jax.config import load_config
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.correctness import evaluate
from mentallama_jax.evaluation.reading import read_predictions
from mentallama_jax.evaluation.reports.markdown import markdown_text
from mentallama_jax.evaluation.reports.sections_on_transfer import figures_table, transfer_document
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.evaluation.system_predictions import Predictions
from mentallama_jax.evaluation.transfer_matrix import transfer_matrix
from mentallama_jax.files import write_jsonl
from mentallama_jax.imhi.predictions import Prediction, answer_to
from mentallama_jax.imhi.records import Record
from mentallama_jax.jobs.answer import questions_in
from mentallama_jax.jobs.transfer import transfer

ROOT = Path(__file__).resolve().parents[2]


def answered(tmp_path: Path, right: dict[str, int]) -> Predictions:
    """Ten answers of each data set, so many of them right; the others state nothing."""
    rows = []
    for dataset, count in right.items():
        for n in range(10):
            record = Record(f"{dataset}{n}", dataset, f"post {n}", "yes")
            rows.append(answer_to(record, record.task.sentences["yes"] if n < count else "Hm."))
    path = tmp_path / "x.jsonl"
    write_jsonl(path, (row.to_json() for row in rows))
    return read_predictions(path)


def test_a_matrix_has_the_figures_of_evaluate_and_marks_what_was_trained_on(tmp_path: Path) -> None:
    settings = IntervalSettings()
    found = {
        name: evaluate(answered(tmp_path, right), reader="templates+words", settings=settings)
        for name, right in {"DR": {"DR": 10, "dreaddit": 5}, "both": {"DR": 8, "dreaddit": 10}}.items()
    }
    trained_on = {"DR": ["DR"], "both": ["DR", "dreaddit"]}
    matrix = transfer_matrix(found, trained_on, ["dreaddit", "DR"], 0.95, {"model": "m"})
    cell = matrix.cells["DR"]["dreaddit"]
    scores = found["DR"].datasets["dreaddit"]
    assert (cell.weighted_f1, cell.weighted_f1_interval) == (scores.weighted_f1, scores.weighted_f1_interval)
    assert (cell.own, cell.rows, cell.unparsed, cell.majority_weighted_f1) == (False, 10, 5, 1.0)
    assert matrix.means("DR") == (1.0, pytest.approx(2 / 3))  # F1 of 5 hits, 5 predicted, 10 gold
    assert matrix.means("both") == (pytest.approx((1 + 8 / 9) / 2), None)
    table = figures_table(matrix)
    assert table.header == ("trained on", "dreaddit", "DR", "mean, own", "mean, others")
    assert [row[0] for row in table.rows] == ["DR", "both", "majority of the test rows"]
    assert table.rows[0][1].startswith("66.7 (")
    assert table.rows[0][2].startswith("100.0* (")
    text = markdown_text(transfer_document(matrix))
    assert "| DR | 50.0 | 0.0 |" in text
    assert json.loads(json.dumps(matrix.to_json()))["cells"]["both"]["DR"]["own"] is True


@pytest.mark.long
def test_the_command_trains_answers_and_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)  # caches of compiled programs, and the sample as the config names it
    out = tmp_path / "out"
    changes = ["training.epochs=null", "training.steps=1", "evaluation.generate_rows=0", "data.max_length=160"]
    changes += ["training.batch_size=4", "training.micro_batch_rows=1"]
    command = ["transfer", "configs/toy.yaml", *changes, "evaluation.metric=validation_loss", "--data", "sample:test"]
    command += ["--datasets", "SAD", "reddit", "--score-labels", "--max-rows", "6", "--out", str(out)]
    monkeypatch.setenv("COLUMNS", "60")
    watched: list[Prediction] = []
    monkeypatch.setattr(GenerationProgress, "add", lambda progress, rows: watched.extend(rows))
    assert main(command) == 0
    assert len(watched) == 24  # the bar of each model saw its answers
    shown = capsys.readouterr()
    assert "SAD: training on SAD" in shown.err
    assert "Weighted F1 in %, 95 % intervals over posts; * trained on\n" in shown.out
    table = shown.out.split("trained on\n", 1)[1].splitlines()
    assert max(len(line) for line in table if not line.endswith(" written")) <= 60
    values = json.loads((out / "transfer.json").read_text())
    assert (values["trained_on"], values["metric"]) == ({"SAD": ["SAD"], "DR": ["DR"]}, "weighted_f1")
    for name in ("SAD", "DR"):
        rows = read_predictions(out / "predictions" / f"{name}.jsonl").rows
        assert len(rows) == 12
        config = json.loads((out / "runs" / name / "config.json").read_text())
        assert config["data"]["datasets"] == [name]
        assert config["data"]["drop_posts_in"] == ["sample:test"]
        assert values["cells"][name]["SAD"]["rows"] == 6
        assert {test: cell["own"] for test, cell in values["cells"][name].items()} == {
            test: test == name for test in ("SAD", "DR")
        }
    files = {path: path.read_bytes() for path in out.rglob("*") if path.name in ("metrics.jsonl", "report.html")}
    (out / "predictions" / "DR.jsonl").unlink()
    (out / "predictions" / "DR.meta.json").unlink()
    assert main(command) == 0
    assert json.loads((out / "transfer.json").read_text()) == values
    assert files == {path: path.read_bytes() for path in files}
    assert len(files) == 3


def test_what_cannot_be_a_matrix_is_one_line(tmp_path: Path) -> None:
    questions = questions_in(["sample:test"], datasets=["DR"])
    classifier, toy = (load_config(ROOT / "configs" / f"{name}.yaml") for name in ("classifier-toy", "toy"))
    with pytest.raises(UserError, match="a classifier has the labels of its own data sets and answers no other"):
        transfer(classifier, ["DR", "SAD"], questions, tmp_path)
    with pytest.raises(UserError, match="--together: name at least two data sets"):
        transfer(toy, ["DR", "reddit"], questions, tmp_path, together=True)
    with pytest.raises(UserError, match="unknown data set 'DRR'"):
        transfer(toy, ["DRR"], questions, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file; give a folder to --out"):
        transfer(toy, ["DR"], questions, tmp_path / "file")
    assert not (tmp_path / "runs").exists()
