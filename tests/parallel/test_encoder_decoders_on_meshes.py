"""An encoder-decoder on eight devices computes what it computes on one, values and gradients."""

import subprocess
import sys
from pathlib import Path

import pytest
from child_processes import cpu_environment

MODELS = {
    "bart": """BartConfig(vocab_size=64, hidden_size=32, encoder_layers=2, decoder_layers=2, encoder_heads=4,
    decoder_heads=4, encoder_intermediate=48, decoder_intermediate=48, max_positions=30, activation="gelu",
    scale_embedding=False, logits_bias=True, dropout=0.0, pad_id=1, start_id=2, end_id=2)""",
    "t5": """T5Config(vocab_size=64, hidden_size=32, head_dim=8, intermediate_size=48, encoder_layers=2,
    decoder_layers=2, num_heads=4, buckets=8, max_distance=16, layer_norm_eps=1e-6, activation="gelu_new", gated=True,
    tie_embeddings=False, scale_outputs=False, dropout=0.0, pad_id=0, start_id=0, end_id=1)""",
}
CODE = """
import jax, jax.numpy as jnp, numpy as np
from mentallama_jax.config import MeshSection
from mentallama_jax.models.attention import Places
from mentallama_jax.models.bart import BartConfig
from mentallama_jax.models.t5 import T5Config
from mentallama_jax.models.module import abstract_params, bind, init_params, param_dimensions
from mentallama_jax.parallel.mesh import make_mesh, use_mesh
from mentallama_jax.parallel.rules import tree_shardings

config = MODEL
source = np.random.default_rng(0)

def rows(segments, length):
    segments = np.array(segments, np.int32)[None].repeat(8, 0)
    order = np.where(segments == 0, 9, segments)
    places = np.stack([np.arange(length) - np.searchsorted(row, row) for row in order])
    return source.integers(0, 64, (8, length)).astype(np.int32), Places(places.astype(np.int32), segments)

sources, source_places = rows([1] * 7 + [2] * 13 + [3] * 8 + [0] * 4, 32)
targets, target_places = rows([1] * 5 + [2] * 6 + [3] * 3 + [0] * 2, 16)
real = (target_places.segment_ids_BT > 0)[..., None]
first = init_params(config, jax.random.key(0))
params = jax.tree.map(lambda x: x + 0.1 * source.normal(size=x.shape).astype(np.float32), first)

def loss(params):
    model = bind(config, params)
    memory = model.encode(sources, source_places, dtype=jnp.float32, remat="full")
    hidden = model.decode(targets, target_places, memory, source_places, dtype=jnp.float32, remat="full")
    return jnp.sum(jnp.sin(model.logits(hidden)) * real), hidden * real

def outcome(mesh):
    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    if mesh is None:
        return jax.device_get(step(params))
    mesh = make_mesh(MeshSection(**mesh))
    with use_mesh(mesh):
        where = tree_shardings(mesh, param_dimensions(config), abstract_params(config))
        return jax.device_get(step(jax.device_put(params, where)))

(_, hidden), gradients = outcome(None)
assert np.isfinite(hidden).all()
for mesh in ({"fsdp": 8}, {"data": 2, "fsdp": 2, "tensor": 2}, {"fsdp": 2, "tensor": 2, "sequence": 2}):
    (_, other), sharded = outcome(mesh)
    np.testing.assert_allclose(other, hidden, rtol=1e-4, atol=1e-5)
    for a, b in zip(jax.tree.leaves(sharded), jax.tree.leaves(gradients), strict=True):
        assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(b) + 1e-5, mesh
print("equal")
"""


@pytest.mark.long
@pytest.mark.parametrize("model", MODELS)
def test_an_encoder_decoder_is_the_same_on_every_mesh(model: str) -> None:
    command = [sys.executable, "-c", CODE.replace("MODEL", MODELS[model])]
    here = Path(__file__).parent
    done = subprocess.run(command, capture_output=True, text=True, env=cpu_environment(8), cwd=here, check=False)
    assert done.stdout.strip() == "equal", done.stderr[-2000:]
