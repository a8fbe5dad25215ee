"""`mentallama quickstart`: every step runs, the verdict follows from the scores, and the toy learns."""

import json
from pathlib import Path

import pytest

from mentallama_jax.cli import quickstart_command as quickstart
from mentallama_jax.cli.main import main
from mentallama_jax.config import load_config
from mentallama_jax.files import read_jsonl, write_json

SMALL = ["training.epochs=null", "training.steps=2", "training.compile_cache_dir=null", "data.max_rows=40"]
CHEAP = [
    "training.batch_size=4",
    "training.micro_batch_rows=1",
    "evaluation.generate_rows=2",
    "evaluation.max_new_tokens=8",
    "data.max_length=256",
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Away from the clone, where configs/ is not at hand."""
    monkeypatch.chdir(tmp_path)


def scores(folder: Path, f1: float, interval: tuple[float, float], majority: float = 0.2) -> None:
    pooled = {"posts": 90, "weighted_f1": f1, "weighted_f1_interval": interval, "majority_weighted_f1": majority}
    write_json(folder / "scores.json", {"datasets": {}, "pooled": pooled, "signature": {"of": str(folder)}})


def test_every_step_runs_and_two_updates_are_not_called_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(
        quickstart, "_ANSWERS", ("--data", "sample:test", "--max-new-tokens", "8", "--batch-size", "64")
    )
    assert main(["quickstart", "--seeds", "1", "--out", "small run", *SMALL, *CHEAP]) == 1
    run_dir = tmp_path / "small run" / "seed0"
    for name in ("config.json", "metrics.jsonl", "loss.png", "predictions.jsonl", "scores.json", "export/config.json"):
        assert (run_dir / name).is_file(), name
    assert list(read_jsonl(run_dir / "predictions.jsonl")) == list(
        read_jsonl(run_dir / "export_again/predictions.jsonl")
    )
    assert json.loads((tmp_path / "small run" / "scores.json").read_text())["pooled"]["n"] == 115
    printed = capsys.readouterr().out
    shown = [line.split()[2] for line in printed.splitlines() if line.startswith("$ mentallama ")]
    assert shown == ["train", "generate", "evaluate", "export", "generate", "evaluate", "evaluate"]
    assert "majority" in printed
    assert "[/]" not in printed  # markup is drawn, not shown
    first = printed.index("First result")
    assert printed.index("Correctness in %") < first < printed.index("export_again")
    assert f"exported model: {Path('small run/seed0/export')}" in printed
    assert "Not learned" in printed
    assert "scores as its run did" in printed
    assert "research only" in printed

    assert main(["quickstart", "--out", "small run"]) == 2
    assert "finished quickstart" in capsys.readouterr().err


@pytest.mark.parametrize(("low", "learned"), [(0.21, True), (0.2, False), (0.19, False)])
def test_learned_means_that_the_lower_end_is_above_the_majority_class(
    tmp_path: Path, low: float, learned: bool, capsys: pytest.CaptureFixture
) -> None:
    from rich.console import Console

    scores(tmp_path, 0.5, (low, 0.6))
    assert quickstart._show_verdict(tmp_path, [tmp_path], True, Console(soft_wrap=True)) is learned
    assert f"50.0 (95 % interval {100 * low:.1f} to 60.0; by seed 50.0); majority class 20.0" in capsys.readouterr().out


def test_the_first_seed_is_shown_whole_before_the_second_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    shown_before: list[str] = []
    tables: list[str] = []

    def pretend(command: list[str], _: object, quiet: bool = False) -> int:
        if command[0] == "evaluate":
            scores(Path(command[-1]), 0.5, (0.4, 0.6))
            tables.extend([] if quiet else [command[-1]])
        if command[0] == "train":
            shown_before.append(capsys.readouterr().out)
        return 0

    monkeypatch.setattr(quickstart, "_run", pretend)
    monkeypatch.setattr(quickstart, "_show_answer", lambda *_: None)
    out = tmp_path / "out"
    assert main(["quickstart", "--out", str(out), "--seeds", "2"]) == 0
    assert "First result" not in shown_before[0]
    assert "weighted F1 50.0 (95 % interval 40.0 to 60.0), majority class 20.0" in shown_before[1]
    assert f"exported model: {out / 'seed0' / 'export'}" in shown_before[1]
    assert "First result" not in capsys.readouterr().out
    assert tables == [str(out / "seed0"), str(out)]


@pytest.mark.parametrize(("again", "status"), [(0.5, 0), (0.4, 1)])
def test_an_export_that_scores_otherwise_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: float, status: int
) -> None:
    def pretend(command: list[str], *_: object) -> int:
        if command[0] == "evaluate":
            folder = Path(command[-1])
            scores(folder, again if folder.name == "export_again" else 0.5, (0.4, 0.6))
        return 0

    monkeypatch.setattr(quickstart, "_run", pretend)
    monkeypatch.setattr(quickstart, "_show_answer", lambda *_: None)
    assert main(["quickstart", "--out", str(tmp_path / "out")]) == status


def test_a_step_that_stops_stops_the_quickstart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quickstart, "_run", lambda command, *_: 75 if command[0] == "train" else pytest.fail("went on"))
    assert main(["quickstart"]) == 75


def test_a_finished_folder_is_left_alone_and_a_stopped_one_gone_on_with(tmp_path: Path) -> None:
    assert quickstart._folder(None) == Path("runs/quickstart")
    (tmp_path / "runs" / "quickstart").mkdir(parents=True)
    assert quickstart._folder(None) == Path("runs/quickstart")
    scores(tmp_path / "runs" / "quickstart", 0.5, (0.4, 0.6))
    assert quickstart._folder(None) == Path("runs/quickstart-2")


def test_the_config_is_the_shipped_one_in_a_clone_and_the_packaged_one_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packaged = load_config(quickstart._config())
    clone = Path(__file__).resolve().parents[2]
    monkeypatch.chdir(clone)
    assert quickstart._config() == Path("configs/toy.yaml")
    assert load_config("configs/toy.yaml") == packaged


@pytest.mark.parametrize("path", ["runs/quickstart/seed0", "a: b/seed0", "a #b/seed0", "1e3", "null", "[x"])
def test_a_path_survives_being_an_override(path: str) -> None:
    config = load_config(quickstart._config(), [f"training.run_dir={quickstart._as_yaml(path)}"])
    assert config.training.run_dir == path


@pytest.mark.parametrize("wrong", [["--seeds", "0"], ["training.seed=1"], ["training.run_dir=x"], ["training.epoch=1"]])
def test_wrong_use_is_told_before_anything_is_done(
    wrong: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["quickstart", *wrong]) == 2
    assert " ".join(wrong).split("=")[0] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_toy_learns() -> None:
    assert main(["quickstart"]) == 0
