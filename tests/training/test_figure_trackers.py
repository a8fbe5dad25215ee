"""Figures sent to trackers that stand in for the real ones: what is sent, and that no failure reaches the run."""

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mentallama_jax.config import load_config
from mentallama_jax.errors import UserError
from mentallama_jax.training.run.figure_trackers import FigureSender, sending_figures_to, shown_settings
from mentallama_jax.training.run.metrics import MetricsLog, read_metrics

SECRET = "zanzibar"
CONFIG = load_config(
    Path(__file__).resolve().parents[2] / "configs" / "toy.yaml",
    [f"training.run_dir=/home/{SECRET}", f"data.train=[{SECRET}.jsonl]", f"model.revision={SECRET}"],
)


class FakeWandb(ModuleType):
    """Keeps what it is told; `broken` raises, `slow` waits for ever."""

    def __init__(self, broken: str = "", slow: bool = False) -> None:
        super().__init__("wandb")
        self.broken, self.told, self.begun, self.ended = broken, [], [], 0
        self.wait = threading.Event()
        self.slow = slow
        self.run = None

    def init(self, **options: Any) -> "FakeWandb":
        if self.broken == "init":
            raise RuntimeError(f"key {SECRET} was refused")
        self.begun.append(options | {"console": os.environ["WANDB_CONSOLE"]})
        return self

    @property
    def id(self) -> str:
        return "w1"

    def log(self, figures: dict[str, float], step: int) -> None:
        if self.slow:
            self.wait.wait()
        if self.broken == "log":
            raise SystemExit(1)
        self.told.append((step, figures))

    def finish(self) -> None:
        self.ended += 1


class FakeMlflow(ModuleType):
    """The part of MLflow that is used; it is its own client."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.calls: list[tuple[Any, ...]] = []
        self.active: Any = None

    def MlflowClient(self) -> "FakeMlflow":
        return self

    def active_run(self) -> Any:
        return self.active

    def get_experiment_by_name(self, name: str) -> None:
        self.calls.append(("experiment?", name))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            self.calls.append((name, *given, *named.values()))
            return SimpleNamespace(info=SimpleNamespace(run_id="m1"))

        return call


@pytest.fixture
def said() -> list[str]:
    return []


def send(names: list[str], kept: Path, said: list[str], patience: float = 20.0, first: int = 1) -> None:
    with sending_figures_to(names), FigureSender("toy", CONFIG, kept, said.append, patience) as sender:
        sender.send("train", first, {"loss": 2.5})
        sender.send("validation", first, {"loss": 3.0})


def test_wandb_is_told_the_figures_and_goes_on_with_its_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: list[str]
) -> None:
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    send(["wandb"], tmp_path / "trackers.json", said)
    send(["wandb"], tmp_path / "trackers.json", said, first=2)
    figures = [(1, {"train/loss": 2.5}), (1, {"validation/loss": 3.0})]
    assert wandb.told == [*figures, *((2, of) for _, of in figures)]
    assert [each["id"] for each in wandb.begun] == [None, "w1"]
    assert wandb.begun[0]["name"] == "toy"
    assert wandb.begun[0]["console"] == "off"
    assert wandb.begun[0]["config"]["optimizer.learning_rate"] == CONFIG.optimizer.learning_rate
    assert (wandb.ended, said) == (2, [])
    assert SECRET not in json.dumps(wandb.begun)


def test_a_run_that_the_program_began_itself_is_used_and_left_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: list[str]
) -> None:
    wandb, mlflow = FakeWandb(), FakeMlflow()
    wandb.run = wandb
    mlflow.active = SimpleNamespace(info=SimpleNamespace(run_id="own"))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    send(["wandb", "mlflow"], tmp_path / "trackers.json", said)
    assert (wandb.begun, wandb.ended, len(wandb.told)) == ([], 0, 2)
    assert mlflow.calls == [
        ("log_metric", "own", "train/loss", 2.5, 1),
        ("log_metric", "own", "validation/loss", 3.0, 1),
    ]
    assert json.loads((tmp_path / "trackers.json").read_text()) == {"wandb": "w1", "mlflow": "own"}


def test_mlflow_is_told_the_figures_and_goes_on_with_its_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: list[str]
) -> None:
    mlflow = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    send(["mlflow"], tmp_path / "trackers.json", said)
    first = list(mlflow.calls)
    assert first[:2] == [("experiment?", "mentallama"), ("create_experiment", "mentallama")]
    assert ("log_param", "m1", "optimizer.learning_rate", CONFIG.optimizer.learning_rate) in first
    assert first[-3:] == [
        ("log_metric", "m1", "train/loss", 2.5, 1),
        ("log_metric", "m1", "validation/loss", 3.0, 1),
        ("set_terminated", "m1"),
    ]
    assert SECRET not in str(first)
    send(["mlflow"], tmp_path / "trackers.json", said, first=2)
    assert mlflow.calls[len(first)] == ("update_run", "m1", "RUNNING")
    assert said == []


@pytest.mark.parametrize("broken", ["init", "log"])
def test_a_tracker_that_fails_is_given_up_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: list[str], broken: str
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(broken))
    monkeypatch.setitem(sys.modules, "mlflow", mlflow := FakeMlflow())
    send(["wandb", "mlflow"], tmp_path / "trackers.json", said)
    kind = {"init": "RuntimeError", "log": "SystemExit"}[broken]
    assert said == [f"warning: no more figures are sent to wandb ({kind}); metrics.jsonl has all of them"]
    assert mlflow.calls[-1] == ("set_terminated", "m1")


def test_a_tracker_that_hangs_keeps_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: list[str]) -> None:
    wandb = FakeWandb(slow=True)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    send(["wandb"], tmp_path / "trackers.json", said, patience=0.05)
    assert len(said) == 1
    assert "had not taken all of them" in said[0]
    wandb.wait.set()


def test_a_damaged_note_of_names_begins_a_new_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: list[str]
) -> None:
    (tmp_path / "trackers.json").write_text('{"wandb": ')
    monkeypatch.setitem(sys.modules, "wandb", wandb := FakeWandb())
    send(["wandb"], tmp_path / "trackers.json", said)
    assert wandb.begun[0]["id"] is None
    assert said == []


def test_nothing_is_begun_where_no_tracker_is_asked_for(tmp_path: Path, said: list[str]) -> None:
    with FigureSender("toy", CONFIG, tmp_path / "trackers.json", said.append) as sender:
        sender.send("train", 1, {"loss": 2.5})
    assert list(tmp_path.iterdir()) == []


def test_trackers_that_are_not_there_are_refused_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with (
        pytest.raises(UserError, match="wandb is not installed here: pip install wandb"),
        sending_figures_to(["wandb"]),
    ):
        pass
    with pytest.raises(UserError, match="no such tracker; there are: wandb, mlflow"), sending_figures_to(["comet"]):
        pass


def test_settings_hold_what_is_chosen_and_nothing_that_is_spelt() -> None:
    found = shown_settings(CONFIG)
    assert found["data.style"] == CONFIG.data.style
    assert found["objective.kind"] == "supervised"
    assert SECRET not in str(found)
    assert not any(key.startswith(("model.source", "data.train", "training.run_dir")) for key in found)


def test_what_is_logged_is_sent_once_it_is_written(tmp_path: Path) -> None:
    told: list[tuple[str, int, dict[str, float]]] = []
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path, tmp_path / "events", 0, evaluated=False, also=lambda *each: told.append(each)) as log:
        log.write("train", 1, {"loss": 2.5})
    assert told == [("train", 1, {"loss": 2.5})]
    assert [row["step"] for row in read_metrics(path)] == [1]
