"""The very training step over unpacked rows, lowered for GPUs on meshes: cuDNN needs devices where it is lowered, so
those of the CPU stand in for them. The kernel for packed rows needs none, see `tests/models/test_gpu_attention.py`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from child_processes import cpu_environment

ROOT = Path(__file__).resolve().parents[2]

LOWER = """
import json, sys
from types import SimpleNamespace
import jax
import numpy as np
from jax._src.cudnn import fused_attention_stablehlo
from mentallama_jax.config import parse_config
from mentallama_jax.models.attention import dispatch
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.parallel.mesh import make_mesh, use_mesh
from mentallama_jax.training.mesh_placement import abstract_batch, abstract_state
from mentallama_jax.training.objectives.supervised import Supervised
from mentallama_jax.training.step import make_train_step

fused_attention_stablehlo.cuda_versions = SimpleNamespace(cudnn_get_version=lambda: 91000)
dispatch.platform = lambda: "gpu"
for sizes in json.loads(sys.argv[1]):
    config = parse_config({
        "model": {"source": "toy", "weights": "random", "remat": "attention"},
        "data": {"train": ["sample"], "max_length": 256, "layout": "bucketed"},
        "training": {"run_dir": "-", "steps": 10, "micro_batch_rows": 4}, "mesh": sizes}, "test")
    mesh = make_mesh(config.mesh, jax.devices()[: int(np.prod(list(sizes.values())))])
    with use_mesh(mesh):
        state = abstract_state(Supervised(PRESETS["toy"], config), config, 10, mesh)
        shardings = jax.tree.map(lambda x: x.sharding, state)
        batch = abstract_batch(config, mesh, 2)
        step = make_train_step(Supervised(PRESETS["toy"], config), config, 10, shardings)
        text = step.trace(state, batch).lower(lowering_platforms=("cuda",)).as_text()
    counted = ("@__cudnn$fmhaSoftmax(", "@__cudnn$fmhaSoftmaxBackward(", "CustomSPMDPartitioning")
    print(json.dumps([text.count(target) for target in counted]))
"""


@pytest.mark.long
def test_the_step_over_unpacked_rows_lowers_to_cudnn_on_meshes():
    meshes = [{"fsdp": 1}, {"fsdp": 2, "tensor": 2}, {"data": 2, "sequence": 2, "fsdp": 1}]
    command = [sys.executable, "-c", LOWER, json.dumps(meshes)]
    done = subprocess.run(command, cwd=ROOT, env=cpu_environment(4), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Forward and backward once each, and nothing left for the compiler to cut: `shard_map` has cut it.
    assert [json.loads(line) for line in done.stdout.splitlines()] == [[1, 1, 0]] * len(meshes)
