"""Checkpoints: bit-equal round trips, retention, and every way in which a checkpoint can be incomplete."""

import json
import os
import random
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mentallama_jax.config import parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.training.run import checkpoints as checkpoints_module
from mentallama_jax.training.run.checkpoints import (
    Checkpoints,
    best_of,
    find_checkpoint,
    load_params,
)
from mentallama_jax.training.run.manifest import Checkpoint, complete_checkpoints, damage, write_manifest


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
        "data": {"train": ["sample"], "validation": ["sample:val"]},
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


def test_of_equal_label_f1_the_lower_validation_loss_decides_and_then_the_earlier(tmp_path):
    losses = {1: 0.9, 2: 0.5, 3: 0.5, 4: 0.1}
    found = [
        Checkpoint(tmp_path / str(step), step, {"label_f1": 0.8 if step < 4 else 0.7, "validation_loss": loss})
        for step, loss in losses.items()
    ]
    assert best_of(found, "label_f1").step == 2
    assert best_of([*found, Checkpoint(tmp_path / "5", 5, {"label_f1": 0.8})], "label_f1").step == 2


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


def flip_a_bit(path: Path, place: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)


def test_one_flipped_bit_anywhere_is_found_and_the_one_before_is_used(three_saved, tmp_path, capfd):
    chance = random.Random(3)
    names = every_listed_file(three_saved / "00000003")
    for trial in range(24):
        run = Path(shutil.copytree(three_saved, tmp_path / str(trial)))
        name = names[trial % len(names)]
        flip_a_bit(run / "00000003" / name, chance.randrange(10**9), chance.randrange(8))
        assert damage(complete_checkpoints(run)[-1]) == f"{name} is not what was written (another checksum)"
        if name.startswith("params/"):  # all that export and generation read
            with pytest.raises(UserError, match="another checksum"):
                find_checkpoint(run, 3, "validation_loss")
        step, state, said = restore(run)
        assert (step, len(said)) == (2, 1)
        assert name in said[0]
        assert_same(state, make_state(2))
    assert "Traceback" not in capfd.readouterr().err


def without_checksums(checkpoint: Path) -> None:
    old = json.loads((checkpoint / "manifest.json").read_text())
    (checkpoint / "manifest.json").write_text(json.dumps({key: old[key] for key in ("step", "scores", "files")}))


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_checkpoint_of_an_older_version_is_used_and_said_to_have_no_checksums(run, capfd):
    for step in (1, 2, 3):
        without_checksums(run / f"{step:08d}")
    assert restore(run)[2] == [f"{run / '00000003'}: no checksums (an older version wrote it); only sizes are compared"]
    assert find_checkpoint(run, "last", "validation_loss").step == 3
    assert "no checksums" in capfd.readouterr().err
    index = run / "00000003" / "params" / "manifest.ocdbt"
    index.write_bytes(bytes(index.stat().st_size))  # only orbax finds that
    step, state, said = restore(run)
    assert step == 2
    assert_same(state, make_state(2))
    assert any("00000003: damaged checkpoint" in line for line in said)
    assert "Traceback" not in capfd.readouterr().err


def test_scores_can_be_added_to_a_checkpoint_and_its_manifest_stays_whole(run):
    with open_run(run, keep_last=3) as checkpoints:
        checkpoints.add_scores(2, {"validation_loss": 0.1})
    assert find_checkpoint(run, "best", "validation_loss").step == 2
    assert restore(run)[0] == 3


@pytest.mark.parametrize(
    "name", ["lr=[1e-5]", "a\\b", "a*b", "what?", "[!a]", "a#b", "50%20", "two words", "größe", "a{b,c}"]
)
def test_a_run_of_any_name_is_saved_and_read_back(tmp_path, name):
    directory = tmp_path / name / "checkpoints"
    with open_run(directory) as checkpoints:
        checkpoints.save(1, make_state(1))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert_same(restore(directory)[1], make_state(1))
    shapes = abstract(make_state(0))["params"]
    assert_same(load_params(find_checkpoint(directory, "last", "validation_loss"), shapes), make_state(1)["params"])


def test_what_cannot_be_read_back_is_no_checkpoint(tmp_path, monkeypatch, caplog):
    """orbax leaves out most of a checkpoint below such a name, and says so; it calls it saved."""
    monkeypatch.setattr(checkpoints_module, "_orbax_path", lambda path: str(path.absolute()))
    with open_run(tmp_path / "[a]") as checkpoints:
        checkpoints.save(1, make_state(1))
        with pytest.raises(UserError, match=r"could not be written \(params: array head cannot"):
            checkpoints.wait()
    assert list((tmp_path / "[a]").iterdir()) == []
    assert "Skipping merge" in caplog.text


def test_nothing_that_a_user_puts_there_is_removed(run):
    shutil.copytree(run / "00000002", run / "00000002.bak")
    shutil.copytree(run / "00000003", run / "00000003-good")
    (run / "notes").mkdir()
    (run / "notes" / "why.txt").write_text("the seed of table 3")
    (run / "20240101_results.txt").write_text("0.7")
    (run / "20240101").write_text("a file")
    (run / "00000009").mkdir()
    (run / "00000009.orbax-checkpoint-tmp").mkdir()
    names = {path.name for path in run.iterdir()}
    with open_run(run, keep_last=1) as checkpoints:
        assert checkpoints.restore(abstract(make_state(0)), lambda line: None)[0].step == 3
        checkpoints.save(4, make_state(4))
    mine = {"00000001", "00000002", "00000003", "00000009", "00000009.orbax-checkpoint-tmp"}
    assert {path.name for path in run.iterdir()} == names - mine | {"00000004"}
    assert (run / "00000003-good" / "manifest.json").is_file()


def altered(manifest: Path, harm: str) -> None:
    content = json.loads(manifest.read_text())
    if harm == "no JSON":
        manifest.write_text(manifest.read_text()[:-9])
    elif harm == "a flipped bit":
        flip_a_bit(manifest, manifest.read_text().index('"seed": 7') + 8, 0)
    elif harm == "a list":
        manifest.write_text("[]")
    elif harm == "a folder instead of it":
        manifest.unlink()
        manifest.mkdir()
    else:
        changes = {
            "another step": {"step": 10**9},
            "a wrong type": {"step": "3"},
            "a file outside": {"files": {"../../x": 1}, "checksums": {"../../x": ""}},
            "a missing checksum": {"checksums": {}},
            "a word as score": {"scores": {"validation_loss": "low"}},
        }
        write_manifest(manifest.parent, content | changes[harm])


@pytest.mark.parametrize(
    "harm",
    [
        *("no JSON", "a flipped bit", "a list", "a folder instead of it", "another step", "a wrong type"),
        *("a file outside", "a missing checksum", "a word as score"),
    ],
)
def test_a_manifest_that_cannot_be_believed_stops_the_run_and_nothing_is_removed(run, harm):
    altered(run / "00000003" / "manifest.json", harm)
    for read in (restore, lambda run: find_checkpoint(run, "best", "validation_loss")):
        with pytest.raises(UserError, match=r"00000003/manifest\.json: .*nothing is removed") as caught:
            read(run)
        assert "\n" not in str(caught.value)
    assert {path.name for path in run.iterdir()} == {"00000001", "00000002", "00000003"}


def test_a_manifest_without_rights_to_it_stops_the_run(run, monkeypatch):
    read = Path.read_bytes

    def refuse(path):
        if path == run / "00000003" / "manifest.json":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"manifest\.json: cannot be read \(Permission denied\); nothing is removed"):
        restore(run)
    assert (run / "00000003").is_dir()


def test_a_copy_under_the_name_of_another_step_stops_the_run(run):
    shutil.copytree(run / "00000003", run / "00000007")
    with pytest.raises(UserError, match="it is of step 3, not of this folder"):
        restore(run)
    assert (run / "00000007").is_dir()


def test_a_checkpoint_beyond_the_end_of_the_run_is_refused(run):
    with pytest.raises(UserError, match="00000003: the run has 2 updates only"):
        open_run(run).restore(abstract(make_state(0)), print, total_steps=2)
    assert (run / "00000003").is_dir()


def test_a_whole_checkpoint_that_does_not_fit_stops_the_run_and_stays(run):
    state = abstract(make_state(0))
    state["params"]["tail"] = jax.ShapeDtypeStruct((1,), jnp.float32, sharding=state["step"].sharding)
    with pytest.raises(UserError, match="its files are whole, and yet it cannot be read"):
        open_run(run).restore(state, print)
    assert steps(run) == [1, 2, 3]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_restored_tensor_that_is_not_finite_is_refused_by_name(tmp_path, value):
    state = make_state(1)
    state["params"]["norm"]["scale"] = state["params"]["norm"]["scale"].at[5].set(value)
    with open_run(tmp_path) as checkpoints:
        checkpoints.save(1, state)
    with pytest.raises(UserError, match=r"00000001: params\.norm\.scale holds NaN or infinity"):
        restore(tmp_path)
    with pytest.raises(UserError, match=r"00000001: norm\.scale holds NaN or infinity"):
        load_params(find_checkpoint(tmp_path, 1, "validation_loss"), abstract(state)["params"])


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
