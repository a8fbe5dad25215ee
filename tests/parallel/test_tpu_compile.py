"""The very training step, and encoders, compiled by the TPU compiler for chips that are not here."""

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


ENCODE = """
import json, re, sys
from functools import partial
import jax, jax.numpy as jnp
from jax.experimental import topologies
from mentallama_jax.config import MeshSection
from mentallama_jax.models.attention import Places, attention
from mentallama_jax.models.bert import BertConfig
from mentallama_jax.models.module import abstract_params, bind, param_dimensions
from mentallama_jax.parallel.mesh import make_mesh, use_mesh
from mentallama_jax.parallel.rules import sharding, tree_shardings

config = BertConfig(vocab_size=512, hidden_size=384, intermediate_size=512, num_layers=2, num_heads=6,
    max_positions=256, position_offset=0, type_vocab_size=2, layer_norm_eps=1e-12, activation="gelu", pooler=True,
    num_labels=4, dropout=0.0, classifier_dropout=0.0)
devices = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices
mesh = make_mesh(MeshSection(**json.loads(sys.argv[1])), devices)

def of(shape, dtype, *dimensions):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding(mesh, dimensions, shape, "array"))

def loss(params, tokens, places, segments):
    model = bind(config, params)
    hidden, _ = model.hidden(tokens, places, segments, dtype=jnp.bfloat16, remat="attention")
    return jnp.sum(jnp.sin(model.class_logits(hidden)))

def cross_gradients(q, k, v, weight, own, other):
    attend = partial(attention, places=Places(own, own), key_places=Places(other, other), causal=False)
    return jax.vjp(attend, q, k, v)[1](weight)

with use_mesh(mesh):
    shapes = abstract_params(config)
    where = tree_shardings(mesh, param_dimensions(config), shapes)
    params = jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), shapes, where)
    tokens = of((4, 250), jnp.int32, "batch", None)
    q, k = (of((4, length, 8, 64), jnp.bfloat16, "batch", "length", "heads", None) for length in (130, 250))
    own, other = (of((4, length), jnp.int32, "batch", "length") for length in (130, 250))
    programs = {
        "encoder": jax.jit(jax.grad(loss)).lower(params, tokens, tokens, tokens),
        "cross": jax.jit(cross_gradients).lower(q, k, k, q, own, other),
    }
    for name, lowered in programs.items():
        text = lowered.compile().as_text()
        scores = re.findall(r"(?:f32|bf16)\\[(?:\\d+,){2,}(?:250|256|130),(?:250|256)\\]", text)
        print(json.dumps({"name": name, "kernels": text.count("tpu_custom_call"), "scores": scores}))
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


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="the TPU compiler comes with the extra `tpu`")
@pytest.mark.parametrize("mesh", [{"fsdp": 4}, {"fsdp": 2, "tensor": 2}, {"data": 2, "sequence": 2, "fsdp": 1}])
def test_encoders_and_cross_attention_compile_for_tpus_with_their_kernels(mesh):
    environment = cpu_environment(**COMPILER_ENVIRONMENT)
    command = [sys.executable, "-c", ENCODE, json.dumps(mesh)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    programs = {found.pop("name"): found for found in map(json.loads, done.stdout.splitlines())}
    # Outputs, gradients of queries, gradients of keys and values; no scores.
    assert programs == {name: {"kernels": 3, "scores": []} for name in ("encoder", "cross")}
