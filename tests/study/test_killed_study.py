"""The toy study as a process that is killed, with the real commands below it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from child_processes import cpu_environment
from test_study_pages import unfounded, untraced
from test_study_runs import tables

ROOT = Path(__file__).resolve().parents[2]


def command(out: Path) -> list[str]:
    return [sys.executable, "-m", "mentallama_jax", "study", str(ROOT / "configs/study/toy.yaml"), "--out", str(out)]


def run(out: Path) -> str:
    done = subprocess.run(
        command(out), env=cpu_environment(), cwd=ROOT, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


def children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] != b"Z"
    except FileNotFoundError:
        return False


def kill_at(out: Path, step: str, seconds: float) -> None:
    """Start the study, and kill it with SIGKILL some time after a step has begun."""
    with (out.parent / "killed.log").open("ab") as log:
        started = subprocess.Popen(command(out), env=cpu_environment(), cwd=ROOT, stdout=log, stderr=log)
    until = time.monotonic() + 600
    while not (out / "steps" / f"{step}.begun.json").exists():
        assert started.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(seconds)
    below = children(started.pid)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    until = time.monotonic() + 30
    while any(map(alive, below)):
        assert time.monotonic() < until, "steps live on without their runner"
        time.sleep(0.05)
    assert below, f"{step} was over before the kill"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc which processes live")
def test_the_toy_study_survives_two_kills(tmp_path: Path) -> None:
    out, unbroken = tmp_path / "killed", tmp_path / "unbroken"
    kill_at(out, "tuning.train", 4.0)
    kill_at(out, "label-first.answer", 2.0)
    manifests = {path.name: path.read_bytes() for path in (out / "steps").glob("*.json")}
    assert "tuning.train.json" in manifests
    said = run(out)
    assert "tuning.train: reused" in said
    for name in ("tuning.train.json", "tuned.answer.json", "tuned.evaluate.json"):
        assert (out / "steps" / name).read_bytes() == manifests[name], "done twice"
    assert json.loads((out / "steps/label-first.answer.json").read_text("utf-8"))["tries"] == 2
    run(unbroken)
    assert tables(out) == tables(unbroken)
    assert untraced(out) == []
    assert unfounded(out) == []
