"""The same answers and label scores on every mesh of virtual devices."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from child_processes import cpu_environment
from tiny_decoder import shape

from mentallama_jax.config import MeshSection
from mentallama_jax.errors import UserError
from mentallama_jax.generation.answers_while_training import axes_while_training
from mentallama_jax.generation.placement import param_shardings
from mentallama_jax.models.module import count_params
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.parallel.mesh import make_mesh
from mentallama_jax.planning.compilation import COMPILER_ENVIRONMENT

ENOUGH_FOR_HALF = 8 * (4 * count_params(shape(num_heads=8, num_kv_heads=4, tie_embeddings=True, num_layers=2)) // 2)
"""Bytes of a device of which an eighth is half of the weights of `ANSWERS`."""
ROOT = Path(__file__).resolve().parents[2]
MESHES = [(1, 2, 1), (1, 1, 2), (4, 1, 1), (1, 2, 2), (1, 8, 1), (2, 2, 2), (2, 1, 4)]

ANSWERS = """
import json, sys
from contextlib import nullcontext
import jax, jax.numpy as jnp, numpy as np
from tiny_decoder import random_params, random_prompts, shape
from mentallama_jax.config import MeshSection
from mentallama_jax.generation import shared_beginnings
from mentallama_jax.generation.answers_while_training import holding
from mentallama_jax.generation.engine import Engine, Request, Settings
from mentallama_jax.generation.placement import param_shardings
from mentallama_jax.generation.sampling import Sampling
from mentallama_jax.parallel.mesh import make_mesh, use_mesh

shared_beginnings._LEAST_SAVED = 64
config = shape(num_heads=8, num_kv_heads=4, tie_embeddings=True, num_layers=2)
prompts = random_prompts([5, 17, 40, 9, 2])
beginning = random_prompts([70], seed=4)[0]
prompts += [[*beginning, 3], [*beginning, 4, 5]]
candidates = [[[3, 4, 5], [6, 7]]] * 3

def outcome(mesh):
    params = random_params(config)
    with nullcontext() if mesh is None else use_mesh(mesh):
        if mesh is not None:
            params = jax.device_put(params, param_shardings(config, mesh))
        engine = Engine(config)
        engine.update(params)
        out = []
        for sampling in (Sampling(), Sampling(1.5, 20, 0.9, 0.01, 1.2)):
            found = {}
            for batch in engine.answers(prompts, [str(row) for row in range(len(prompts))],
                                        Settings(8, sampling, batch_size=8), (5, 9)):
                found |= batch
            out.append([list(found[row].tokens) for row in range(len(prompts))])
        decoding, found, sizes = engine.decoding(8, fewer=(1, 4)), {}, []
        decoding.drafts.worth = 0.0
        for row, prompt in enumerate(prompts):
            decoding.submit(Request(prompt, str(row), Settings(8), (5, 9)))
            if row in (0, 1, 6):
                found |= {event.request: event.answer for event in decoding.step(2) if event.answer}
                sizes.append(len(decoding.slots.logits_BV))
        found |= {event.request: event.answer for events in decoding.run() for event in events if event.answer}
        assert [list(found[row].tokens) for row in range(len(prompts))] == out[0]
        assert [sizes[0], sizes[-1]] == [decoding.sizes[0], 8], sizes
        batches = engine.scores(prompts[:3], candidates, Settings(batch_size=3), (2, 3))
        scores = {place: row.tolist() for batch in batches for place, row in batch.items()}
        decoding = engine.decoding(8)
        for row, prompt in enumerate(prompts):
            decoding.submit(Request(prompt, str(row)))
        decoding.step(2)
        layer = decoding.slots.cache[0]
        share = [max(s.data.size for s in x.addressable_shards) / x.size
                 for x in (layer.keys_BKHS, layer.values_BKSH, engine.weights.layers[0].mlp.gate[...])]
    return out, [scores[row] for row in range(3)], share

def while_training(sizes, memory):
    # Greedy answers from weights that training has cut along fsdp, and how the engine has cut them.
    mesh = make_mesh(MeshSection(**sizes))
    with use_mesh(mesh):
        params = jax.device_put(random_params(config), param_shardings(config, mesh))
        engine = Engine(config)
        with holding(engine, params, memory):
            found = {}
            for batch in engine.answers(prompts, [str(row) for row in range(len(prompts))],
                                        Settings(8, batch_size=8), (5, 9)):
                found |= batch
            used = engine.weights.layers[0].mlp.gate[...].sharding.mesh.shape
        kept = params["layers"]["mlp"]["gate"]
        assert not kept.is_deleted() and kept.sharding.mesh == mesh
    return [list(found[row].tokens) for row in range(len(prompts))], [used[axis] for axis in ("data", "fsdp", "tensor")]

result = [outcome(None)]
for sizes, memory in json.loads(sys.argv[1])["training"]:
    result.append(while_training(sizes, memory))
for data, fsdp, tensor in json.loads(sys.argv[1])["meshes"]:
    result.append(outcome(make_mesh(MeshSection(data=data, fsdp=fsdp, tensor=tensor))))
print(json.dumps(result))
"""

COMPILE = """
import json, sys
import jax.numpy as jnp
from jax.experimental import topologies
from mentallama_jax.config import MeshSection
from mentallama_jax.generation.lowering import lower_answers
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.parallel.mesh import make_mesh, use_mesh

devices = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices
mesh = make_mesh(MeshSection(**json.loads(sys.argv[1])), devices)
with use_mesh(mesh):
    work = {"rows": 8, "prompt": 128, "new_tokens": 32, "dtype": jnp.bfloat16}
    lowered = [*lower_answers(PRESETS["toy"], mesh, **work)]
    lowered.append(lower_answers(PRESETS["toy"], mesh, **work, drafts=3).decode)
print(min(one.compile().memory_analysis().argument_size_in_bytes for one in lowered))
"""

PROGRAMS = """
import json, re, sys
import jax, jax.numpy as jnp, numpy as np
from tiny_decoder import random_params, random_prompts, shape
from mentallama_jax.config import MeshSection
from mentallama_jax.generation import decoding as module, lowering as absent_module
from mentallama_jax.generation.engine import Engine, Request, Settings
from mentallama_jax.generation.lowering import lower_answers
from mentallama_jax.generation.placement import param_shardings
from mentallama_jax.parallel.mesh import make_mesh, use_mesh

texts = {}
module.FULL = absent_module.FULL = 64  # small packs

def lowering(name):
    function = getattr(module, name)
    def called(*arguments, **fixed):
        texts.setdefault(name, function.lower(*arguments, **fixed).as_text())
        return function(*arguments, **fixed)
    return called

def cut(text, mesh):  # an axis of one device cuts nothing, and the compiler may name it or not
    single = "|".join(axis for axis, size in mesh.shape.items() if size == 1)
    return re.sub(rf'"(?:{single})", (?=")|, "(?:{single})"(?=[,}}])', "", text)

for name in ("read", "decode", "append"):
    setattr(module, name, lowering(name))
for tied in (True, False):
    config = shape(num_heads=8, num_kv_heads=4, tie_embeddings=tied, intermediate_size=32)
    for sizes in json.loads(sys.argv[1]):
        texts.clear()
        mesh = make_mesh(MeshSection(**sizes))
        with use_mesh(mesh):
            params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), random_params(config))  # as they are loaded
            how = {"int8_cache": tied, "int8_weights": tied, "drafts": 0 if tied else 3}
            engine = Engine(config, jnp.bfloat16, **how)
            engine.update(jax.device_put(params, param_shardings(config, mesh)))
            decoding = engine.decoding(8)
            decoding.drafts.worth = 0.0
            for row, prompt in enumerate(random_prompts([60] * 9)):
                decoding.submit(Request(prompt, str(row), Settings(8)))
            decoding.step(2)
            decoding.step(2)
            absent = lower_answers(config, mesh, rows=8, prompt=60, new_tokens=8, dtype=jnp.bfloat16, **how)
        for name, text in texts.items():
            assert cut(text, mesh) == cut(getattr(absent, name).as_text(), mesh), (name, sizes)
print("equal")
"""


def run(program: str, argument: object, devices: int, **variables: str) -> str:
    path = f"{ROOT}:{ROOT / 'tests/generation'}"
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(argument)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=cpu_environment(devices, PYTHONPATH=path, **variables),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def compare(meshes: list[tuple[int, int, int]], training: Sequence[tuple[dict[str, int], int, list[int]]] = ()) -> None:
    asked = {"meshes": meshes, "training": [(sizes, memory) for sizes, memory, _ in training]}
    alone, *others = json.loads(run(ANSWERS, asked, 8))
    for (tokens, used), (_, _, expected) in zip(others, training, strict=False):
        assert tokens == alone[0][0]
        assert used == expected
    others = others[len(training) :]
    for (data, fsdp, tensor), (tokens, scores, share) in zip(meshes, others, strict=True):
        assert tokens == alone[0]
        assert scores == [pytest.approx(row, abs=1e-4, rel=1e-5) for row in alone[1]]
        cached = 1 / (data * fsdp * tensor)
        assert share == pytest.approx([cached, cached, 1 / (fsdp * tensor)])


@pytest.mark.long
def test_answers_and_scores_equal_those_of_one_device() -> None:
    compare([(1, 2, 2), (2, 1, 4)])


@pytest.mark.slow
def test_answers_and_scores_on_every_mesh() -> None:
    """Training lays its weights out as few devices as hold them; where nothing is known of memory, not at all."""
    training = [
        ({"fsdp": 8}, 0, [1, 8, 1]),
        ({"fsdp": 8}, 2**30, [8, 1, 1]),
        ({"fsdp": 4, "tensor": 2}, ENOUGH_FOR_HALF, [4, 1, 2]),
        ({"fsdp": 8}, 1, [2, 1, 4]),  # the key/value heads are four
    ]
    compare(MESHES, training)


def test_weights_of_training_are_cut_along_tensor_no_more_than_memory_asks_for() -> None:
    seven, sizes = PRESETS["llama2-7b"], {"data": 1, "fsdp": 64, "tensor": 1, "sequence": 1}
    v5e = 16 * 2**30
    assert axes_while_training(seven, "bfloat16", sizes, v5e) == {"data": 8, "fsdp": 1, "tensor": 8, "sequence": 1}
    assert axes_while_training(seven, "float32", sizes, v5e)["tensor"] == 16
    assert axes_while_training(PRESETS["toy"], "bfloat16", sizes, v5e)["data"] == 64
    assert axes_while_training(seven, "bfloat16", {**sizes, "fsdp": 4}, v5e)["tensor"] == 4  # there are no more
    shared = axes_while_training(seven, "bfloat16", {**sizes, "fsdp": 16, "tensor": 4, "data": 2}, v5e)
    assert (shared["data"], shared["fsdp"], shared["tensor"]) == (16, 1, 8)


def test_a_mesh_that_cannot_answer_is_refused() -> None:
    from jax.sharding import AbstractMesh

    def mesh(**sizes: int) -> AbstractMesh:
        sizes = {"data": 1, "fsdp": 1, "tensor": 1, "sequence": 1} | sizes
        return AbstractMesh(tuple(sizes.values()), tuple(sizes))

    with pytest.raises(UserError, match=r"layers\.attention\.key .* heads dimension of 2 .* tensor 4"):
        param_shardings(shape(), mesh(tensor=4))
    with pytest.raises(UserError, match="sequence"):
        param_shardings(shape(), mesh(sequence=2))
    assert param_shardings(shape(), make_mesh(MeshSection(fsdp=1)))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="the TPU compiler comes with the extra `tpu`")
@pytest.mark.parametrize("mesh", [{"fsdp": 2, "tensor": 2}, {"data": 2, "tensor": 2, "fsdp": 1}])
def test_the_program_compiles_for_tpus(mesh: dict[str, int]) -> None:
    assert int(run(COMPILE, mesh, 1, **COMPILER_ENVIRONMENT)) > 0


@pytest.mark.long
def test_what_is_lowered_for_absent_devices_is_what_answers() -> None:
    meshes = [{"fsdp": 2, "tensor": 4}, {"fsdp": 2, "tensor": 2, "data": 2}]
    assert run(PROGRAMS, meshes, 8).split() == ["equal"]
