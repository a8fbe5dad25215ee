"""One whole day's work by the functions behind the commands, on a run of two updates."""

import json
from pathlib import Path

import pytest

import mentallama_jax as mj
from mentallama_jax.generation.engine import Settings
from mentallama_jax.jobs.answer import answer, open_answerer, questions_about, questions_in
from mentallama_jax.jobs.audit_data import audit
from mentallama_jax.jobs.export import export
from mentallama_jax.jobs.finished_run import FinishedRun


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    place = tmp_path_factory.mktemp("whole_job") / "run"
    training = {"run_dir": place, "epochs": None, "steps": 2}
    return mj.train(
        "toy", training=training, data={"max_rows": 40}, evaluation={"generate_rows": 0, "metric": "validation_loss"}
    )


def test_from_a_run_to_scores_and_an_export(run: FinishedRun, tmp_path: Path) -> None:
    assert run.steps == run.best_step == 2
    assert {"config", "metrics", "checkpoints", "tokenizer"} <= run.paths.keys()
    assert {line["kind"] for line in run.metrics} == {"train", "validation"}
    answerer = open_answerer(str(run.run_dir))
    questions = questions_in(["sample:test"], datasets=["DR"])
    settings = Settings(max_new_tokens=4)
    first = answer(answerer, questions, tmp_path / "predictions.jsonl", settings)
    again = answer(answerer, questions, tmp_path / "again.jsonl", settings)  # the engine holds its weights
    assert [row.generated_text for row in first] == [row.generated_text for row in again]
    labels = answer(answerer, questions, tmp_path / "labels.jsonl", settings, score_labels=True)
    assert {row.finish for row in labels} == {"label"}
    scored = mj.evaluate(tmp_path / "labels.jsonl", out=tmp_path / "scores")
    assert scored.paths[0] == tmp_path / "scores" / "scores.json"
    assert json.loads(scored.paths[0].read_text())["datasets"].keys() == {"DR"}
    exported = export(str(run.run_dir), tmp_path / "exported")
    assert exported.what == "checkpoint of step 2"
    assert exported.size == sum(path.stat().st_size for path in (tmp_path / "exported").iterdir())
    one = questions_about("I slept well.", "DR")
    (batch,) = answerer.answers(one.records, settings)
    assert batch[0].new_tokens <= 4


def test_a_run_is_named_as_the_tokenizer_of_an_audit(run: FinishedRun) -> None:
    by_run, by_name = (audit(["sample:test"], tokenizer=name, max_length=256) for name in (str(run.run_dir), "sample"))
    assert by_run.lengths == by_name.lengths
    assert by_run.padding == by_name.padding is not None
