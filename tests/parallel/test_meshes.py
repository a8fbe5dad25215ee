"""The same update on every mesh of virtual devices."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from child_processes import cpu_environment

ROOT = Path(__file__).resolve().parents[2]
MESHES = [sizes for sizes in product((1, 2, 4, 8), repeat=4) if sizes[0] * sizes[1] * sizes[2] * sizes[3] <= 8]
SINGLE_AXIS = [sizes for sizes in MESHES if max(sizes) == 8]
MIXED = [(2, 2, 1, 1), (2, 2, 2, 1), (1, 2, 2, 2), (2, 1, 1, 4)]  # each pair of axes is cut together in one of them
EVERY_OTHER = [sizes for sizes in MESHES if sizes not in [*SINGLE_AXIS, *MIXED] and max(sizes) > 1]

UPDATES = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from mentallama_jax.config import parse_config
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.parallel.mesh import make_mesh, use_mesh
from mentallama_jax.training import loss as loss_module
from mentallama_jax.training.data.batch_spec import PACKED_TOKENS
from mentallama_jax.training.mesh_placement import abstract_state, place_batch
from mentallama_jax.training.objectives.supervised import Supervised
from mentallama_jax.training.step import init_state, make_eval_step, make_train_step

loss_module.CHUNK_TOKENS = 96  # so that every device works through more than one chunk, the last one partly filled
TIED, REMAT = json.loads(sys.argv[1])
model = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_layers=2, num_heads=16, num_kv_heads=8,
                    head_dim=4, rms_norm_eps=1e-5, rope_theta=1e4, rope_scaling=None, tie_embeddings=TIED,
                    max_positions=128)
rows, length = 16, 128
random = np.random.default_rng(0)
arrays = PACKED_TOKENS.empty(rows, length)
for row in range(rows - 1):  # the last one is empty
    start = 0
    for segment in range(1, row % 4 + 2):
        size = int(random.integers(8, 32))
        place = slice(start, start + size)
        arrays["tokens"][row, place] = random.integers(1, 64, size)
        arrays["segment_ids"][row, place] = segment
        arrays["positions"][row, place] = np.arange(size)
        arrays["loss_mask"][row, start + int(random.integers(1, size)) : start + size] = 1
        start += size
arrays["micro_batches"] = np.array(2, np.int32)

def outcome(sizes):
    mesh = dict(zip(("data", "fsdp", "tensor", "sequence"), sizes))
    config = parse_config({
        "model": {"source": "toy", "weights": "random", "compute_dtype": "float32", "remat": REMAT},
        "data": {"train": ["sample"], "max_length": length},
        "optimizer": {"learning_rate": 1e-2, "clip_norm": None},  # so that the first moment is a tenth of the gradient
        "training": {"run_dir": "-", "steps": 10, "micro_batch_rows": 8}, "mesh": mesh}, "test")
    mesh = make_mesh(config.mesh, jax.devices()[: int(np.prod(sizes))])
    with use_mesh(mesh):
        objective = Supervised(model, config)
        shapes = abstract_state(objective, config, 10, mesh)
        shardings = jax.tree.map(lambda x: x.sharding, shapes)
        state = jax.device_put(init_state(objective, config, 10), shardings)
        batch = place_batch(arrays, 8, mesh)
        one = {name: value[:8] for name, value in arrays.items() if name != "micro_batches"}
        evaluated = make_eval_step(objective)(state["params"], {}, place_batch(one, 8, mesh))
        step = make_train_step(objective, config, 10, shardings)
        state, first = step(state, batch)
        moments = jax.device_get(state["opt_state"])
        state, second = step(state, batch)
        for got, want in zip(jax.tree.leaves(state), jax.tree.leaves(shardings), strict=True):
            assert got.sharding.is_equivalent_to(want, got.ndim), (got.sharding, want)
        assert step._cache_size() == 1
        return jax.device_get((first, second["loss"], moments, evaluated))

def difference(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return float(np.max([np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30) for a, b in pairs]))  # NaN stays NaN

plain = outcome((1, 1, 1, 1))
for sizes in json.loads(sys.argv[2]):
    print(json.dumps([sizes, difference(outcome(sizes), plain)]), flush=True)
"""


def run(code: str, *arguments: str, devices: int = 8) -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=cpu_environment(devices), check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
@pytest.mark.parametrize(
    ("meshes", "tied", "remat"),
    [
        pytest.param(SINGLE_AXIS, False, "full", id="one axis"),
        pytest.param(MIXED, True, "none", id="mixed axes"),
        pytest.param(EVERY_OTHER, False, "none", id="every other mixture", marks=pytest.mark.slow),
    ],
)
def test_an_update_is_the_same_on_every_mesh(meshes, tied, remat):
    """Loss, gradients (as the first moments of AdamW), the loss after them, and an evaluation.

    Parameters and later moments are left out: AdamW divides a gradient by its own size, rounding errors included.
    """
    lines = run(UPDATES, json.dumps([tied, remat]), json.dumps(meshes)).splitlines()
    differences = {tuple(sizes): difference for sizes, difference in map(json.loads, lines)}
    assert set(differences) == set(meshes)
    assert all(difference < 1e-5 for difference in differences.values()), differences


AS_ON_GPUS = """
from functools import partial
from mentallama_jax.models.attention import dispatch, gpu
from mentallama_jax.parallel.rules import current_mesh

gpu.segment_attention = partial(gpu.segment_attention, interpret=True)
dispatch.platform = lambda: "cpu" if current_mesh() is None else "gpu"
"""


@pytest.mark.slow
def test_the_kernel_for_gpus_gives_the_update_of_one_cpu_on_meshes():
    """Interpreted: its forward and backward passes on rows and heads cut by `shard_map`, and on exchanged tokens."""
    meshes = [(2, 2, 1, 1), (1, 2, 2, 2)]
    lines = run(AS_ON_GPUS + UPDATES, json.dumps([False, "attention"]), json.dumps(meshes)).splitlines()
    differences = {tuple(sizes): difference for sizes, difference in map(json.loads, lines)}
    assert set(differences) == set(meshes)
    assert all(0 < difference < 1e-5 for difference in differences.values()), differences
