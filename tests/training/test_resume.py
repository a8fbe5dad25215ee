"""Real processes that are stopped, killed and run out of disk, against one that is left alone."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from mentallama_jax.config import load_config
from mentallama_jax.jobs.tune import tune
from mentallama_jax.training.run.manifest import complete_checkpoints
from mentallama_jax.training.run.metrics import read_metrics
from mentallama_jax.training.run.opened_run import load_run

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
UPDATES, EPOCH = 48, 6
COMMAND = "import sys; from mentallama_jax.cli import main; main.COMMANDS = ('train',); sys.exit(main.main())"
CLOCK = ("tokens_per_second",)
LIMIT = 500
"""Seconds that a process may take on a busy machine."""


class Run:
    """A run directory and the processes that work on it, one after the other."""

    def __init__(self, folder: Path, values: dict) -> None:
        self.folder = folder
        self.config = folder.with_suffix(".yaml")
        self.config.write_text(json.dumps(values))  # JSON is YAML

    def start(self, prepare: str = "") -> subprocess.Popen:
        """Start training, after the Python statements of `prepare`."""
        return subprocess.Popen(
            [sys.executable, "-c", prepare + COMMAND, "train", str(self.config)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, prepare: str = "") -> tuple[int, str, str]:
        return outcome(self.start(prepare))

    def interrupt(self, number: signal.Signals, after: int) -> tuple[int, str, str]:
        """Start, and send a signal once `after` updates are logged."""
        process = self.start()
        self.wait_for(after, process)
        process.send_signal(number)
        return outcome(process)

    def wait_for(self, updates: int, process: subprocess.Popen) -> None:
        deadline = time.monotonic() + LIMIT
        while self.updates() < updates and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)

    def updates(self) -> int:
        path = self.folder / "metrics.jsonl"
        return path.read_bytes().count(b'"kind": "train"') if path.exists() else 0

    def figures(self) -> list[dict]:
        """Every line of the metrics, what the clock decides left out, in order; each update must be there once."""
        rows = read_metrics(self.folder / "metrics.jsonl")
        steps = [row["step"] for row in rows if row["kind"] == "train"]
        assert steps == list(range(1, len(steps) + 1))
        return [{key: value for key, value in row.items() if key not in CLOCK} for row in rows]


def outcome(process: subprocess.Popen) -> tuple[int, str, str]:
    """Status, standard output and standard error, once it has ended."""
    try:
        out, err = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
    return process.returncode, out, err


def assert_equal_bit_for_bit(run: Run, other: Run) -> None:
    assert run.figures() == other.figures()
    for which in ("best", "last"):
        mine, theirs = load_run(run.folder, which), load_run(other.folder, which)
        assert mine.checkpoint.step == theirs.checkpoint.step
        assert mine.checkpoint.scores == theirs.checkpoint.scores
        jax.tree.map(np.testing.assert_array_equal, mine.params, theirs.params)


@pytest.fixture(scope="module")
def make_run(tiny_values, tmp_path_factory):
    def make(name: str, **changes) -> Run:
        folder = tmp_path_factory.mktemp(name) / "run"
        sections = {
            "training": {"epochs": UPDATES // EPOCH},
            "evaluation": {"every_steps": 20},
            "checkpoint": {"every_steps": 5, "keep_last": 1},
        }
        return Run(folder, tiny_values(folder, **{**sections, **changes}))

    return make


@pytest.fixture(scope="module")
def undisturbed(make_run) -> Run:
    run = make_run("undisturbed")
    assert tune(load_config(run.config)).best is not None
    assert run.updates() == UPDATES
    return run


def interrupt_and_check(run: Run, number: signal.Signals, name: str, after: int) -> None:
    status, out, err = run.interrupt(number, after)
    assert status == 75, err
    step = complete_checkpoints(run.folder / "checkpoints")[-1].step
    assert step == run.updates() >= after
    assert f"stopped by {name} after update {step} of {UPDATES}; everything is saved" in err
    assert f"to go on: mentallama train {run.config}" in out
    assert "Traceback" not in err


def test_killed_and_terminated_it_ends_bit_for_bit_as_if_left_alone(undisturbed, make_run):
    run = make_run("disturbed")
    kill_after = random.Random(20240607).randint(EPOCH + 1, 3 * EPOCH)
    status, _, _ = run.interrupt(signal.SIGKILL, kill_after)
    reached = run.updates()
    assert status == -signal.SIGKILL
    assert kill_after <= reached < UPDATES

    interrupt_and_check(run, signal.SIGTERM, "SIGTERM", reached + 4)

    stopped_after = run.updates()
    status, out, err = run.finish()
    assert status == 0, err
    assert f"resuming after update {stopped_after} of {UPDATES}" in err
    assert "best checkpoint: update" in out
    assert_equal_bit_for_bit(run, undisturbed)


@pytest.mark.slow
def test_ctrl_c_is_like_sigterm(undisturbed, make_run):
    run = make_run("interrupted")
    interrupt_and_check(run, signal.SIGINT, "Ctrl-C", EPOCH + 2)
    assert run.finish()[0] == 0
    assert_equal_bit_for_bit(run, undisturbed)


@pytest.mark.slow
def test_no_room_for_a_checkpoint_is_one_line_and_with_room_the_run_goes_on(undisturbed, make_run):
    run = make_run("full_disk")
    small_files_only = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000)); "
    status, _, err = run.finish(small_files_only)
    assert status == 2
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "00000005: the checkpoint could not be written" in lines[0]
    assert "make room, then run the same command again" in lines[0]
    assert "Traceback" not in err
    assert complete_checkpoints(run.folder / "checkpoints") == []

    status, _, err = run.finish()
    assert status == 0, err
    assert_equal_bit_for_bit(run, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_any_moment_again_and_again(undisturbed, make_run):
    """At random times, so also in the middle of a save: every update makes a checkpoint."""
    run = make_run("killed_often", checkpoint={"every_steps": 1, "keep_last": 1})
    chance = random.Random(7)
    for _ in range(12):
        process = run.start()
        run.wait_for(min(run.updates(), UPDATES - 8) + 1, process)
        time.sleep(chance.uniform(0, 0.4))
        process.kill()
        assert "Traceback" not in outcome(process)[2]
    status, _, err = run.finish()
    assert status == 0, err
    assert_equal_bit_for_bit(run, undisturbed)
