"""Real processes on loopback that train as one."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from child_processes import cpu_environment
from safetensors.numpy import save_file

from mentallama_jax.formats.architectures.known_architectures import foreign_shapes
from mentallama_jax.formats.hf import read_hf_config
from mentallama_jax.storage import RemotePath
from mentallama_jax.training.run.metrics import read_metrics

ROOT = Path(__file__).resolve().parents[2]
TRAIN = "import sys; from mentallama_jax.cli.main import main; sys.exit(main())"
CONFIG = {
    "model": {"source": "", "weights": "random", "tokenizer": "sample", "compute_dtype": "float32", "remat": "none"},
    "data": {"train": ["sample"], "validation": ["sample"], "max_length": 192, "max_rows": 48},
    "optimizer": {"learning_rate": 1e-3},
    "evaluation": {"max_rows": 12},
    "checkpoint": {"every_steps": 2},
}
SHAPE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 1024,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "max_position_embeddings": 512,
    "hidden_act": "silu",
}


def start(folder, run_dir, processes, *overrides, prepare="", who=-1, absent=()):
    """Start the processes of a run but the absent ones; `prepare` is code that process `who` runs first."""
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "config.json").write_text(json.dumps(SHAPE))
    training = {
        "steps": 4,
        "batch_size": 16,
        "micro_batch_rows": 4,
        "compile_cache_dir": str(folder / "xla"),
        "run_dir": str(folder / run_dir),
    }
    model, data = CONFIG["model"] | {"source": str(folder / "model")}, CONFIG["data"] | {"cache_dir": str(folder / "t")}
    (folder / "config.yaml").write_text(json.dumps(CONFIG | {"training": training, "model": model, "data": data}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for index in sorted(set(range(processes)) - set(absent)):
        flags = ["--coordinator", f"127.0.0.1:{port}", "--processes", str(processes), "--process", str(index)]
        code = (prepare if index == who % processes else "") + TRAIN
        command = [sys.executable, "-c", code, "train", str(folder / "config.yaml"), *overrides]
        started.append(
            subprocess.Popen(
                command + (flags if processes > 1 else []),
                cwd=ROOT,
                env=cpu_environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def finish(started):
    """(exit status, standard output, standard error) of each process."""
    try:
        outputs = [process.communicate(timeout=240) for process in started]
    finally:
        for process in started:
            with process:  # closes its pipes and waits
                process.kill()
    return [(process.returncode, *output) for process, output in zip(started, outputs, strict=True)]


def losses(run_dir):
    rows = read_metrics(run_dir / "metrics.jsonl")
    names = ("kind", "step", "real_tokens")
    return [(*map(row.get, names), row.get("loss", row.get("validation_loss"))) for row in rows]


def train(folder, run_dir, processes, *overrides):
    """A run to its end."""
    for status, _, errors in finish(start(folder, run_dir, processes, *overrides)):
        assert status == 0, errors
    return losses(folder / run_dir)


def assert_same(found, expected):
    assert len(expected) >= 4
    assert [row[:3] for row in found] == [row[:3] for row in expected]
    assert [row[3] for row in found] == pytest.approx([row[3] for row in expected], rel=1e-5)


def start_joined(code):
    """Start two processes of two devices each, which are told where to meet and which of them they are."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    tests = ROOT / "tests" / "training"
    return [
        subprocess.Popen(
            [sys.executable, "-c", code, coordinator, str(index)],
            env=cpu_environment(2, PYTHONPATH=os.pathsep.join([str(tests), str(ROOT)])),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]


@pytest.mark.slow
def test_two_processes_share_a_bucket_and_one_goes_on_with_their_run(bucket, tmp_path):
    settings = ["checkpoint.keep_last=2", "data.validation=[]"]
    on_bucket = [*settings, "training.run_dir=gs://bucket/runs/two"]
    for status, _, errors in finish(start(tmp_path, "", 2, *on_bucket)):
        assert status == 0, errors
    names = {name.removeprefix("bucket/runs/two/") for name in bucket.objects}
    assert {"config.json", "metrics.jsonl"} <= names
    assert any("00000004/params/ocdbt.process_1/" in name for name in names)  # each host writes its shards
    del bucket.objects["bucket/runs/two/checkpoints/00000004/manifest.json"]
    ((status, _, errors),) = finish(start(tmp_path, "", 1, *on_bucket))
    assert (status, "resuming after update 3 of 4" in errors) == (0, True), errors
    RemotePath("gs://bucket/runs/two/metrics.jsonl").download(tmp_path / "metrics.jsonl")
    assert_same(losses(tmp_path), train(tmp_path, "one", 1, *settings))


@pytest.mark.slow  # the run that moves from four processes to two to one is held to the losses of one, too
def test_two_processes_learn_as_one_does(tmp_path):
    assert_same(train(tmp_path, "two", 2, "data.validation=[]"), train(tmp_path, "one", 1, "data.validation=[]"))


MEET = """
import sys
from mentallama_jax.parallel import processes
processes.START_SECONDS = 60
with processes.joined(sys.argv[1], 2, int(sys.argv[2])):
    assert processes.any_says(int(sys.argv[2])) == 1
"""


def test_a_proxy_of_the_environment_is_not_asked_for_the_way_to_process_0(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    for status, _, errors in finish(start_joined(MEET)):
        assert status == 0, errors


STOP = """
import os, signal
from mentallama_jax.training import loop
step, calls = loop.Recorder.add, []
def add_and_stop(*arguments):
    calls.append(1)
    if len(calls) == {update}:
        os.kill(os.getpid(), signal.{signal})
    return step(*arguments)
loop.Recorder.add = add_and_stop
"""


@pytest.mark.long
def test_a_run_moves_from_four_processes_to_two_to_one_when_one_of_them_is_asked_to_stop(tmp_path):
    expected = train(tmp_path, "one", 1, "training.steps=7")
    for processes, stopped in ((4, 2), (2, 4)):
        ends = finish(
            start(tmp_path, "moved", processes, "training.steps=7", prepare=STOP.format(signal="SIGTERM", update=2))
        )
        assert [status for status, *_ in ends] == [75] * processes, ends
        steps = int(re.match(r"stopped after update (\d) of 7; to go on: mentallama train ", ends[0][1])[1])
        assert stopped <= steps < 6
        assert re.search(rf" --coordinator 127.0.0.1:\d+ --processes {processes} --process 0 ", ends[0][1])
        assert not any(output for _, output, _ in ends[1:])
        assert losses(tmp_path / "moved")[-1][1] == steps
    assert_same(train(tmp_path, "moved", 1, "training.steps=7"), expected)


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["tensor", "sequence"])
def test_processes_share_tensors_tokens_and_weights_of_a_folder(tmp_path, axis):
    start(tmp_path, "none", 0)  # writes the folder
    random = np.random.default_rng(0)
    shapes = foreign_shapes(read_hf_config(tmp_path / "model"), "hf")
    weights = {name: random.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(weights, tmp_path / "model" / "model.safetensors")
    pretrained = "model.weights=pretrained"
    two = train(tmp_path, "two", 2, pretrained, f"mesh.{axis}=2")
    assert_same(two, train(tmp_path, "one", 1, pretrained))


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_other_with_its_name(tmp_path, victim):
    began = time.monotonic()
    kill = STOP.format(signal="SIGKILL", update=3)
    ends = finish(start(tmp_path, "killed", 2, prepare=kill, who=victim))
    status, _, errors = ends[1 - victim]
    assert ends[victim][0] == -9
    assert status == 76, errors
    assert re.search(rf"error: process {victim} \(.*\) is lost.*; run the same command on all hosts again", errors)
    assert time.monotonic() - began < 200
    assert losses(tmp_path / "killed")[-1][1] < 4
    assert_same(train(tmp_path, "killed", 2), train(tmp_path, "whole", 1))


@pytest.mark.slow
def test_an_error_of_one_process_is_told_by_all(tmp_path):
    fail = """
from mentallama_jax.errors import UserError
from mentallama_jax.training import setup
def refuse(*arguments):
    raise UserError("no such disk")
setup.check_disk = refuse
"""
    first, second = finish(start(tmp_path, "failed", 2, prepare=fail))
    assert second[0] == 2
    assert re.search(r"^error: process 1 \(.*\): no such disk$", second[2], re.MULTILINE)
    assert first[0] == 76
    assert re.search(r"^error: process 1 \(.*\) failed: no such disk; mend that", first[2], re.MULTILINE)


OTHER_SEED = "import sys; sys.argv.append('training.seed=5')\n"
OTHER_DATA = """
from mentallama_jax.training import loop
load = loop.load_examples
def other(*arguments):
    examples = load(*arguments)
    examples.facts["fingerprints"]["train"] = "another"
    return examples
loop.load_examples = other
"""


@pytest.mark.slow
@pytest.mark.parametrize(("prepare", "what"), [(OTHER_SEED, "config"), (OTHER_DATA, "data or tokenizer")])
def test_hosts_with_another_config_or_other_data_are_refused(tmp_path, prepare, what):
    for status, _, errors in finish(start(tmp_path, "other", 2, prepare=prepare)):
        assert status in (2, 76)
        assert f"process 1: another {what} than that of process 0" in errors
    assert not (tmp_path / "other" / "config.json").exists()


def test_waiting_in_vain_has_the_status_of_a_lost_process(tmp_path):
    hurry = "from mentallama_jax.parallel import processes; processes.START_SECONDS = 1\n"
    ((status, _, errors),) = finish(start(tmp_path, "missing", 2, prepare=hurry, absent=(0,)))
    assert status == 76
    assert re.fullmatch(r"error: process 0 does not answer at 127.0.0.1:\d+ \(waited 1 s\); .*\n", errors)


PLACE = """
import sys
import jax, numpy as np
from mentallama_jax.config import MeshSection
from mentallama_jax.parallel.mesh import make_mesh
from mentallama_jax.parallel.processes import joined
from mentallama_jax.training.data.batches import TrainingData
from mentallama_jax.training.mesh_placement import held_rows, place_batch
from test_data import make_store, plan_settings
store, settings = make_store(), plan_settings("examples", "packed", micro_batch_rows=4)
with joined(sys.argv[1], 2, int(sys.argv[2])):
    whole = TrainingData(store, settings, epochs=1).batch(1).arrays
    for axes in ({}, {"data": 2}, {"tensor": 2}, {"sequence": 2}, {"tensor": 4}, {"data": 2, "sequence": 2}):
        for order in ((0, 1, 2, 3), (3, 2, 1, 0), (0, 2, 1, 3), (2, 0, 3, 1)):
            mesh = make_mesh(MeshSection(**axes), [jax.devices()[place] for place in order])
            held = held_rows(mesh, 4)
            share = TrainingData(store, settings, epochs=1, held=held).batch(1).arrays
            assert share["tokens"].shape[0] == whole["tokens"].shape[0] * len(held) // 4
            placed = place_batch(share, 4, mesh)
            for name, values in placed.items():
                expected = whole[name].reshape(values.shape)
                for shard in values.addressable_shards:
                    assert np.array_equal(shard.data, expected[shard.index]), (axes, order, name, shard.index)
            print(axes, order, held)
"""


@pytest.mark.long
def test_each_device_gets_its_very_rows_and_tokens_whatever_the_order_of_devices():
    for status, output, errors in finish(start_joined(PLACE)):
        assert status == 0, errors
        assert len(output.splitlines()) == 24
