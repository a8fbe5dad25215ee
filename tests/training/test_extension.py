"""A run can be made longer on request; what that does to the schedule is said and recorded."""

import json
from pathlib import Path

import pytest

from mentallama_jax.config import parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.training.run.run_directory import RunDirectory

FACTS = {"fingerprints": {"train": "a"}}


class NoTokenizer:
    def save(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)


def with_a_checkpoint(run: RunDirectory) -> None:
    folder = run.checkpoints / "00000004"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"step": 4, "scores": {}, "files": {}}))


def prepare(path: Path, *, extend: bool = False, **length: float) -> list[str]:
    values = {"model": {"source": "toy"}, "data": {"train": ["sample"]}}
    config = parse_config(values | {"training": {"run_dir": str(path), **length}}, "test")
    run, said = RunDirectory(path, extend=extend), []
    with run.locked():
        run.prepare(config, PRESETS["toy"], FACTS, NoTokenizer(), said.append)
    return said


@pytest.fixture
def run(tmp_path: Path) -> Path:
    prepare(tmp_path / "run", steps=60)
    with_a_checkpoint(RunDirectory(tmp_path / "run"))
    return tmp_path / "run"


def test_without_the_option_it_is_refused_and_named(run: Path) -> None:
    with pytest.raises(UserError, match=r"training\.steps was 60, is 80.*--extend goes on for more updates"):
        prepare(run, steps=80)


def test_an_extension_is_said_and_recorded_and_the_run_is_resumed_as_usual(run: Path) -> None:
    said = prepare(run, extend=True, steps=80)
    assert any("from 60 to 80 steps after update 4" in line and "rises again" in line for line in said)
    (record,) = json.loads((run / "data.json").read_text())["extensions"]
    assert (record["unit"], record["was"], record["is"], record["after_update"]) == ("training.steps", 60, 80, 4)
    assert json.loads((run / "config.json").read_text())["training"]["steps"] == 80
    assert prepare(run, steps=80) == []
    prepare(run, extend=True, steps=100)
    assert [each["is"] for each in json.loads((run / "data.json").read_text())["extensions"]] == [80, 100]


@pytest.mark.parametrize(
    ("length", "message"),
    [({"steps": 40}, "40 is less than the 60"), ({"epochs": 3}, r"counts steps \(60\); give more of them")],
)
def test_what_is_no_extension_is_refused(run: Path, length: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepare(run, extend=True, **length)
    assert json.loads((run / "config.json").read_text())["training"]["steps"] == 60


def test_there_must_be_a_run_and_nothing_else_may_change(tmp_path: Path, run: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint of a run to extend"):
        prepare(tmp_path / "other", extend=True, steps=80)
    with pytest.raises(UserError, match=r"training\.seed was 0, is 1"):
        prepare(run, extend=True, steps=80, seed=1)
    assert json.loads((run / "config.json").read_text())["training"]["steps"] == 60
