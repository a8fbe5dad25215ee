"""A run that trains some of the parameters: what stays, what is counted, saved and resumed; on one device and eight."""

import json
import math
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from child_processes import cpu_environment

from mentallama_jax.jobs.tune import base_model
from mentallama_jax.models.module import count_params, init_params, merge_params, split_params
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.training import loop
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES, PACKED_TOKENS, full_rows
from mentallama_jax.training.objectives import of_config
from mentallama_jax.training.objectives.supervised import Supervised
from mentallama_jax.training.preflight import estimate_memory
from mentallama_jax.training.run.manifest import complete_checkpoints
from mentallama_jax.training.step import accumulated_gradients, init_state, make_train_step, model_params

TOY = PRESETS["toy"]


def norms_and_head(path: tuple[str, ...]) -> bool:
    return path[-1] == "scale" or path == ("head",)


def numbers(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_parts_are_put_together_again() -> None:
    params = init_params(TOY, jax.random.key(0))
    trained, frozen = split_params(params, norms_and_head)
    assert numbers(trained) + numbers(frozen) == count_params(TOY)
    assert 0 < numbers(trained) < numbers(frozen)
    whole = merge_params(trained, frozen)
    assert jax.tree.structure(whole) == jax.tree.structure(params)
    assert jax.tree.all(jax.tree.map(lambda a, b: a is b, whole, params))
    with pytest.raises(ValueError, match=r"final_norm\.scale is trained and frozen at once"):
        merge_params(trained, {"final_norm": {"scale": 0}})


@pytest.fixture
def config(tiny_config, tmp_path):
    return tiny_config(tmp_path / "run", optimizer={"weight_decay": 0.1, "learning_rate": 1e-2})


def test_frozen_bits_stay_and_moments_are_of_what_is_trained(config) -> None:
    objective = Supervised(TOY, config, norms_and_head)
    state = init_state(objective, config, 10)
    before = jax.tree.map(np.asarray, (state["params"], state["frozen"]))
    assert numbers(state["opt_state"]) == pytest.approx(2 * numbers(state["params"]), abs=8)  # and counters
    arrays = {name: jnp.asarray(value)[None] for name, value in full_rows(2, 32, TOY.vocab_size).items()}
    step = make_train_step(objective, config, 10)
    for _ in range(3):
        state, metrics = step(state, arrays | {MICRO_BATCHES: jnp.int32(1)})
    assert math.isfinite(float(metrics["loss"]))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), before[1], state["frozen"]))
    assert not any(
        bool((a == b).all()) for a, b in zip(*map(jax.tree.leaves, (before[0], state["params"])), strict=True)
    )


def test_the_gradient_is_that_part_of_the_whole_one(config) -> None:
    arrays = {name: jnp.asarray(value).reshape(2, 1, 32) for name, value in full_rows(2, 32, TOY.vocab_size).items()}
    batch = arrays | {MICRO_BATCHES: jnp.int32(2)}
    params = init_params(TOY, jax.random.key(0))
    _, whole, _ = jax.jit(lambda p: accumulated_gradients(Supervised(TOY, config), p, {}, batch))(params)
    objective = Supervised(TOY, config, norms_and_head)
    _, part, _ = jax.jit(lambda t, f: accumulated_gradients(objective, t, f, batch))(
        *split_params(params, norms_and_head)
    )
    wanted = split_params(whole, norms_and_head)[0]
    for got, want in zip(jax.tree.leaves(part), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_memory_counts_moments_and_gradients_of_what_is_trained(config) -> None:
    needs = []
    for trained in (lambda path: True, norms_and_head):
        shapes = jax.eval_shape(partial(init_state, Supervised(TOY, config, trained), config, 10))
        needs.append(estimate_memory(TOY, config, 4, 64, shapes))
    whole, part = needs
    share = numbers(split_params(init_params(TOY, jax.random.key(0)), norms_and_head)[0]) / count_params(TOY)
    assert part.params == whole.params
    assert part.activations == whole.activations
    for name in ("moments", "gradients", "checkpoint"):
        assert getattr(part, name) == pytest.approx(getattr(whole, name) * share, rel=0.01)


def test_answers_of_an_evaluation_take_a_second_copy_of_the_weights(tiny_config, tmp_path) -> None:
    quiet, asking = (tiny_config(tmp_path / "run", evaluation={"generate_rows": rows}) for rows in (0, 4))
    shapes = jax.eval_shape(partial(init_state, Supervised(TOY, quiet), quiet, 10))
    without, need = (estimate_memory(TOY, config, 4, 64, shapes) for config in (quiet, asking))
    assert without.answers == 0
    assert need.answers > 4 * count_params(TOY)
    assert need.total == need.params + need.moments + max(need.gradients + need.activations, need.answers)


@pytest.mark.long
def test_a_run_resumes_exactly_and_its_checkpoints_hold_no_frozen_part(
    config, tiny_config, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_config, "Supervised", partial(Supervised, trained=norms_and_head))
    base = base_model(config)
    whole = loop.train(config, base)
    other = tiny_config(tmp_path / "stopped", optimizer={"weight_decay": 0.1, "learning_rate": 1e-2})
    make = loop.make_train_step

    def stops_at_5(*arguments):
        step = make(*arguments)

        def stopping(state, batch):
            if int(state["step"]) == 4:
                signal.raise_signal(signal.SIGTERM)
            return step(state, batch)

        stopping._cache_size = step._cache_size
        return stopping

    with monkeypatch.context() as patch:
        patch.setattr(loop, "make_train_step", stops_at_5)
        assert loop.train(other, base).stopped_by == "SIGTERM"
    resumed = loop.train(other, base)
    assert resumed.steps == whole.steps == 12
    lines = [
        [row for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if row["kind"] == "train"]
        for run in (whole.run_dir, resumed.run_dir)
    ]
    assert [row["loss"] for row in lines[0]] == [row["loss"] for row in lines[1]]
    last = complete_checkpoints(resumed.run_dir / "checkpoints")[-1]
    assert last.data_state == {"step": 12}
    names = (last.path / "params" / "_METADATA").read_text()
    assert "final_norm" in names
    assert "embedding" not in names


ON_EIGHT_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from mentallama_jax.config import parse_config
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.parallel.mesh import make_mesh, use_mesh
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES, full_rows
from mentallama_jax.training.mesh_placement import abstract_state, place_batch
from mentallama_jax.training.objectives.supervised import Supervised
from mentallama_jax.training.step import init_state, make_train_step

toy = PRESETS["toy"]
arrays = full_rows(16, 64, toy.vocab_size) | {MICRO_BATCHES: np.asarray(2, np.int32)}
trained = lambda path: path[-1] == "scale" or path == ("head",)
outcomes = []
for sizes in ({"fsdp": 1}, {"data": 2, "fsdp": 2, "tensor": 2}):
    config = parse_config({"model": {"source": "toy", "weights": "random", "compute_dtype": "float32"},
        "data": {"train": ["x"], "max_length": 64}, "mesh": sizes, "optimizer": {"learning_rate": 1e-2},
        "training": {"run_dir": "-", "steps": 10, "micro_batch_rows": 8}}, "test")
    mesh = make_mesh(config.mesh, jax.devices()[:8 if len(sizes) > 1 else 1])
    objective = Supervised(toy, config, trained)
    with use_mesh(mesh):
        shapes = abstract_state(objective, config, 10, mesh)
        shardings = jax.tree.map(lambda x: x.sharding, shapes)
        state = jax.device_put(init_state(objective, config, 10), shardings)
        step = make_train_step(objective, config, 10, shardings)
        for _ in range(2):
            state, metrics = step(state, place_batch(arrays, 8, mesh))
        assert step._cache_size() == 1
        for got, want in zip(jax.tree.leaves(state), jax.tree.leaves(shardings), strict=True):
            assert got.sharding.is_equivalent_to(want, got.ndim)
    outcomes.append((float(metrics["loss"]), jax.device_get((state["params"], state["frozen"]))))
(one, params), (other, sharded) = outcomes
assert abs(one - other) < 1e-5 * abs(one), (one, other)
for a, b in zip(jax.tree.leaves(params[0]), jax.tree.leaves(sharded[0]), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
for a, b in zip(jax.tree.leaves(params[1]), jax.tree.leaves(sharded[1]), strict=True):
    np.testing.assert_array_equal(a, b)
print("equal")
"""


@pytest.mark.long
def test_eight_devices_train_the_same_part() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ON_EIGHT_DEVICES],
        capture_output=True,
        text=True,
        env=cpu_environment(8),
        cwd=Path(__file__).parent,
    )
    assert done.stdout.strip() == "equal", done.stderr[-2000:]


def test_model_params_are_all_of_them(config) -> None:
    state = init_state(Supervised(TOY, config, norms_and_head), config, 10)
    assert jax.tree.structure(model_params(state)) == jax.tree.structure(init_params(TOY, jax.random.key(0)))
    assert set(PACKED_TOKENS.names) == {"tokens", "segment_ids", "positions", "loss_mask"}
