"""`mentallama bench` as a user runs it, on one and on eight virtual devices."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from child_processes import cpu_environment

from mentallama_jax.cli.main import main
from mentallama_jax.models.presets import ENCODER_PRESETS, PRESETS
from mentallama_jax.planning.cost import model_flops_per_token

ROOT = Path(__file__).resolve().parents[2]
TOY = """
model: {source: toy, weights: random, compute_dtype: float32, remat: none}
data: {train: [nowhere], max_length: 64}
training: {run_dir: "-", steps: 10, micro_batch_rows: 4, batch_size: 8, batch_unit: rows}
"""
# One device is also what the comparison with a plan measures.
DEVICES = [pytest.param(1, marks=pytest.mark.slow), 8]
MESHES = {1: ["mesh.fsdp=1"], 8: ["mesh.fsdp=4", "mesh.tensor=2"]}


def bench(folder: Path, devices: int, *arguments: str) -> tuple[dict, str, str]:
    (folder / "toy.yaml").write_text(TOY, "utf-8")
    what, *options = arguments
    command = [sys.executable, "-m", "mentallama_jax.cli.main", "bench", what, "toy.yaml", *MESHES[devices]]
    done = subprocess.run(
        [*command, *options, "--repeats", "3", "--json", "out.json"],
        cwd=folder,
        capture_output=True,
        text=True,
        env=cpu_environment(devices, PYTHONPATH=str(ROOT), JAX_LOG_COMPILES="1"),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "out.json").read_text("utf-8")), done.stdout, done.stderr


@pytest.mark.long
@pytest.mark.parametrize("devices", DEVICES)
def test_the_step_is_compiled_once_and_timed(tmp_path, devices):
    values, printed, log = bench(tmp_path, devices, "step")
    assert log.count("Finished XLA compilation of jit(train_step)") == 1
    (step,) = values["results"]
    assert (step["devices"], step["rows"], step["tokens"], len(step["seconds"])) == (devices, 8, 8 * 64, 3)
    assert step["tokens_per_second_per_chip"] == pytest.approx(8 * 64 / step["median_seconds"] / devices)
    assert step["model_flops_per_token"] == model_flops_per_token(PRESETS["toy"], 64)
    assert step["mfu"] is None
    assert printed.splitlines()[-1].startswith(f"| step | {devices} x cpu | jax ")


@pytest.mark.long
def test_the_step_of_a_classifier_is_timed_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    changes = ["model.source=toy-encoder", "data.max_length=64", "training.batch_unit=rows", "training.batch_size=8"]
    command = [str(ROOT / "configs" / "classifier-minilm.yaml"), *changes, "mesh.fsdp=1"]
    assert main(["bench", "step", *command, "--repeats", "2", "--json", "out.json"]) == 0
    (step,) = json.loads(Path("out.json").read_text("utf-8"))["results"]
    assert (step["rows"], step["tokens"], len(step["seconds"])) == (8, 8 * 64, 2)
    assert step["model_flops_per_token"] == model_flops_per_token(ENCODER_PRESETS["toy-encoder"], 64)
    assert main(["bench", "generate", *command]) == 2
    assert "toy-encoder: is an encoder (bert), which reads texts and writes none" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.parametrize("devices", DEVICES)
def test_prefill_is_compiled_once_and_decoding_once_a_size_of_the_cache(tmp_path, devices):
    values, _, log = bench(tmp_path, devices, "generate", "--rows", "3", "--prompt", "32", "--new-tokens", "48")
    compiled = {name: log.count(f"Finished XLA compilation of jit({name})") for name in ("read", "decode", "append")}
    assert compiled == {"read": 1, "decode": 2, "append": 2}  # the cache grows once while 48 tokens are written
    prefill, decode = values["results"]
    rows = {1: 3, 8: 4}[devices]  # filled up to divide along fsdp 4
    assert (prefill["tokens"], decode["tokens"]) == (rows * 32, rows * 48)
    assert min(prefill["median_seconds"], decode["median_seconds"]) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["step", "--repeats", "0"], "--repeats 0: give a number from 1"),
        (["generate", "--new-tokens", "1"], "--new-tokens 1: give a number from 2"),
        (["generate", "--prompt", "5000"], "5000 + 128 tokens: the model has"),
        (["step", "--plan", "toy.yaml"], "toy.yaml: not the output of `mentallama plan ... --json`"),
        (["generate", "mesh.sequence=64"], "mesh: data 1 x fsdp 1 x tensor 1 x sequence 64 is 64 devices"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_text(TOY, "utf-8")
    what, *options = arguments
    assert main(["bench", what, "toy.yaml", *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_a_plan_is_compared_and_another_one_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_text(TOY, "utf-8")
    plan = {
        "topology": "v5e-1",
        "devices": 1,
        "mesh": {"data": 1, "fsdp": 1, "tensor": 1, "sequence": 1},
        "micro_batches": 2,
        "micro_batch_rows": 4,
        "row_length": 64,
        "seconds": {"update": [0.5, 2.0]},
    }
    Path("plan.json").write_text(json.dumps([plan]), "utf-8")
    command = ["bench", "step", "toy.yaml", "mesh.fsdp=1", "--repeats", "1", "--plan", "plan.json"]
    assert main([*command, "--json", "out.json"]) == 0
    values = json.loads(Path("out.json").read_text("utf-8"))
    median = values["results"][0]["median_seconds"]
    assert values["measured_over_estimated"] == pytest.approx([median / 0.5, median / 2.0])
    assert main([*command, "--micro-batches", "1"]) == 2
    assert "planned with micro_batches 2, measured with 1" in capsys.readouterr().err
