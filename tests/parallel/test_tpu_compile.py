"""The very training step, compiled by the TPU compiler for chips that are not here."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from child_processes import cpu_environment

from mentallama_jax.planning.compilation import COMPILER_ENVIRONMENT

ROOT = Path(__file__).resolve().parents[2]

COMPILE = """
import json, sys
import jax
from jax.experimental import topologies
from mentallama_jax.config import parse_config
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.parallel.mesh import make_mesh, use_mesh
from mentallama_jax.training.mesh_placement import abstract_batch, abstract_state
from mentallama_jax.training.objectives.supervised import Supervised
from mentallama_jax.training.step import make_train_step

config = parse_config({
    "model": {"source": "toy", "weights": "random"}, "data": {"train": ["sample"], "max_length": 256},
    "training": {"run_dir": "-", "steps": 10, "micro_batch_rows": 4}, "mesh": json.loads(sys.argv[1])}, "test")
devices = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices
mesh = make_mesh(config.mesh, devices)
with use_mesh(mesh):
    state = abstract_state(Supervised(PRESETS["toy"], config), config, 10, mesh)
    shardings = jax.tree.map(lambda x: x.sharding, state)
    batch = abstract_batch(config, mesh, 2)
    compiled = make_train_step(Supervised(PRESETS["toy"], config), config, 10, shardings).lower(state, batch).compile()
text = compiled.as_text()
print(json.dumps({"kernels": text.count("tpu_custom_call"), "scores": "256,256]" in text}))
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="the TPU compiler comes with the extra `tpu`")
@pytest.mark.parametrize("mesh", [{"fsdp": 4}, {"fsdp": 2, "tensor": 2}, {"data": 2, "sequence": 2, "fsdp": 1}])
def test_the_training_step_compiles_for_tpus_with_its_kernel(mesh):
    environment = cpu_environment(**COMPILER_ENVIRONMENT)
    command = [sys.executable, "-c", COMPILE, json.dumps(mesh)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["kernels"] >= 3  # forward, forward again for the backward pass, backward
    assert not figures["scores"]
