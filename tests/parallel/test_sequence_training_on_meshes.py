"""Updates of encoder-decoders on eight devices are those on one, with Adafactor's moments cut along the mesh."""

import subprocess
import sys
from pathlib import Path

import pytest
from child_processes import cpu_environment

CODE = """
import jax, numpy as np
from dataclasses import replace
from mentallama_jax.config import parse_config
from mentallama_jax.models.presets import SEQUENCE_PRESETS
from mentallama_jax.parallel.mesh import make_mesh, use_mesh
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES, full_rows
from mentallama_jax.training.mesh_placement import abstract_state, check_batch, place_batch
from mentallama_jax.training.objectives.of_config import objective_of
from mentallama_jax.training.step import init_state, make_train_step

small = {"vocab_size": 64, "hidden_size": 32, "dropout": 0.0}
MODELS = [
    replace(SEQUENCE_PRESETS["toy-bart"], encoder_intermediate=48, decoder_intermediate=48, **small),
    replace(SEQUENCE_PRESETS["toy-t5"], intermediate_size=48, head_dim=8, **small),
]

def outcome(model, mesh):
    config = parse_config({
        "model": {"source": "x", "compute_dtype": "float32", "remat": "none"},
        "data": {"train": ["sample"], "style": "completion", "max_length": 16},
        "objective": {"kind": "sequence_to_sequence", "target_length": 8},
        "optimizer": {"name": "adafactor", "learning_rate": 1e-2, "schedule": "constant", "warmup_fraction": 0.0},
        "training": {"run_dir": "-", "steps": 9, "batch_size": 8, "micro_batch_rows": 8},
        "mesh": mesh,
    }, "test")
    where = make_mesh(config.mesh, jax.devices()[: 8 if len(mesh) > 1 else 1])
    check_batch(model, config, where)
    objective = objective_of(model, config)
    with use_mesh(where):
        shapes = abstract_state(objective, config, 9, where)
        shardings = jax.tree.map(lambda x: x.sharding, shapes)
        state = jax.jit(lambda: init_state(objective, config, 9), out_shardings=shardings)()
        arrays = full_rows(8, 16, 64, objective.batch_spec) | {MICRO_BATCHES: np.int32(1)}
        batch = place_batch(arrays, 8, where, objective.batch_spec)
        step = make_train_step(objective, config, 9, shardings)
        losses = []
        for _ in range(3):
            state, metrics = step(state, batch)
            losses.append(float(metrics["loss"]))
    moments = shapes["opt_state"][1]
    return losses, [tuple(side["embedding"].sharding.spec) for side in (moments.rows, moments.columns)]

MESHES = ({"data": 2, "fsdp": 2, "tensor": 2}, {"fsdp": 2, "tensor": 2, "sequence": 2})
for model, mesh in zip(MODELS, MESHES, strict=True):
    wanted, _ = outcome(model, {"fsdp": 1})
    assert wanted[-1] < wanted[0], wanted
    losses, moments = outcome(model, mesh)
    np.testing.assert_allclose(losses, wanted, rtol=1e-4)
    assert moments == [("tensor",), ("fsdp",)], moments
print("equal")
"""


@pytest.mark.slow
def test_updates_are_the_same_on_every_mesh() -> None:
    command = [sys.executable, "-c", CODE]
    here = Path(__file__).parent
    done = subprocess.run(command, capture_output=True, text=True, env=cpu_environment(8), cwd=here, check=False)
    assert done.stdout.strip() == "equal", done.stderr[-2000:]
