"""Training on a stand-in of the bucket service, by the real clients: stopped, resumed, and answered from."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from fake_bucket import RefusedError

from mentallama_jax.cli import main as command_line
from mentallama_jax.config import parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.data_files.writers import write_records
from mentallama_jax.jobs.tune import tune
from mentallama_jax.storage import RemotePath
from mentallama_jax.training.run.manifest import complete_checkpoints
from mentallama_jax.training.run.metrics import read_metrics
from mentallama_jax.training.run.opened_run import load_run

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "import sys; from mentallama_jax.cli import main; main.COMMANDS = ('train',); sys.exit(main.main())"
SECTIONS = {
    "training": {"epochs": 4},
    "evaluation": {"every_steps": 8},
    "checkpoint": {"every_steps": 4, "keep_last": 1},
}
RUN = RemotePath("gs://bucket/runs/one")
UPDATES = 24


@pytest.fixture
def values(bucket, tiny_values, tmp_path):
    """A run of which data and directory are on the bucket."""
    for split in ("train", "val"):
        write_records(tmp_path / f"{split}.jsonl", read_records([f"sample:{split}"]).records)
        bucket.write(f"bucket/imhi/{split}.jsonl", (tmp_path / f"{split}.jsonl").read_bytes())
    data = {"train": ["gs://bucket/imhi:train"], "validation": ["gs://bucket/imhi/val.jsonl"]}
    return tiny_values(str(RUN), data=data, **SECTIONS)


@pytest.fixture
def undisturbed(tiny_values, tmp_path):
    """The same run with all of it here."""
    tune(parse_config(tiny_values(tmp_path / "run", **SECTIONS), "test"))
    return tmp_path / "run"


def figures(path: Path) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "tokens_per_second"} for row in read_metrics(path)]


def steps() -> list[int]:
    return [checkpoint.step for checkpoint in complete_checkpoints(RUN / "checkpoints")]


def stop_after_a_checkpoint(config: Path) -> tuple[int, str]:
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "train", str(config)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 300
        while not steps() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=300)
    finally:
        process.kill()
    return process.returncode, err


def test_stopped_and_gone_on_with_on_a_bucket_it_is_the_run_that_was_left_alone(
    values, undisturbed, bucket, tmp_path, monkeypatch, capfd
):
    config = tmp_path / "run.yaml"
    config.write_text(json.dumps(values))
    status, err = stop_after_a_checkpoint(config)
    assert status == 75, err
    (stopped,) = set(steps()[-1:])
    assert f"stopped by SIGTERM after update {stopped} of {UPDATES}; everything is saved" in err
    assert 0 < stopped < UPDATES
    copy = tmp_path / "metrics.jsonl"
    (RUN / "metrics.jsonl").download(copy)
    assert [row["step"] for row in read_metrics(copy) if row["kind"] == "train"] == list(range(1, stopped + 1))
    assert not (RUN / "run.lock").exists()

    # A save that was cut off: all there but for the manifest, so that it must not be used.
    cut = "bucket/runs/one/checkpoints/00000023/"
    for name in [name for name in bucket.objects if f"/{stopped:08d}/" in name and "manifest.json" not in name]:
        bucket.write(cut + name.split(f"/{stopped:08d}/")[1], bucket.objects[name].data)
    result = tune(parse_config(values, "test"))
    shown = capfd.readouterr().err
    assert "checkpoints/00000023: incomplete" in shown
    assert f"resuming after update {stopped} of {UPDATES}" in shown
    assert (str(result.run_dir), result.steps) == (str(RUN), UPDATES)

    (RUN / "metrics.jsonl").download(copy)
    assert figures(copy) == figures(undisturbed / "metrics.jsonl")
    for which in ("best", "last"):
        here, there = load_run(undisturbed, which), load_run(str(RUN), which)
        assert (there.checkpoint.step, there.checkpoint.scores) == (here.checkpoint.step, here.checkpoint.scores)
        jax.tree.map(np.testing.assert_array_equal, there.params, here.params)
    kept = {name.split("/")[4] for name in bucket.objects if "/checkpoints/" in name}
    assert (
        kept == {f"{step:08d}" for step in steps()} == {path.name for path in (undisturbed / "checkpoints").iterdir()}
    )
    assert {"loss.png", "log.txt", "tensorboard", "tokenizer"} <= {path.name for path in RUN.iterdir()}

    answer_and_export(tmp_path, monkeypatch)
    assert not (ROOT / "gs:").exists()
    assert not Path("gs:").exists()


def answer_and_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_line, "COMMANDS", ("generate", "export"))
    answers = ["--data", "gs://bucket/imhi/val.jsonl", "--max-rows", "1", "--max-new-tokens", "2"]
    assert command_line.main(["generate", str(RUN), *answers, "--out", str(tmp_path / "answers.jsonl")]) == 0
    signature = json.loads((tmp_path / "answers.meta.json").read_text())
    assert signature["model"] == str(RUN)
    assert command_line.main(["export", str(RUN), "--out", str(tmp_path / "export"), "--checkpoint", "last"]) == 0
    for file in (tmp_path / "export").iterdir():
        RemotePath(f"gs://bucket/model/{file.name}").upload(file)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    again = ["generate", "gs://bucket/model", *answers, "--out", str(tmp_path / "again.jsonl")]
    assert command_line.main(again) == 0
    assert {path.parent.name for path in (tmp_path / "cache").rglob("*.safetensors")} == {"model"}


def test_a_bucket_that_refuses_is_one_line_and_keeps_what_is_there(values, bucket, monkeypatch):
    write = bucket.write

    def refuse(name, data, query=None):
        if "manifest.ocdbt" in name and "00000008" in name:
            raise RefusedError(403)
        return write(name, data, query)

    with monkeypatch.context() as patch:
        patch.setattr(bucket, "write", refuse)
        with pytest.raises(UserError, match=r"^gs://bucket/runs/one/checkpoints/00000008: the checkpoint could not be"):
            tune(parse_config(values, "test"))
    assert steps() == [6]
    # Writes that were under way may still have landed after those before them were removed: the next start sees to it.
    assert tune(parse_config(values, "test")).steps == UPDATES
    assert {name.split("/")[4] for name in bucket.objects if "/checkpoints/" in name} == {f"{n:08d}" for n in steps()}
