"""The package as it is imported: its names, without jax until one needs it, and one whole day's work by them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from child_processes import cpu_environment

import mentallama_jax as mj

SAMPLE_CONFIG = Path(__file__).resolve().parents[2] / "configs" / "toy.yaml"


def imported_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=cpu_environment()
    )
    return set(done.stdout.splitlines()[-1].split())


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert not {"jax", "numpy", "torch", "transformers"} & imported_by("import mentallama_jax, mentallama_jax.errors")


@pytest.mark.parametrize("name", ["score", "audit"])
def test_what_needs_no_device_imports_no_jax(name: str) -> None:
    assert "jax" not in imported_by(f"import mentallama_jax as mj; mj.{name}")


@pytest.mark.parametrize("name", mj.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    assert getattr(mj, name).__doc__
    assert name in dir(mj)


def test_another_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'tun'"):
        _ = mj.tun  # type: ignore[attr-defined]


def test_from_config_to_scores_and_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    changes = ["training.run_dir=run", "training.epochs=null", "training.steps=2", "data.max_rows=40"]
    result = mj.tune(mj.load_config(SAMPLE_CONFIG, changes))
    assert result.steps == 2
    answerer = mj.open_answerer("run")
    questions = mj.questions_in(["sample:test"], datasets=["DR"])
    settings = mj.Settings(max_new_tokens=4)
    first = mj.answer(answerer, questions, "predictions.jsonl", settings)
    again = mj.answer(answerer, questions, "again.jsonl", settings)  # the engine holds its weights
    assert [row.generated_text for row in first] == [row.generated_text for row in again]
    labels = mj.answer(answerer, questions, "labels.jsonl", settings, score_labels=True)
    assert {row.finish for row in labels} == {"label"}
    scored = mj.score(["labels.jsonl"], "scores")
    assert json.loads(Path("scores/scores.json").read_text())["datasets"].keys() == {"DR"}
    assert scored.paths[0] == Path("scores/scores.json")
    exported = mj.export("run", "exported")
    assert exported.what == "checkpoint of step 2"
    assert exported.size == sum(path.stat().st_size for path in Path("exported").iterdir())
    one = mj.questions_about("I slept well.", "DR")
    (batch,) = answerer.answers(one.records, settings)
    assert batch[0].new_tokens <= 4


def test_a_run_is_named_as_the_tokenizer_of_an_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    changes = ["training.run_dir=run", "training.epochs=null", "training.steps=1", "data.max_rows=20"]
    mj.tune(mj.load_config(SAMPLE_CONFIG, changes))
    by_run, by_name = (mj.audit(["sample:test"], tokenizer=name, max_length=256) for name in ("run", "sample"))
    assert by_run.lengths == by_name.lengths
    assert by_run.padding == by_name.padding is not None
