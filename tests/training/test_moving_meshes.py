"""A run that moves from one mesh of devices to another."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from child_processes import cpu_environment

from mentallama_jax.jobs.tune import tune
from mentallama_jax.training.run.metrics import read_metrics

ROOT = Path(__file__).resolve().parents[2]
TRAIN = "import sys; from mentallama_jax.cli.main import main; sys.exit(main())"
STOP_AFTER_FIVE = """
import os, signal
from mentallama_jax.training import loop
place, calls = loop.place_batch, []
def place_and_stop(*arguments):
    calls.append(1)
    if len(calls) == 5:
        os.kill(os.getpid(), signal.SIGTERM)
    return place(*arguments)
loop.place_batch = place_and_stop
"""


@pytest.mark.long
def test_a_run_goes_on_upon_another_mesh(tiny_values, tiny_config, tmp_path, capsys):
    """Eight devices, then eight cut otherwise, then one: the losses are those of one device all along."""

    def go_until_stopped(**mesh):
        config = tmp_path / "config.yaml"
        config.write_text(json.dumps(tiny_values(tmp_path / "moving", mesh=mesh)))
        command = [sys.executable, "-c", STOP_AFTER_FIVE + TRAIN, "train", str(config)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=cpu_environment(8), check=False)

    def losses(run_dir):
        rows = read_metrics(tmp_path / run_dir / "metrics.jsonl")
        return [
            (row["kind"], row["step"], row.get("real_tokens"), row.get("loss", row.get("validation_loss")))
            for row in rows
        ]

    first = go_until_stopped(data=2, fsdp=2, tensor=2)
    assert "stopped after update 5 of 12" in first.stdout, first.stderr
    second = go_until_stopped(fsdp=4, sequence=2)
    assert "stopped after update 10 of 12" in second.stdout, second.stderr
    capsys.readouterr()
    tune(tiny_config(tmp_path / "moving"))
    assert "resuming after update 10 of 12" in capsys.readouterr().err
    tune(tiny_config(tmp_path / "still"))
    expected, moved = losses("still"), losses("moving")
    assert [row[:3] for row in moved] == [row[:3] for row in expected]
    assert [row[3] for row in moved] == pytest.approx([row[3] for row in expected], rel=1e-5)


def test_more_devices_than_rows_is_one_clear_line(tiny_values, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(tiny_values(tmp_path / "run")))
    command = [sys.executable, "-c", TRAIN, "train", str(config)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=cpu_environment(8), check=False)
    assert done.returncode != 0
    assert "micro_batch_rows" in done.stderr
    assert "fsdp 8" in done.stderr
    assert "Traceback" not in done.stderr
