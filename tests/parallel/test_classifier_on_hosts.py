"""Two processes on loopback train one classifier, and end it early together."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from child_processes import cpu_environment
from test_processes import ROOT, TRAIN, finish

from mentallama_jax.training.run.metrics import read_metrics


def start(folder: Path, name: str, processes: int) -> list[subprocess.Popen[str]]:
    config = {
        "model": {
            "source": "toy-encoder",
            "weights": "random",
            "tokenizer": "sample",
            "compute_dtype": "float32",
            "remat": "none",
        },
        "data": {"train": ["sample:train"], "validation": ["sample:val"], "datasets": ["dreaddit"], "max_length": 96},
        "objective": {"kind": "classification", "test": ["sample:test"]},
        "optimizer": {"learning_rate": 1e-12},
        "training": {
            "epochs": 6,
            "batch_size": 8,
            "micro_batch_rows": 2,
            "run_dir": str(folder / name),
            "compile_cache_dir": str(folder / "xla"),
        },
        "evaluation": {"metric": "weighted_f1", "patience": 2},
    }
    (folder / f"{name}.yaml").write_text(json.dumps(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for index in range(processes):
        flags = ["--coordinator", f"127.0.0.1:{port}", "--processes", str(processes), "--process", str(index)]
        command = [sys.executable, "-c", TRAIN, "train", str(folder / f"{name}.yaml")]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        environment = cpu_environment()
        started.append(subprocess.Popen(command + (flags if processes > 1 else []), cwd=ROOT, env=environment, **pipes))
    return started


@pytest.mark.slow
def test_two_processes_give_the_figures_of_one_and_give_up_at_the_same_update(tmp_path: Path) -> None:
    found = {}
    for name, processes in (("one", 1), ("two", 2)):
        outcomes = finish(start(tmp_path, name, processes))
        assert [status for status, _, _ in outcomes] == [0] * processes, outcomes
        assert any("done after 12 updates of 24, as weighted_f1 was not better" in err for _, _, err in outcomes)
        found[name] = read_metrics(tmp_path / name / "metrics.jsonl")
    keys = ("step", "loss", "validation_loss", "weighted_f1", "target_tokens")
    one, two = ([{key: row[key] for key in keys if key in row} for row in rows] for rows in found.values())
    assert len(one) == len(two) == 15
    for mine, theirs in zip(one, two, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)
    # One host writes the figures of the test rows; several leave that to it.
    assert (tmp_path / "one" / "test" / "scores.json").exists()
    assert not (tmp_path / "two" / "test").exists()
    ((status, _, error),) = finish(start(tmp_path, "two", 1))
    assert status == 0, error
    assert (tmp_path / "two" / "test" / "scores.json").exists()
