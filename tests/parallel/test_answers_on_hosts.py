"""Several processes on loopback answer as one: label F1 during training, predictions, label scores, sampled answers."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import pytest
from child_processes import cpu_environment
from test_processes import ROOT, SHAPE, TRAIN, finish

from mentallama_jax.config import parse_config
from mentallama_jax.generation.engine import Settings
from mentallama_jax.jobs.answer import answer, open_answerer, questions_in
from mentallama_jax.jobs.label_f1 import GeneratedLabelF1
from mentallama_jax.jobs.open_model import open_model
from mentallama_jax.jobs.tune import tune
from mentallama_jax.training.data.examples import load_examples
from mentallama_jax.training.run.metrics import read_metrics

CLOCK = {"time", "tokens_per_second", "label_f1_seconds", "label_f1_idle"}
SETTINGS = Settings(24, batch_size=4)


def config(folder: Path, name: str, **changes: dict[str, Any]) -> dict[str, Any]:
    """A run that learns enough of one data set in a few updates for its label F1 not to be 0."""
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "config.json").write_text(json.dumps(SHAPE | {"num_hidden_layers": 1}))
    sections: dict[str, dict[str, Any]] = {
        "model": {
            "source": str(folder / "model"),
            "weights": "random",
            "tokenizer": "sample",
            "compute_dtype": "float32",
            "remat": "none",
        },
        "data": {
            "train": ["sample:train"],
            "validation": ["sample:val"],
            "datasets": ["dreaddit"],
            "max_length": 160,
            "cache_dir": str(folder / "tokens"),
        },
        "optimizer": {"learning_rate": 1e-2},
        "training": {
            "steps": 20,
            "batch_size": 8,
            "micro_batch_rows": 4,
            "run_dir": str(folder / name),
            "compile_cache_dir": str(folder / "xla"),
        },
        "evaluation": {
            "metric": "label_f1",
            "generate_rows": 5,
            "max_rows": 8,
            "max_new_tokens": 24,
            "every_steps": 20,
        },
        "checkpoint": {"every_steps": 100},
    }
    return {section: sections.get(section, {}) | changes.get(section, {}) for section in {*sections, *changes}}


def figures(run: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if name not in CLOCK} for row in read_metrics(run / "metrics.jsonl")
    ]


def assert_same_figures(run: Path, other: Path) -> None:
    found, expected = figures(run), figures(other)
    assert [row.keys() for row in found] == [row.keys() for row in expected]
    for one, two in zip(found, expected, strict=True):
        assert one.pop("kind") == two.pop("kind")
        assert one == pytest.approx(two, rel=1e-3, abs=1e-5)


WORK = """
import json, sys
from pathlib import Path
from mentallama_jax.parallel.processes import joined
folder, coordinator, processes, process = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:5])
with joined(coordinator, processes, process):
    from test_answers_on_hosts import *
    if "little memory" in sys.argv:
        from mentallama_jax.generation import answers_while_training
        answers_while_training.device_memory = lambda: 1
    if "stop" in sys.argv and process == 1:
        from test_processes import STOP
        exec(STOP.format(signal="SIGTERM", update=3))
    if "train" in sys.argv:
        tune(parse_config(json.loads((folder / "config.json").read_text()), "test"))
    if "answer" in sys.argv:
        write_answers(open_answerer(str(folder / "one")), folder, f"two-{process}")
"""


def start(folder: Path, values: dict[str, Any], processes: int, *words: str) -> list[subprocess.Popen[str]]:
    """Start processes that train as `values` say, or answer."""
    (folder / "config.json").write_text(json.dumps(values))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    paths = [str(ROOT / "tests" / "parallel"), str(ROOT / "tests"), str(ROOT)]
    return [
        subprocess.Popen(
            [sys.executable, "-c", WORK, str(folder), coordinator, str(processes), str(process), *words],
            cwd=ROOT,
            env=cpu_environment(PYTHONPATH=os.pathsep.join(paths)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(processes)
    ]


def write_answers(answerer: Any, folder: Path, name: str) -> None:
    """Sampled answers in NAME.jsonl and label scores in NAME-scores.jsonl."""
    for rows, file, score_labels in ((4, f"{name}.jsonl", False), (2, f"{name}-scores.jsonl", True)):
        questions = questions_in(["sample:test"], datasets=["dreaddit"], max_rows=rows)
        answer(answerer, questions, folder / file, SETTINGS, score_labels=score_labels)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def succeed(started: list[subprocess.Popen[str]]) -> None:
    for status, _, errors in finish(started):
        assert status == 0, errors


@pytest.mark.long
def test_two_processes_measure_the_label_f1_of_one(tmp_path: Path) -> None:
    values = config(tmp_path, "two")
    succeed(start(tmp_path, values, 2, "train"))
    measured = [row for row in read_metrics(tmp_path / "two" / "metrics.jsonl") if row["kind"] == "validation"][-1]
    assert measured["label_f1"] > 0
    assert 0 <= measured["label_f1_idle"] <= 1  # the first time nearly all of it is compilation
    assert measured["label_f1_seconds"] > 0
    asked, opened = parse_config(values, "test"), open_model(str(tmp_path / "two"))
    tokenizer = opened.load_tokenizer()
    records = load_examples(asked, tokenizer, print).to_answer
    label_f1 = GeneratedLabelF1(asked, opened.config, tokenizer)
    assert label_f1(opened.load_params("float32", None), records) == measured["label_f1"]


@pytest.mark.slow
def test_two_processes_answer_as_one_does(tmp_path: Path) -> None:
    tune(parse_config(config(tmp_path, "one"), "test"))
    write_answers(open_answerer(str(tmp_path / "one")), tmp_path, "one")
    # The first of two processes goes on with a file that holds a row already; the second has none.
    text = (tmp_path / "one.jsonl").read_text()
    (tmp_path / "two-0.jsonl").write_text(text.splitlines(keepends=True)[1] + '{"id": "cut o')
    (tmp_path / "two-0.meta.json").write_bytes((tmp_path / "one.meta.json").read_bytes())
    succeed(start(tmp_path, {}, 2, "answer"))
    assert (tmp_path / "two-0.jsonl").read_text() == text
    assert not (tmp_path / "two-1.jsonl").exists()
    found, expected = (rows_of(tmp_path / f"{name}-scores.jsonl") for name in ("two-0", "one"))
    for one, other in zip(found, expected, strict=True):
        scores = [row.pop("label_log_probabilities") for row in (one, other)]
        assert one == other
        for label, values in scores[1].items():
            assert scores[0][label] == pytest.approx(values, rel=1e-5)


@pytest.mark.slow
def test_four_processes_measure_the_label_f1_of_one(tmp_path: Path) -> None:
    """Weights are cut along `fsdp` by four, and answer along `tensor` by two, as there are two key/value heads."""
    tune(parse_config(config(tmp_path, "one"), "test"))
    succeed(start(tmp_path, config(tmp_path, "four"), 4, "train", "little memory"))
    assert_same_figures(tmp_path / "four", tmp_path / "one")


def variety(records: Any, texts: list[str]) -> list[float]:
    """A reward that random answers differ in; on another process than the first, another one."""
    return [(sum(map(ord, text)) % 101) / 100 + jax.process_index() for text in texts]


@pytest.mark.slow
def test_two_processes_sample_and_learn_as_one_does_and_one_goes_on_with_their_run(tmp_path: Path) -> None:
    """The run stops between two updates from the same answers: the batch is in the checkpoint."""

    def of(name: str) -> dict[str, Any]:
        values = config(tmp_path, name)
        values["objective"] = {
            "kind": "grpo",
            "num_generations": 2,
            "num_iterations": 2,
            "beta": 0.04,
            "rewards": {"test_answers_on_hosts:variety": 1.0, "label": 1.0},
        }
        values["data"] |= {"max_rows": 6}
        values["training"] |= {"steps": 5}
        values["optimizer"] |= {"learning_rate": 1e-4}
        values["evaluation"] |= {"metric": "reward", "generate_rows": 3, "max_rows": 3, "max_new_tokens": 8}
        return values

    tune(parse_config(of("one"), "test"))
    succeed(start(tmp_path, of("two"), 2, "train", "stop"))
    assert figures(tmp_path / "two")[-1]["step"] == 3
    tune(parse_config(of("two"), "test"))
    assert_same_figures(tmp_path / "two", tmp_path / "one")
    rewards = [row["rewards/test_answers_on_hosts:variety"] for row in figures(tmp_path / "one") if "reward" in row]
    assert len(set(rewards)) > 2
    assert max(rewards) < 1


@pytest.mark.slow
def test_hosts_with_another_command_are_refused_before_the_model_is_read(tmp_path: Path) -> None:
    for status, output, errors in generate(tmp_path, "none", 2, "import sys; sys.argv += ['--seed', '5']\n"):
        assert status in (2, 76)
        assert "process 1: another command than that of process 0" in errors
        assert output == ""


KILL = """
import os, signal
from mentallama_jax.generation import decoding
step, calls = decoding.Decoding.step, []
def step_and_end(*arguments):
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.{signal})
    return step(*arguments)
decoding.Decoding.step = step_and_end
"""


def generate(folder: Path, name: str, processes: int, prepare: str = "") -> list[tuple[int, str, str]]:
    """The command on so many hosts; the last of them runs the code in `prepare` first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    asked = ["--data", "sample:test", "--datasets", "dreaddit", "--max-new-tokens", "40", "--batch-size", "2"]
    started = []
    for process in range(processes):
        words = [sys.executable, "-c", (prepare if process == processes - 1 else "") + TRAIN]
        words += ["generate", str(folder / "run"), *asked, "--out", str(folder / f"{name}.jsonl")]
        flags = ["--coordinator", coordinator, "--processes", str(processes), "--process", str(process)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(
            subprocess.Popen(words + (flags if processes > 1 else []), cwd=ROOT, env=cpu_environment(), **pipes)
        )
    return finish(started)


@pytest.mark.slow
def test_hosts_that_are_stopped_or_killed_end_together_and_others_go_on(tmp_path: Path) -> None:
    values = config(tmp_path, "run")
    values["training"] |= {"steps": 2}
    values["evaluation"] |= {"metric": "validation_loss", "generate_rows": 0}
    tune(parse_config(values, "test"))
    ((status, _, errors),) = generate(tmp_path, "whole", 1)
    assert status == 0, errors
    whole = (tmp_path / "whole.jsonl").read_bytes()

    ends = generate(tmp_path, "moved", 2, KILL.format(signal="SIGTERM"))
    assert [status for status, *_ in ends] == [75, 75], ends
    assert "stopped by SIGTERM; finished rows are in" in ends[0][1]
    assert "hosts: 2 with 2 devices, --mesh data=2 fsdp=1 tensor=1" in ends[0][1]
    assert ends[1][1] == ""
    begun = (tmp_path / "moved.jsonl").read_bytes().count(b"\n")
    assert 0 < begun < whole.count(b"\n")

    began = time.monotonic()
    (status, _, errors), (killed, *_) = generate(tmp_path, "moved", 2, KILL.format(signal="SIGKILL"))
    assert (status, killed) == (76, -signal.SIGKILL), errors
    assert re.search(r"error: process 1 \(.*\) is lost.*; run the same command on all hosts again: it goes on", errors)
    assert time.monotonic() - began < 120

    ((status, _, errors),) = generate(tmp_path, "moved", 1)
    assert status == 0, errors
    assert "going on: " in errors
    assert (tmp_path / "moved.jsonl").read_bytes() == whole
