"""Checkpoints: bit-equal round trips, retention, and every way in which a checkpoint can be incomplete."""

import json
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mentallama_jax.config import parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.training.checkpoints import (
    Checkpoints,
    complete_checkpoints,
    damage,
    find_checkpoint,
    load_params,
)


def make_state(seed: int) -> dict:
    keys = jax.random.split(jax.random.key(seed), 3)
    params = {"head": jax.random.normal(keys[0], (64, 32)), "norm": {"scale": jax.random.normal(keys[1], (32,))}}
    moments = jax.tree.map(lambda x: (x * 0.1).astype(jnp.bfloat16), params)
    return {"params": params, "opt_state": [moments, None, jnp.int32(seed)], "step": jnp.int32(seed)}


def abstract(state: dict) -> dict:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def assert_same(one: dict, other: dict) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def open_run(directory: Path, keep_last: int = 2, metric: str = "validation_loss") -> Checkpoints:
    sections = {
        "model": {"source": "toy"},
        "data": {"train": ["sample"]},
        "training": {"run_dir": "run", "steps": 1, "seed": 7},
        "evaluation": {"metric": metric, "generate_rows": 1},
        "checkpoint": {"keep_last": keep_last},
    }
    return Checkpoints(directory, parse_config(sections, "test"))


@pytest.fixture(scope="module")
def three_saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("three")
    with open_run(directory, keep_last=3) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, make_state(step))
    return directory


@pytest.fixture
def run(three_saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(three_saved, tmp_path / "checkpoints"))


def restore(directory: Path) -> tuple[int, dict, list[str]]:
    said: list[str] = []
    restored = open_run(directory, keep_last=3).restore(abstract(make_state(0)), said.append)
    assert restored is not None
    return restored[0].step, restored[1], said


def steps(directory: Path) -> list[int]:
    return [checkpoint.step for checkpoint in complete_checkpoints(directory)]


def test_a_restored_state_is_bit_equal_and_knows_its_config(run):
    step, state, said = restore(run)
    assert (step, said) == (3, [])
    assert_same(state, make_state(3))
    assert json.loads((run / "00000003" / "manifest.json").read_text())["config"]["training"]["seed"] == 7


def test_the_state_may_be_donated_while_it_is_being_saved(tmp_path):
    advance = jax.jit(lambda state: jax.tree.map(lambda x: x * 2 + 1, state), donate_argnums=0)
    state = {
        "params": {"w": jax.random.normal(jax.random.key(0), (1024, 1024))},
        "opt_state": jax.random.normal(jax.random.key(1), (1024, 1024)),
        "step": jnp.int32(0),
    }
    expected = jax.tree.map(lambda x: np.array(x, copy=True), state)
    shapes = abstract(state)
    with open_run(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        for _ in range(20):
            state = advance(state)
    restored = open_run(tmp_path).restore(shapes, print)
    assert restored is not None
    assert_same(restored[1], expected)


def test_parameters_alone_are_read_onto_the_dtype_and_sharding_asked_for(run):
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16, sharding=sharding), make_state(0)["params"]
    )
    params = load_params(find_checkpoint(run, 2, "validation_loss"), wanted)
    assert_same(params, jax.tree.map(lambda x: x.astype(jnp.bfloat16), make_state(2)["params"]))
    assert params["head"].sharding == sharding


def test_parameters_of_another_shape_are_refused_in_one_line(run):
    wanted = {"head": jax.ShapeDtypeStruct((64, 32), jnp.float32), "tail": jax.ShapeDtypeStruct((1,), jnp.float32)}
    with pytest.raises(UserError, match="00000003: cannot be read") as caught:
        load_params(find_checkpoint(run, "last", "validation_loss"), wanted)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep_last", [1, 2])
def test_last_and_best_are_kept(tmp_path, keep_last):
    scores = {1: 3.0, 2: 1.0, 3: 2.0, 4: 1.0, 5: 4.0}
    with open_run(tmp_path, keep_last) as checkpoints:
        for step, score in scores.items():
            checkpoints.save(step, make_state(step))
            checkpoints.add_scores(step, {"validation_loss": score, "label_f1": 1 / score})
        checkpoints.save(6, make_state(6))
    assert steps(tmp_path) == ([2, 6] if keep_last == 1 else [2, 5, 6])
    assert checkpoints.best.step == 2
    assert checkpoints.complete[-1].step == 6
    assert find_checkpoint(tmp_path, "best", "validation_loss").step == 2


def test_a_higher_label_f1_is_better(tmp_path):
    with open_run(tmp_path, keep_last=1, metric="label_f1") as checkpoints:
        for step, score in ((1, 0.2), (2, 0.9), (3, 0.5)):
            checkpoints.save(step, make_state(step))
            checkpoints.add_scores(step, {"validation_loss": score, "label_f1": score})
    assert steps(tmp_path) == [2, 3]


def test_scores_that_are_not_finite_cannot_choose(tmp_path):
    with open_run(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(1))
        with pytest.raises(ValueError, match="not finite"):
            checkpoints.add_scores(1, {"validation_loss": float("nan")})


def test_the_best_of_a_run_that_was_never_evaluated_is_its_last(run):
    assert find_checkpoint(run, "best", "validation_loss").step == 3


def test_choosing_a_step_that_is_not_there_names_those_that_are(run):
    with pytest.raises(UserError, match=r"no checkpoint of step 7 \(there are: 1, 2, 3"):
        find_checkpoint(run, 7, "validation_loss")


def test_an_empty_run_says_so(tmp_path):
    with pytest.raises(UserError, match="no complete checkpoint yet"):
        find_checkpoint(tmp_path, "best", "validation_loss")
    assert open_run(tmp_path).restore(abstract(make_state(0)), print) is None


def test_a_save_cut_off_half_way_is_passed_over_and_cleared(run):
    # What kill -9 leaves: orbax's folder under its temporary name, or the final folder without a manifest.
    (run / "00000002").rename(run / "00000009.orbax-checkpoint-tmp")
    (run / "00000003" / "manifest.json").unlink()
    step, state, said = restore(run)
    assert step == 1
    assert_same(state, make_state(1))
    assert len(said) == 2
    assert all("incomplete" in line for line in said)
    assert [path.name for path in run.iterdir()] == ["00000001"]


def every_listed_file(checkpoint: Path) -> list[str]:
    files = json.loads((checkpoint / "manifest.json").read_text())["files"]
    return sorted(name for name, size in files.items() if size)


@pytest.mark.parametrize("harm", ["delete", "empty", "half", "one byte short"])
def test_whatever_file_is_cut_off_the_one_before_is_used(three_saved, tmp_path, harm):
    for number, name in enumerate(every_listed_file(three_saved / "00000003")):
        run = Path(shutil.copytree(three_saved, tmp_path / str(number)))
        victim = run / "00000003" / name
        size = victim.stat().st_size
        if harm == "delete":
            victim.unlink()
        else:
            os.truncate(victim, {"empty": 0, "half": size // 2, "one byte short": size - 1}[harm])
        with pytest.raises(UserError, match="damaged"):
            find_checkpoint(run, 3, "validation_loss")
        step, state, said = restore(run)
        assert step == 2
        assert_same(state, make_state(2))
        assert len(said) == 1
        assert name in said[0]
        assert "damaged" in said[0]
        assert steps(run) == [1, 2]


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_files_of_the_right_size_that_cannot_be_read_are_damage_too(run, capfd):
    index = run / "00000003" / "params" / "manifest.ocdbt"
    index.write_bytes(bytes(index.stat().st_size))
    assert damage(complete_checkpoints(run)[-1]) is None
    step, state, said = restore(run)
    assert step == 2
    assert_same(state, make_state(2))
    assert len(said) == 1
    assert len(said[0]) < 400
    assert "Traceback" not in capfd.readouterr().err


def test_when_nothing_can_be_read_nothing_is_deleted(run):
    for step in (1, 2, 3):
        next((run / f"{step:08d}").glob("params/d/*")).unlink()
    with pytest.raises(UserError, match="no checkpoint can be read"):
        restore(run)
    assert steps(run) == [1, 2, 3]


def test_a_step_beyond_the_restored_one_can_be_saved_again(run):
    next((run / "00000003").glob("params/d/*")).unlink()
    with open_run(run, keep_last=3) as checkpoints:
        assert checkpoints.restore(abstract(make_state(0)), lambda line: None)[0].step == 2
        checkpoints.save(3, make_state(30))
    assert_same(restore(run)[1], make_state(30))


def test_a_failed_save_is_one_line_and_leaves_room(tmp_path, monkeypatch):
    from orbax.checkpoint import v1 as ocp

    class Full:
        def result(self):
            (tmp_path / "00000002.orbax-checkpoint-tmp").mkdir()
            raise OSError(28, "No space left on device")

    with open_run(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(1))
        checkpoints.wait()
        monkeypatch.setattr(ocp, "save_checkpointables_async", lambda *_: Full())
        checkpoints.save(2, make_state(2))
        with pytest.raises(UserError, match=r"00000002: the checkpoint could not be written .*space left.*make room"):
            checkpoints.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["00000001"]
