"""An encoder on eight devices computes what it computes on one, values and gradients."""

import subprocess
import sys
from pathlib import Path

import pytest
from child_processes import cpu_environment

CODE = """
import jax, jax.numpy as jnp, numpy as np
from mentallama_jax.config import MeshSection
from mentallama_jax.models.bert import BertConfig
from mentallama_jax.models.module import abstract_params, bind, init_params, param_dimensions
from mentallama_jax.parallel.mesh import make_mesh, use_mesh
from mentallama_jax.parallel.rules import tree_shardings

config = BertConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4, max_positions=32,
    position_offset=0, type_vocab_size=2, layer_norm_eps=1e-12, activation="gelu", pooler=True, num_labels=4,
    dropout=0.0, classifier_dropout=0.0)
source = np.random.default_rng(0)
tokens = source.integers(0, 64, (8, 32)).astype(np.int32)
segments = np.repeat([[1, 1, 2, 2, 2, 3, 3, 0]], 4, axis=1).reshape(1, 32).repeat(8, 0).astype(np.int32)
segments = np.sort(np.where(segments == 0, 9, segments), axis=1) % 9
places = np.stack([np.arange(32) - np.searchsorted(np.where(r == 0, 9, r), np.where(r == 0, 9, r)) for r in segments])
first = init_params(config, jax.random.key(0))
params = jax.tree.map(lambda x: x + 0.1 * source.normal(size=x.shape).astype(np.float32), first)

def loss(params):
    model = bind(config, params)
    hidden, _ = model.hidden(tokens, places, segments, dtype=jnp.float32, remat="full")
    return jnp.sum(jnp.sin(model.class_logits(hidden)) * (segments > 0)[..., None]), hidden * (segments > 0)[..., None]

def outcome(mesh):
    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    if mesh is None:
        return jax.device_get(step(params))
    mesh = make_mesh(MeshSection(**mesh))
    with use_mesh(mesh):
        where = tree_shardings(mesh, param_dimensions(config), abstract_params(config))
        return jax.device_get(step(jax.device_put(params, where)))

(_, hidden), gradients = outcome(None)
for mesh in ({"fsdp": 8}, {"data": 2, "fsdp": 2, "tensor": 2}, {"fsdp": 2, "tensor": 2, "sequence": 2}):
    (_, other), sharded = outcome(mesh)
    np.testing.assert_allclose(other, hidden, rtol=1e-4, atol=1e-5)
    for a, b in zip(jax.tree.leaves(sharded), jax.tree.leaves(gradients), strict=True):
        assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(b) + 1e-5, mesh
print("equal")
"""

FUSED = """
import sys
from mentallama_jax.models.attention import dispatch, gpu, tpu
from mentallama_jax.parallel.rules import current_mesh

used = set()

def interpreted(kernel):
    def attend(*arrays, **options):
        used.add(kernel.__name__)
        return kernel(*arrays, **options, interpret=True)
    return attend

tpu.splash_attention = interpreted(tpu.splash_attention)
gpu.segment_attention = interpreted(gpu.segment_attention)
dispatch.platform = lambda: "cpu" if current_mesh() is None else sys.argv[1]
"""


def outcome(code: str, *arguments: str) -> tuple[str, str]:
    """What a program for eight devices prints, and the end of its complaints."""
    command = [sys.executable, "-c", code, *arguments]
    here = Path(__file__).parent
    done = subprocess.run(command, capture_output=True, text=True, env=cpu_environment(8), cwd=here, check=False)
    return done.stdout.strip(), done.stderr[-2000:]


@pytest.mark.long
def test_an_encoder_is_the_same_on_every_mesh() -> None:
    printed, complaints = outcome(CODE)
    assert printed == "equal", complaints


@pytest.mark.long
@pytest.mark.parametrize(("platform", "kernel"), [("tpu", "splash_attention"), ("gpu", "segment_attention")])
def test_the_fused_kernels_give_the_encoder_of_one_cpu_on_every_mesh(platform: str, kernel: str) -> None:
    """Interpreted: on rows and heads cut by `shard_map`, and on exchanged tokens."""
    printed, complaints = outcome(FUSED + CODE + "print(*used)", platform)
    assert printed == f"equal\n{kernel}", complaints
