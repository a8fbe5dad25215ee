"""Steps as processes: their words and environment, what is said of a failure, and what is shown while they run."""

import hashlib
import io
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from stand_ins import CONFIG

from mentallama_jax import __version__
from mentallama_jax.cli.study_progress import StudyProgress, duration, time_left
from mentallama_jax.config.study_config import parse_study
from mentallama_jax.study import fingerprints
from mentallama_jax.study.fingerprints import FileHashes, code_of, modules_of
from mentallama_jax.study.step_processes import StepProcess, process_words, reason_of
from mentallama_jax.study.step_progress import share_done
from mentallama_jax.study.study_graph import StudyGraph, study_graph
from mentallama_jax.study.study_runner import StepState
from mentallama_jax.study.study_steps import StudyStep
from mentallama_jax.terminal import Console

ROOT = Path(__file__).resolve().parents[2]
STEP = StudyStep("a.b", "a", ("--version",), (), (), "mentallama_jax.cli.train_command")


def ended(step: StudyStep, log: Path) -> int:
    process = StepProcess(step, log)
    until = time.monotonic() + 60
    while (status := process.poll()) is None:
        assert time.monotonic() < until
        time.sleep(0.02)
    return status


@pytest.mark.parametrize("launcher", ["", "bash -c"])
def test_a_step_is_the_command_in_a_process(launcher: str, tmp_path: Path) -> None:
    step = replace(STEP, launcher=launcher, environment={"SOME_DEVICE": "it's 0"})
    assert ended(step, tmp_path / "log") == 0
    assert (tmp_path / "log").read_text("utf-8").splitlines() == [
        "$ mentallama --version",
        f"mentallama-jax {__version__}",
    ]
    words, environment = process_words(step, {"HOME": "/x"})
    assert ("SOME_DEVICE" in environment) is not bool(launcher)
    if launcher:
        assert words[:2] == ["bash", "-c"]
        shown = subprocess.run([*words[:2], words[2].partition(" exec ")[2].partition("PYTHON")[0].replace(
            "-m mentallama_jax --version", "-c 'import os; print(os.environ[\"SOME_DEVICE\"])'")],
            capture_output=True, text=True, check=True)  # fmt: skip
        assert shown.stdout == "it's 0\n"


def test_a_failure_is_told_by_its_error_and_by_nothing_else_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("$ mentallama a\nerror: of an earlier try\n$ mentallama a\nI feel so low\nerror: no such file\n")
    assert reason_of(log, 2) == "no such file"
    log.write_text("error: of an earlier try\n$ mentallama a\nTraceback\nValueError: I feel so low\n")
    assert reason_of(log, 1) == f"ended with status 1; see {log}"
    assert reason_of(log, -9) == f"was killed by signal 9; see {log}"
    assert ended(replace(STEP, words=("evaluate", "no-such.jsonl", "--out", str(tmp_path / "out"))), log) == 2
    assert "no-such.jsonl" in reason_of(log, 2)


def test_a_step_is_stopped(tmp_path: Path) -> None:
    process = StepProcess(replace(STEP, launcher="bash -c 'sleep 60' --"), tmp_path / "log")
    assert process.poll() is None
    process.stop(at_once=True)
    until = time.monotonic() + 10
    while process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    process.stop()


PARENT = """
import os, sys
from pathlib import Path
from mentallama_jax.study.step_processes import StepProcess
from mentallama_jax.study.study_steps import StudyStep
step = StudyStep("a.b", "a", ("x",), (), (), "m", launcher="bash -c 'echo it runs; sleep 60' --")
process, log = StepProcess(step, Path(sys.argv[1])), Path(sys.argv[1])
while "it runs" not in log.read_text("utf-8").splitlines():
    pass
print(process._process.pid, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not end children with their parent")
def test_a_step_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    words = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    parent = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert parent.returncode == -9, parent.stderr
    until = time.monotonic() + 10
    while Path(f"/proc/{int(parent.stdout)}").exists():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def graph(tmp_path: Path) -> StudyGraph:
    values = CONFIG | {"study": {"out": str(tmp_path / "study")}}
    return study_graph(parse_study(values, "test"))


def states_of(graph: StudyGraph) -> dict[str, StepState]:
    return {name: StepState() for name in graph.steps}


def test_progress_is_plain_lines_in_a_pipe(graph: StudyGraph) -> None:
    states, shown = states_of(graph), io.StringIO()
    with StudyProgress(Console(file=shown, width=80)) as progress:
        progress.show(graph, states)
        states["tuning.train"].state, states["tuning.train"].why = "running", "not done yet"
        progress.show(graph, states)
        progress.show(graph, states)
        states["tuning.train"].state, states["tuning.train"].seconds, states["tuning.train"].why = "done", 200.0, ""
        progress.show(graph, states)
    assert shown.getvalue().splitlines() == [
        "[0/9] tuning.train: running (not done yet)",
        "[1/9] tuning.train: done in 3 min",
    ]


def test_progress_is_a_table_on_a_terminal(graph: StudyGraph) -> None:
    states, shown = states_of(graph), io.StringIO()
    states["tuning.train"].state = "running"
    states["floor.answer"].state, states["floor.answer"].why = "failed", "I broke"
    with StudyProgress(Console(file=shown, width=100, height=40, force_terminal=True)) as progress:
        progress.show(graph, states)
    for text in ("tuning.train", "running", "I broke", "all.compare", "time left"):
        assert text in shown.getvalue()


def test_the_time_left_is_by_earlier_times_and_by_what_is_written(graph: StudyGraph) -> None:
    states = states_of(graph)
    assert time_left(graph, states) == "time left: at least 0 s; of 9 steps it is not known"
    for each in states.values():
        each.expected = 60.0
    assert time_left(graph, states) == "time left: about 9 min"
    step = graph.steps["tuning.train"]
    run = step.leftovers[0]
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text('{"kind": "train", "step": 1}\n{"kind": "validation", "step": 1}\n')
    assert share_done(graph, step) == 0.25
    states["tuning.train"].state, states["tuning.train"].seconds = "running", 100.0
    assert time_left(graph, states) == "time left: about 13 min"  # 300 s of this one, 8 minutes of the others
    out = graph.steps["plain.answer"].outputs[0]
    out.parent.mkdir(parents=True)
    out.write_text("{}\n" * 4)
    assert share_done(graph, graph.steps["plain.answer"]) == 4 / 16
    assert share_done(graph, graph.steps["all.compare"]) is None
    assert [duration(seconds) for seconds in (5, 600, 9000)] == ["5 s", "10 min", "2.5 h"]


def test_hashes_are_kept_only_of_files_that_are_at_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(
        hashlib, "file_digest", lambda file, name: (read.append(Path(file.name)), digest(file, name))[1]
    )
    path, kept = tmp_path / "file", tmp_path / "kept.json"
    path.write_text("one")
    hashes = FileHashes(kept)
    assert len({hashes.of_file(path), hashes.of_file(path)}) == 1
    hashes.keep()
    assert FileHashes(kept).of_file(path) == hashes.of_file(path)
    assert read == [path] * 4, "a file that has just changed is read each time"
    monkeypatch.setattr(fingerprints, "_STILL_WARM", -1.0)
    first = hashes.of_file(path)
    hashes.keep()
    read.clear()
    assert FileHashes(kept).of_file(path) == first
    assert read == [], "size and times are unchanged for long"


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `cp -p`, `rsync -t` and archives make them."""
    monkeypatch.setattr(fingerprints, "_STILL_WARM", -1.0)
    path, kept = tmp_path / "file", tmp_path / "kept.json"
    path.write_text("one")
    os.utime(path, ns=(0, 0))
    hashes = FileHashes(kept)
    first = hashes.of_file(path)
    hashes.keep()
    before = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == before:  # a tick of the file system's clock
        path.write_text("two")
        os.utime(path, ns=(0, 0))
    assert FileHashes(kept).of_file(path) != first
    assert hashes.of_file(path) != first


def test_sources_are_known_by_content_here_and_by_name_elsewhere(tmp_path: Path) -> None:
    hashes = FileHashes(tmp_path / "kept.json")
    data = tmp_path / "data"
    (data / "below").mkdir(parents=True)
    (data / "below" / "rows.csv").write_text("a")
    first = hashes.of_source(f"{data}:test")
    assert first == hashes.of_source(str(data))
    (data / "below" / "rows.csv").rename(data / "below" / "other.csv")
    assert hashes.of_source(str(data)) != first, "names of files say their data set"
    assert hashes.of_source("sample:test") == "sample"
    assert hashes.of_source("meta-llama/Llama-2-7b-hf") == "meta-llama/Llama-2-7b-hf"
    assert hashes.of_source("package:yaml") != hashes.of_source("package:pydantic")


def test_the_code_of_a_step_is_what_its_command_imports() -> None:
    reached = modules_of("mentallama_jax.cli.baseline_command")
    assert "mentallama_jax.baselines.floors" in reached, "late imports count"
    assert not any(part in name for name in reached for part in (".study.", ".reports.", ".planning."))
    commands = ("train", "generate", "evaluate", "baseline")
    assert len({code_of(f"mentallama_jax.cli.{name}_command") for name in commands}) == len(commands)
