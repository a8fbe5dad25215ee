"""Training from Python: what becomes of changes, and what a run that ended tells."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mentallama_jax as mj
from mentallama_jax.config import RunConfig, load_config
from mentallama_jax.errors import UserError
from mentallama_jax.training.loop import TrainResult

TOY = Path(__file__).resolve().parents[2] / "configs" / "toy.yaml"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[RunConfig]:
    """The configs that runs are begun with; nothing is trained."""
    found: list[RunConfig] = []

    def tune(config: RunConfig, **options: Any) -> TrainResult:
        found.append(config)
        return TrainResult(tmp_path, 3, 8, "SIGINT", None, 1)

    monkeypatch.setattr("mentallama_jax.jobs.tune.tune", tune)
    return found


def test_changes_come_by_section_or_by_key(trained: list[RunConfig]) -> None:
    words = [
        "training.steps=3",
        'training.run_dir="a folder: #1"',
        "optimizer.learning_rate=1e-7",
        "data.train=[sample]",
    ]
    expected = load_config(TOY, [*words, "adapter=null"])
    values = {
        "training": {"steps": 3, "run_dir": Path("a folder: #1")},
        "optimizer": {"learning_rate": np.float32(1e-7)},
    }
    by_section = {"data": {"train": ["sample"]}, "adapter": None}
    mj.train(TOY, **values, **by_section)
    mj.train(
        "toy",
        **{"training.steps": 3, "training.run_dir": "a folder: #1"},
        optimizer={"learning_rate": 1e-7},
        **by_section,
    )
    mj.train(load_config(TOY), **values, **by_section)
    mj.train(expected)
    mj.train(expected.model_dump(mode="json"))
    assert trained[0].optimizer.learning_rate == pytest.approx(1e-7)
    assert [each.training for each in trained] == [expected.training] * 5
    assert trained[1] == trained[3] == trained[4] == expected


def test_task_files_come_besides_those_of_the_config(trained: list[RunConfig]) -> None:
    own = {"data": {"tasks": ["of-the-config.yaml"]}}
    for given in ("mine.yaml", Path("mine.yaml"), ["mine.yaml"], ["mine.yaml", "of-the-config.yaml"]):
        mj.train("toy", tasks=given, **own)
        assert trained.pop().data.tasks == ("of-the-config.yaml", "mine.yaml")


def test_a_change_of_steps_replaces_the_epochs_of_a_config(trained: list[RunConfig]) -> None:
    mj.train(load_config(TOY), training={"steps": 2})
    assert (trained[0].training.steps, trained[0].training.epochs) == (2, None)


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (TOY, {"training": {"step": 3}}, r"unknown key training\.step; did you mean training\.steps"),
        (TOY, {"training": {"steps": {1, 2}}}, r"training\.steps: set is no value of a config"),
        (TOY, {"training": {"steps": float("nan")}}, r"training\.steps: float is no value"),
        (3, {}, "not int"),
        ("toyy", {}, "did you mean toy"),
        ({"model": {}}, {}, "config: "),
    ],
)
def test_what_is_no_config_is_refused(config: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        mj.train(config, **changes)


def test_a_run_tells_how_it_ended(trained: list[RunConfig], tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"kind": "train", "step": 1, "loss": 2.5}\n')
    run = mj.train(TOY)
    assert repr(run) == f"<FinishedRun {tmp_path}: stopped after 3 of 8 updates>"
    assert run.stopped
    assert run.best_step is None
    assert run.metrics == [{"kind": "train", "step": 1, "loss": 2.5}]
    assert run.to_pandas().loc[0, "loss"] == 2.5
    assert run.paths == {"metrics": tmp_path / "metrics.jsonl"}
