"""Who may write to a run directory, and when a run may be resumed."""

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.formats.fingerprint import source_fingerprint
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.models.registry import model_config_from_json
from mentallama_jax.models.rotary import RopeScaling
from mentallama_jax.training.data.tokens import TokenStore
from mentallama_jax.training.run import run_directory
from mentallama_jax.training.run.opened_run import load_run
from mentallama_jax.training.run.run_directory import RunDirectory, data_fingerprint

ROOT = Path(__file__).resolve().parents[2]
FACTS = {"fingerprints": {"train": "aa", "validation": "bb"}, "train": {"examples": 3}}

HOLD = """
import sys, time
from mentallama_jax.training.run.run_directory import RunDirectory
with RunDirectory(sys.argv[1]).locked():
    print("held", flush=True)
    time.sleep(600)
"""


class NoTokenizer:
    def save(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)


def with_a_checkpoint(run: RunDirectory) -> None:
    folder = run.checkpoints / "00000004"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"step": 4, "scores": {}, "files": {}}))


def prepare(run: RunDirectory, config, model=PRESETS["toy"], facts=FACTS) -> list[str]:
    said: list[str] = []
    with run.locked():
        run.prepare(config, model, facts, NoTokenizer(), said.append)
    return said


def test_two_processes_in_one_directory_are_refused_until_the_first_is_gone(tmp_path):
    run = RunDirectory(tmp_path / "run")
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"run: process {holder.pid} on .* is training here"), run.locked():
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    with run.locked():
        assert f"process {os.getpid()} " in (run.path / "run.lock").read_text()


def test_a_folder_with_other_things_is_not_taken_for_a_run(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with (
        pytest.raises(UserError, match=r"not a run directory \(it holds thesis.tex\)"),
        RunDirectory(tmp_path).locked(),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_path_that_cannot_be_a_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/run: cannot be used"), RunDirectory(tmp_path / "file" / "run").locked():
        pass


def test_what_killed_processes_left_is_no_reason_to_refuse_and_is_removed(tmp_path):
    """A kill while config.json is first written leaves nothing but its temporary."""
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    for name in (".config.json.k2j1abcd.tmp", ".data.json.0a1b2c3d-17-99-ffff0000.mentallama.tmp", ".log.txt.x.tmp"):
        (run.path / name).write_text("{")
    (run.path / ".tokenizer.1234.tmp").mkdir()
    (run.path / ".tokenizer.1234.tmp" / "tokenizer.json").write_text("{}")
    with run.locked():
        assert [path.name for path in run.path.iterdir()] == ["run.lock"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".thesis.tex.1234.tmp").write_text("years of work")
    with (
        pytest.raises(UserError, match=r"not a run directory \(it holds .thesis.tex.1234.tmp\)"),
        RunDirectory(tmp_path / "mine").locked(),
    ):
        pass
    assert (tmp_path / "mine" / ".thesis.tex.1234.tmp").is_file()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    said = []
    with RunDirectory(tmp_path / "run").locked(said.append):
        pass
    assert len(said) == 1
    assert "this file system has no locks" in said[0]


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.EAGAIN, "process 7 on there is training here"), (errno.EIO, r"run.lock: cannot be locked \(Input/output")],
)
def test_only_a_lock_that_is_held_says_that_somebody_trains(tmp_path, monkeypatch, number, message):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.lock").write_text("process 7 on there")
    with pytest.raises(UserError, match=message), RunDirectory(tmp_path / "run").locked():
        pass


def test_a_home_in_the_name_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert RunDirectory("~/run").path == tmp_path / "run"


@pytest.fixture
def from_a_folder(tiny_config, tiny_model, tmp_path):
    """A config for the same run from a model of any place, and the fingerprint that goes with it."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    content = bytes(range(256)) * 4000
    (tmp_path / "base" / "model.safetensors").write_bytes(content)

    def make(source):
        config = tiny_config(tmp_path / "run", model={"source": str(source), "weights": "pretrained"})
        return config, lambda: source_fingerprint(str(source))

    return make


def resume(run, config, fingerprint):
    with run.locked():
        run.prepare(config, PRESETS["toy"], FACTS, NoTokenizer(), print, fingerprint)


def test_a_model_that_moved_or_is_written_another_way_is_the_same(from_a_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    run = RunDirectory(tmp_path / "run")
    resume(run, *from_a_folder("base"))
    with_a_checkpoint(run)
    for place in ("./base", "base/", str(tmp_path / "base"), "~/base", "base/../base"):
        resume(run, *from_a_folder(place))
    shutil.move(tmp_path / "base", tmp_path / "elsewhere")
    resume(run, *from_a_folder("elsewhere"))
    assert json.loads(run.config.read_text())["model"]["source"] == "elsewhere"


def test_other_weights_of_the_same_shape_are_another_model(from_a_folder, tmp_path):
    run = RunDirectory(tmp_path / "run")
    resume(run, *from_a_folder(tmp_path / "base"))
    with_a_checkpoint(run)
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "base", other)
    content = bytearray((other / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (other / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"another recipe \(model.source was .*base, is .*other\)"):
        resume(run, *from_a_folder(other))


def test_a_run_of_an_older_version_compares_the_places(from_a_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunDirectory(tmp_path / "run")
    resume(run, *from_a_folder("base"))
    with_a_checkpoint(run)
    run.data.write_text(json.dumps(FACTS))
    resume(run, *from_a_folder("./base"))
    run.data.write_text(json.dumps(FACTS))
    shutil.copytree("base", "copy")
    with pytest.raises(UserError, match=r"model.source was ./base, is copy"):
        resume(run, *from_a_folder("copy"))


PAIRS = {"kind": "dpo"}
ANSWERS = {"kind": "grpo", "rewards": {"label": 1.0}, "num_generations": 2}
UNWATCHED = {"data": {"validation": []}}
WATCHED = {"evaluation": {"generate_rows": 3, "metric": "reward", "max_new_tokens": 12}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, ""),
        ({"objective": PAIRS | {"loss_type": "sft"}}, ""),
        ({"objective": ANSWERS} | UNWATCHED, ""),
        ({"objective": PAIRS}, "compares answers with the weights that it started from, which are others than"),
        ({"objective": PAIRS | {"loss_type": "ipo"}}, "compares answers with the weights that it started from"),
        ({"objective": ANSWERS | {"beta": 0.1}} | UNWATCHED, "compares answers with the weights that it started from"),
        ({"objective": ANSWERS} | WATCHED, "compares answers with the weights that it started from"),
        ({"adapter": {"rank": 2}}, "adapts other weights than"),
        ({"adapter": {"rank": 2}, "objective": PAIRS | {"loss_type": "sft"}}, "adapts other weights than"),
    ],
)
def test_a_run_that_reads_its_start_goes_on_from_no_other_weights(tmp_path, tiny_config, changes, message):
    """Whatever else `model.source` holds under the same name, such as a run whose best checkpoint is a later one."""
    source = tmp_path / "source"
    source.mkdir()
    model = {"source": str(source), "weights": "pretrained"}
    config = tiny_config(tmp_path / "run", **{"model": model, "evaluation": {"max_new_tokens": 12}} | changes)
    run = RunDirectory(tmp_path / "run")
    run.check_start(config, lambda: "other")
    resume(run, config, lambda: "first")
    run.check_start(config, lambda: "other")  # there is no checkpoint yet
    with_a_checkpoint(run)
    for fingerprint in (lambda: "first", None):
        run.check_start(config, fingerprint)
    if not message:
        run.check_start(config, lambda: "other")
        return
    ending = "; put them back, or name another training.run_dir"
    with pytest.raises(UserError, match=rf"run: this run {message}.* {source} holds now{ending}$"):
        run.check_start(config, lambda: "other")
    (source / "model_config.json").write_text("{}")
    with pytest.raises(UserError, match=rf"holds now \(of a run directory the best checkpoint counts\){ending}$"):
        run.check_start(config, lambda: "other")


def test_another_recipe_is_refused_with_the_difference(tmp_path, tiny_config):
    run = RunDirectory(tmp_path / "run")
    prepare(run, tiny_config(run.path))
    with_a_checkpoint(run)
    changed = tiny_config(run.path, optimizer={"learning_rate": 2e-3}, training={"batch_size": 8, "epochs": 3})
    before = run.config.read_text()
    with pytest.raises(UserError) as caught:
        prepare(run, changed)
    message = str(caught.value)
    assert "optimizer.learning_rate was 0.001, is 0.002" in message
    assert "training.batch_size was 16, is 8" in message
    assert "training.epochs was 2.0, is 3.0" in message
    assert "\n" not in message
    assert run.config.read_text() == before


def test_what_does_not_change_the_recipe_may_change(tmp_path, tiny_config):
    run = RunDirectory(tmp_path / "run")
    prepare(run, tiny_config(run.path))
    with_a_checkpoint(run)
    changed = tiny_config(
        run.path,
        model={"remat": "full"},
        data={"train": ["moved"], "cache_dir": "elsewhere"},
        training={"log_every": 7, "compile_cache_dir": None},
        evaluation={"every_steps": 3},
        checkpoint={"every_steps": 1, "keep_last": 5},
    )
    prepare(run, changed)
    assert json.loads(run.config.read_text()) == changed.model_dump(mode="json")


def test_other_data_is_refused_even_under_the_same_path(tmp_path, tiny_config):
    run = RunDirectory(tmp_path / "run")
    prepare(run, tiny_config(run.path))
    with_a_checkpoint(run)
    other = {"fingerprints": {"train": "cc", "validation": "bb"}, "train": {"examples": 4}}
    with pytest.raises(UserError, match=r"other data \(train was aa, is cc\)"):
        prepare(run, tiny_config(run.path), facts=other)


def test_another_model_under_the_same_name_is_refused(tmp_path, tiny_config):
    run = RunDirectory(tmp_path / "run")
    prepare(run, tiny_config(run.path))
    with_a_checkpoint(run)
    wider = dataclasses.replace(PRESETS["toy"], intermediate_size=512)
    with pytest.raises(UserError, match=r"another model \(intermediate_size was 352, is 512\)"):
        prepare(run, tiny_config(run.path), model=wider)


def test_before_the_first_checkpoint_a_new_recipe_replaces_the_old_one(tmp_path, tiny_config):
    run = RunDirectory(tmp_path / "run")
    prepare(run, tiny_config(run.path))
    changed = tiny_config(run.path, optimizer={"learning_rate": 2e-3})
    prepare(run, changed)
    assert json.loads(run.config.read_text())["optimizer"]["learning_rate"] == 2e-3


def test_a_key_that_came_with_a_newer_version_has_its_default(tmp_path, tiny_config):
    run = RunDirectory(tmp_path / "run")
    prepare(run, tiny_config(run.path))
    with_a_checkpoint(run)
    old = json.loads(run.config.read_text())
    del old["optimizer"]["epsilon"]
    run.config.write_text(json.dumps(old))
    assert prepare(run, tiny_config(run.path)) == []


def test_other_versions_are_said_and_kept_beside_the_first(tmp_path, tiny_config, monkeypatch):
    run = RunDirectory(tmp_path / "run")
    assert prepare(run, tiny_config(run.path)) == []
    assert prepare(run, tiny_config(run.path)) == []
    now = run_directory.versions()
    monkeypatch.setattr(run_directory, "versions", lambda: now | {"jax": "99.0"})
    said = prepare(run, tiny_config(run.path))
    assert len(said) == 1
    assert f"jax {now['jax']} -> 99.0" in said[0]
    assert [entry["jax"] for entry in json.loads(run.versions.read_text())] == [now["jax"], "99.0"]


def test_the_shape_of_a_model_with_scaled_positions_survives(tmp_path, tiny_config):
    run = RunDirectory(tmp_path / "run")
    scaling = RopeScaling("llama3", 8.0, 1.0, 4.0, 8192)
    model = dataclasses.replace(PRESETS["toy"], rope_scaling=scaling)
    prepare(run, tiny_config(run.path), model=model)
    described = json.loads(run.model_config.read_text())
    assert described["model_type"] == "llama"
    assert model_config_from_json(described, "here") == model
    del described["model_type"]  # as versions before there was a second type wrote it
    assert model_config_from_json(described, "here") == model


def test_load_run_elsewhere_says_what_is_missing(tmp_path):
    with pytest.raises(UserError, match=r"not a run directory \(it has no config.json\)"):
        load_run(tmp_path)


def make_store(**changes) -> TokenStore:
    values = {
        "key": "k",
        "ids": ("DR/train/1", "DR/train/2"),
        "tokens": np.arange(7, dtype=np.int32),
        "offsets": np.array([0, 3, 7]),
        "targets": np.array([0, 1, 1, 0, 0, 1, 1], bool),
        "truncated": np.zeros(2, np.int32),
    }
    return TokenStore(**values | changes)


def test_the_fingerprint_of_data_is_that_of_its_examples_in_order():
    one = data_fingerprint(make_store())
    assert data_fingerprint(make_store(key="made by newer code", truncated=np.ones(2, np.int32))) == one
    for change in (
        {"ids": ("DR/train/2", "DR/train/1")},
        {"tokens": np.arange(7, dtype=np.int32)[::-1]},
        {"offsets": np.array([0, 4, 7])},
        {"targets": np.array([0, 0, 1, 0, 0, 1, 1], bool)},
        {"targets": np.array([0, 1, 0, 0, 0, 1, 1], bool)},
    ):
        assert data_fingerprint(make_store(**change)) != one


def test_the_description_is_written_by_one_process_without_the_others(tmp_path, tiny_config, monkeypatch):
    """Whatever needs all processes would wait for them for ever there, or take what they say of something else."""
    run = RunDirectory(tmp_path / "run")
    prepare(run, tiny_config(run.path))

    def alone(*_):
        raise AssertionError("asked the other processes")

    for name in ("process_allgather", "broadcast_one_to_all", "sync_global_devices"):
        monkeypatch.setattr(f"jax.experimental.multihost_utils.{name}", alone)
    monkeypatch.setattr("jax.process_count", lambda *_: 2)
    monkeypatch.setattr("jax.distributed.is_initialized", lambda: True)
    monkeypatch.setattr(run_directory, "complete_checkpoints", lambda _: ["one"])
    prepare(run, tiny_config(run.path))
    with pytest.raises(AssertionError, match="asked the other processes"):
        run.planned_micro_batch_rows(tiny_config(run.path))
