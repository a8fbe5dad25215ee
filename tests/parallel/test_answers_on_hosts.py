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
import numpy as np
import pytest
from child_processes import cpu_environment
from test_processes import ROOT, SHAPE, TRAIN, finish

from mentallama_jax.config import MeshSection, parse_config
from mentallama_jax.generation.engine import Settings
from mentallama_jax.jobs.answer import answer, open_answerer, questions_in
from mentallama_jax.jobs.tune import tune
from mentallama_jax.parallel.mesh import make_mesh
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
        "optimizer": {"learning_rate": 2e-2},
        "training": {
            "steps": 30,
            "batch_size": 8,
            "micro_batch_rows": 4,
            "run_dir": str(folder / name),
            "compile_cache_dir": str(folder / "xla"),
        },
        "evaluation": {"metric": "label_f1", "generate_rows": 5, "max_rows": 8, "max_new_tokens": 24},
        "checkpoint": {"every_steps": 100},
    }
    return {section: sections.get(section, {}) | changes.get(section, {}) for section in {*sections, *changes}}


def figures(run: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in CLOCK} for row in read_metrics(run / "metrics.jsonl")]


def assert_same_figures(run: Path, other: Path) -> None:
    found, expected = figures(run), figures(other)
    assert [row.keys() for row in found] == [row.keys() for row in expected]
    for one, two in zip(found, expected, strict=True):
        assert one == pytest.approx(two, rel=1e-3, abs=1e-5)


WORK = """
import json, sys
from pathlib import Path
from mentallama_jax.parallel.processes import joined
folder, coordinator, processes, process = Path(sys.argv[1]), *sys.argv[2:]
with joined(coordinator, int(processes), int(process)):
    from test_answers_on_hosts import *
    tune(parse_config(json.loads((folder / "config.json").read_text()), "test"))
    if sys.argv[1].endswith("answers"):
        answerer = open_answerer(str(folder / "run"), mesh=make_mesh(MeshSection(fsdp=int(processes))))
        answer(answerer, questions_in(["sample:test"], datasets=["dreaddit"], max_rows=6),
               folder / f"{process}.jsonl", SETTINGS)
        answer(answerer, questions_in(["sample:test"], datasets=["dreaddit"], max_rows=2),
               folder / "scores.jsonl", SETTINGS, score_labels=True)
"""
