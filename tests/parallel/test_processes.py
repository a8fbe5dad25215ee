"""Real processes on loopback that train as one."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mentallama_jax.training.metrics import read_metrics

ROOT = Path(__file__).resolve().parents[2]
TRAIN = "import sys; from mentallama_jax.cli.main import main; sys.exit(main())"
CONFIG = {
    "model": {"source": "", "weights": "random", "tokenizer": "sample", "compute_dtype": "float32", "remat": "none"},
    "data": {"train": ["sample"], "validation": ["sample"], "max_length": 192, "max_rows": 48},
    "optimizer": {"learning_rate": 1e-3},
    "evaluation": {"max_rows": 12},
    "checkpoint": {"every_steps": 2},
}
SHAPE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 1024,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "max_position_embeddings": 512,
    "hidden_act": "silu",
}


def start(folder, run_dir, processes, *overrides, prepare=""):
    """Start the processes of a run; `prepare` is code that the last of them runs first."""
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "config.json").write_text(json.dumps(SHAPE))
    training = {
        "steps": 4,
        "batch_size": 16,
        "micro_batch_rows": 4,
        "compile_cache_dir": str(folder / "xla"),
        "run_dir": str(folder / run_dir),
    }
    model, data = CONFIG["model"] | {"source": str(folder / "model")}, CONFIG["data"] | {"cache_dir": str(folder / "t")}
    (folder / "config.yaml").write_text(json.dumps(CONFIG | {"training": training, "model": model, "data": data}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for index in range(processes):
        flags = ["--coordinator", f"127.0.0.1:{port}", "--processes", str(processes), "--process", str(index)]
        code = (prepare if index == processes - 1 else "") + TRAIN
        command = [sys.executable, "-c", code, "train", str(folder / "config.yaml"), *overrides]
        started.append(
            subprocess.Popen(
                command + (flags if processes > 1 else []),
                cwd=ROOT,
                env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def finish(started):
    """(exit status, standard output, standard error) of each process."""
    try:
        outputs = [process.communicate(timeout=240) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *output) for process, output in zip(started, outputs, strict=True)]


def losses(run_dir):
    rows = read_metrics(run_dir / "metrics.jsonl")
    return [(row["kind"], row["step"], row.get("loss", row.get("validation_loss"))) for row in rows]


def test_two_processes_learn_as_one_does(tmp_path):
    for run_dir, processes in (("one", 1), ("two", 2)):
        for status, _, errors in finish(start(tmp_path, run_dir, processes)):
            assert status == 0, errors
    expected, found = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(expected) >= 5
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    assert [row[2] for row in found] == pytest.approx([row[2] for row in expected], rel=1e-5)


STOP_IN_THIRD = """
import os, signal
from mentallama_jax.training import loop
place, calls = loop.place_batch, []
def place_and_stop(*arguments):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.{signal})
    return place(*arguments)
loop.place_batch = place_and_stop
"""


@pytest.mark.slow
def test_sigterm_to_one_stops_all_and_another_number_goes_on(tmp_path):
    for status, _, errors in finish(start(tmp_path, "one", 1)):
        assert status == 0, errors
    stopped = finish(start(tmp_path, "moved", 2, prepare=STOP_IN_THIRD.format(signal="SIGTERM")))
    assert [status for status, *_ in stopped] == [75, 75], stopped
    assert stopped[0][1].startswith("stopped after update 3 of 4; to go on: mentallama train ")
    assert re.search(r" --coordinator 127.0.0.1:\d+ --processes 2 --process 0 ", stopped[0][1])
    assert not stopped[1][1]
    for status, _, errors in finish(start(tmp_path, "moved", 1)):
        assert status == 0, errors
    expected, found = losses(tmp_path / "one"), losses(tmp_path / "moved")
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    assert [row[2] for row in found] == pytest.approx([row[2] for row in expected], rel=1e-5)


@pytest.mark.slow
def test_a_killed_process_ends_the_other_with_its_name(tmp_path):
    first, second = finish(start(tmp_path, "killed", 2, prepare=STOP_IN_THIRD.format(signal="SIGKILL")))
    assert second[0] == -9
    assert first[0] == 76, first[2]
    assert "error: process 1 (" in first[2]
    assert "is lost: silent for 20 s" in first[2]
    for status, _, errors in finish(start(tmp_path, "killed", 2)):
        assert status == 0, errors
    assert losses(tmp_path / "killed")[-1][1] == 4
