"""A run directory on a bucket: its files, who may write there, and which checkpoints count."""

import json
import threading
import time

import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.training.run import bucket_run as bucket
from mentallama_jax.training.run.checkpoints import Checkpoints, find_checkpoint
from mentallama_jax.training.run.manifest import (
    complete_checkpoints,
    damage,
    file_checksums,
    read_manifest,
    write_manifest,
)
from mentallama_jax.training.run.metrics import MetricsLog, read_metrics
from mentallama_jax.training.run.run_directory import RunDirectory

FACTS = {"fingerprints": {"train": "aa"}}


class NoTokenizer:
    def save(self, folder):
        folder.mkdir(exist_ok=True)
        (folder / "tokenizer.json").write_text("{}")


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(bucket, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(bucket, "STALE_SECONDS", 0.5)
    monkeypatch.setattr(bucket, "_SETTLE_SECONDS", 0.1)


@pytest.fixture
def run(remote) -> RunDirectory:
    return RunDirectory(remote)


def lease(run: RunDirectory) -> dict:
    return json.loads((run.path / "run.lock").read_bytes())


def test_what_is_written_here_is_there_and_comes_back(run, tiny_config):
    config = tiny_config("run")
    with run.locked():
        run.prepare(config, PRESETS["toy"], FACTS, NoTokenizer(), print)
        assert (run.path / "config.json").is_file()  # before the others look for it
        with MetricsLog(run.metrics, run.tensorboard, 0, evaluated=False) as metrics:
            metrics.write("train", 1, {"loss": 2.0})
            metrics.sync()
            run.publish()
            assert (run.path / "metrics.jsonl").read_bytes() == run.metrics.read_bytes() != b""
            metrics.write("train", 2, {"loss": 1.0})
    names = {name.split("/")[0] for name in run.path.sizes()}
    files = {"config.json", "model_config.json", "data.json", "versions.json", "metrics.jsonl"}
    assert names == files | {"tokenizer", "tensorboard"}

    again = RunDirectory(str(run.path))
    with again.locked():
        assert [row["step"] for row in read_metrics(again.metrics)] == [1, 2]
        assert (again.tokenizer / "tokenizer.json").read_text() == "{}"
        assert not again.tensorboard.exists()
        again.prepare(config, PRESETS["toy"], FACTS, NoTokenizer(), print)
    checkpoint = run.checkpoints / "00000004"
    (checkpoint / "manifest.json").write_bytes(json.dumps({"step": 4, "scores": {}, "files": {}}).encode())
    other = tiny_config("run", optimizer={"learning_rate": 2e-3})
    with again.locked(), pytest.raises(UserError, match=r"optimizer.learning_rate was 0.001, is 0.002"):
        again.prepare(other, PRESETS["toy"], FACTS, NoTokenizer(), print)


def test_only_what_has_changed_is_copied_and_between_the_checkpoints_too(run):
    with run.locked():
        run.log.write_text("one\n")
        run.publish()
        (run.path / "log.txt").unlink(missing_ok=False)
        run.publish()
        assert not (run.path / "log.txt").exists()
        run.log.write_text("one\ntwo\n")
        wait_for(lambda: (run.path / "log.txt").exists())
    assert (run.path / "log.txt").read_bytes() == b"one\ntwo\n"


def test_a_second_process_is_refused_while_the_first_lives(run):
    said = []
    with run.locked():
        holder = lease(run)["holder"]
        with pytest.raises(UserError, match=f"{holder} is training here"), RunDirectory(run.path).locked(said.append):
            pass
        assert "waiting" in said[0]
    assert not (run.path / "run.lock").exists()
    with RunDirectory(run.path).locked():
        pass


def test_the_lease_of_a_process_that_is_gone_is_taken(run):
    (run.path / "run.lock").write_bytes(b'{"holder": "process 1 on gone", "token": "t", "beats": 3}')
    (run.path / "config.json").write_bytes(b"{}")
    said = []
    with run.locked(said.append):
        assert lease(run)["holder"] != "process 1 on gone"
    assert "left by process 1 on gone; waiting" in said[0]
    assert not (run.path / "run.lock").exists()


def test_a_process_whose_lease_was_taken_stops_and_writes_no_more(run):
    theirs = b'{"holder": "process 2 on other", "token": "t", "beats": 0}'

    def lose_it():
        with run.locked():
            (run.path / "run.lock").write_bytes(theirs)
            time.sleep(0.3)
            run.log.write_text("too late")
            run.publish()

    with pytest.raises(UserError, match="process 2 on other has taken the run"):
        lose_it()
    assert (run.path / "run.lock").read_bytes() == theirs
    assert not (run.path / "log.txt").exists()


def test_of_two_that_want_a_lease_that_is_left_one_gets_it(run):
    (run.path / "run.lock").write_bytes(b"from before")
    (run.path / "config.json").write_bytes(b"{}")
    results: list[str] = []

    def want():
        try:
            with RunDirectory(run.path).locked():
                results.append("got it")
                time.sleep(1.5)
        except UserError:
            results.append("refused")

    threads = [threading.Thread(target=want) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["got it", "refused"]


def test_a_folder_with_other_things_is_not_taken_for_a_run(run):
    (run.path / "thesis.tex").write_bytes(b"years of work")
    with pytest.raises(UserError, match=r"not a run directory \(it holds thesis.tex\)"), run.locked():
        pass
    assert list(run.path.sizes()) == ["thesis.tex"]


def test_what_another_process_does_not_see_is_said(run):
    with pytest.raises(UserError, match="does not see the files of process 0"):
        run.check_shared()


def write_checkpoint(run: RunDirectory, step: int, score: float | None, manifest: bool = True) -> None:
    folder = run.checkpoints / f"{step:08d}"
    (folder / "params" / "data").write_bytes(b"12345")
    if manifest:
        scores = {} if score is None else {"validation_loss": score}
        content = {"step": step, "scores": scores, "files": {"params/data": 5}}
        (folder / "manifest.json").write_bytes(json.dumps(content).encode())


def test_a_checkpoint_without_its_manifest_or_with_a_short_file_does_not_count(run):
    write_checkpoint(run, 4, None)
    write_checkpoint(run, 8, None, manifest=False)
    assert [checkpoint.step for checkpoint in complete_checkpoints(run.checkpoints)] == [4]
    found = find_checkpoint(run.checkpoints, "best", "validation_loss")
    assert (found.step, damage(found)) == (4, None)
    (found.path / "params" / "data").write_bytes(b"123")
    assert damage(found) == "params/data has 3 of 5 bytes"
    (found.path / "params" / "data").unlink(missing_ok=False)
    assert damage(found) == "params/data is missing"


def test_an_altered_object_is_found_by_its_checksum(run):
    write_checkpoint(run, 4, None)
    path = run.checkpoints / "00000004"
    write_manifest(path, read_manifest(path) | {"checksums": file_checksums(path, ["params/data"])})
    (found,) = complete_checkpoints(run.checkpoints)
    assert damage(found) is None
    (path / "params" / "data").write_bytes(b"12354")
    assert damage(found) == "params/data is not what was written (another checksum)"


@pytest.mark.parametrize("name", ["lr=[1e-5]", "a*b", "what?", "a#b", "50%20", "a\\b"])
def test_a_name_that_a_url_cannot_hold_is_refused_at_the_start(name, tiny_config):
    with pytest.raises(UserError, match=r"checkpoints cannot be written below a name with .*training.run_dir"):
        Checkpoints(RunDirectory(f"gs://bucket/{name}").checkpoints, tiny_config("run"))


def test_what_others_put_beside_the_checkpoints_stays(run, tiny_config):
    write_checkpoint(run, 4, None)
    (run.checkpoints / "00000004-good" / "params").write_bytes(b"1")
    (run.checkpoints / "notes" / "why.txt").write_bytes(b"1")
    (run.checkpoints / "00000008" / "params").write_bytes(b"cut off")
    checkpoints = Checkpoints(run.checkpoints, tiny_config("run"))
    checkpoints._keep_only(checkpoints.complete)
    assert {name.split("/")[0] for name in run.checkpoints.sizes()} == {"00000004", "00000004-good", "notes"}


def test_the_best_and_the_last_stay_and_the_objects_of_others_go(run, tiny_config):
    for step, score in ((4, 2.0), (8, 1.0), (12, 3.0), (16, None)):
        write_checkpoint(run, step, score)
    checkpoints = Checkpoints(run.checkpoints, tiny_config("run", checkpoint={"keep_last": 1}))
    checkpoints.add_scores(16, {"validation_loss": 2.5})
    assert [checkpoint.step for checkpoint in checkpoints.complete] == [8, 16]
    assert {name.split("/")[0] for name in run.checkpoints.sizes()} == {"00000008", "00000016"}
    assert checkpoints.best.step == 8


def wait_for(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()
