"""What of the benchmark is missing is said where data are looked at and where they are trained on."""

from pathlib import Path

import pytest

from mentallama_jax.cli.main import main
from mentallama_jax.config import parse_config
from mentallama_jax.imhi.missing_rows import chosen_datasets, is_bundled, missing_rows
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.training.data import examples

SIZES = {name: task.sizes[0] for name, task in TASKS.items() if task.sizes}


def test_nothing_is_said_where_nothing_is_missing() -> None:
    assert missing_rows(SIZES, "train") is None
    assert missing_rows({"DR": 1003}, "train", ["DR"]) is None
    assert missing_rows({"DR": 2000}, "train", ["DR"]) is None


def test_absent_data_sets_and_rows_are_named() -> None:
    assert sum(SIZES.values()) == 72_093
    three = {name: SIZES[name] for name in ("DR", "dreaddit", "SAD")}
    said = missing_rows(three, "train")
    assert said is not None
    assert said.startswith("9,387 of the 72,093 training rows: without CLP, ")
    assert not any(name in said for name in three)
    assert missing_rows({"DR": 40}, "test", ["DR"]) == "40 of the 405 test rows: DR 40 of 405"


def test_what_the_config_leaves_out_is_not_missing() -> None:
    assert chosen_datasets(["all"], ["dreaddit"]) == [name for name in TASKS if name != "dreaddit"]
    assert chosen_datasets(["dr", "SAD"]) == ["DR", "SAD"]
    assert is_bundled(["sample", "sample:train"])
    assert not is_bundled(["sample", "data/imhi"])


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [
        f'{{"dataset": "DR", "post": "Post number {i}.", "label": "no", "split": "train", "id": "DR/train/{i}"}}\n'
        for i in range(3)
    ]
    path.write_text("".join(lines))
    return path


def test_data_check_says_so(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "check", str(rows)])
    assert "of the whole benchmark there are 3 of the 72,093 training rows: without CLP" in capsys.readouterr().out
    main(["data", "check", "sample"])
    assert "whole benchmark" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("datasets", "expected"), [("DR", "3 of the 1,003 training rows: DR 3 of 1,003"), ("all", "of the 72,093")]
)
def test_training_says_so(rows: Path, datasets: str, expected: str) -> None:
    values = {
        "model": {"source": "toy"},
        "data": {"train": str(rows), "datasets": datasets},
        "training": {"run_dir": "run", "steps": 1},
    }
    said: list[str] = []
    config = parse_config(values, "test")
    reader = examples._Reader(config, said.append)
    records, _ = examples._training_records(config, reader, said.append, config.data.train, "data.train", [])
    assert len(records) == 3
    assert all(isinstance(record, Record) for record in records)
    assert [line for line in said if line.startswith("data.train: 3 ") and expected in line]


def test_rows_of_tasks_of_ones_own_lack_nothing_of_the_benchmark() -> None:
    assert missing_rows({"sleep": 60}, "train") is None
    assert missing_rows({"sleep": 60, "DR": 40}, "test", ["DR"]) == "40 of the 405 test rows: DR 40 of 405"
