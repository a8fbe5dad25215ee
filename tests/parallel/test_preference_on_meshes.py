"""Updates of DPO and GRPO on eight devices are those on one, rows, tokens and vocabulary cut."""

import subprocess
import sys
from pathlib import Path

import pytest
from child_processes import cpu_environment

CODE = """
import jax, numpy as np
from dataclasses import replace
from mentallama_jax.config import parse_config
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.parallel.mesh import make_mesh, use_mesh
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES
from mentallama_jax.training.mesh_placement import abstract_state, check_batch, place_batch
from mentallama_jax.training.objectives.of_config import objective_of
from mentallama_jax.training.step import init_state, make_train_step

small = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_layers": 2, "num_heads": 4,
         "num_kv_heads": 4, "head_dim": 8}
MODEL = replace(PRESETS["toy"], **small)

def outcome(kind, mesh):
    config = parse_config({
        "model": {"source": "x", "compute_dtype": "float32", "remat": "none"},
        "data": {"train": ["sample"], "max_length": 32},
        "objective": kind,
        "optimizer": {"learning_rate": 1e-2, "schedule": "constant", "warmup_fraction": 0.0},
        "training": {"run_dir": "-", "steps": 9, "batch_size": 8, "micro_batch_rows": 8},
        "evaluation": {"max_new_tokens": 8},
        "mesh": mesh,
    }, "test")
    where = make_mesh(config.mesh, jax.devices()[: 8 if len(mesh) > 1 else 1])
    check_batch(MODEL, config, where)
    objective = objective_of(MODEL, config)
    random = np.random.default_rng(0)
    arrays = objective.batch_spec.empty(8, 32)
    arrays["tokens"][:] = random.integers(0, 64, (8, 32))
    arrays["segment_ids"][:] = np.repeat([1, 2, 3, 4], [6, 9, 7, 10])
    arrays["positions"][:] = np.concatenate([np.arange(n) for n in (6, 9, 7, 10)])
    arrays["loss_mask"][:] = arrays["positions"] > 2
    for name, values in arrays.items():
        if values.dtype == np.float32:
            values[:] = random.normal(size=values.shape)
    with use_mesh(where):
        shapes = abstract_state(objective, config, 9, where)
        shardings = jax.tree.map(lambda x: x.sharding, shapes)
        state = jax.jit(lambda: init_state(objective, config, 9), out_shardings=shardings)()
        batch = place_batch(arrays | {MICRO_BATCHES: np.int32(1)}, 8, where, objective.batch_spec)
        step = make_train_step(objective, config, 9, shardings)
        figures = []
        for _ in range(2):
            state, metrics = step(state, batch)
            figures.append([float(metrics[name]) for name in sorted(metrics)])
    return np.array(figures)

for kind, mesh in (
    ({"kind": "dpo", "beta": 0.5}, {"fsdp": 2, "tensor": 2, "sequence": 2}),
    ({"kind": "grpo", "rewards": {"label": 1.0}, "beta": 0.04, "importance_sampling_level": "sequence"},
     {"data": 2, "fsdp": 2, "tensor": 2}),
):
    np.testing.assert_allclose(outcome(kind, mesh), outcome(kind, {"fsdp": 1}), rtol=2e-4, atol=1e-5)
print("equal")
"""


@pytest.mark.slow
def test_updates_are_the_same_on_every_mesh() -> None:
    command = [sys.executable, "-c", CODE]
    here = Path(__file__).parent
    done = subprocess.run(command, capture_output=True, text=True, env=cpu_environment(8), cwd=here, check=False)
    assert done.stdout.strip() == "equal", done.stderr[-2000:]
