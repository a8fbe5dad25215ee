"""Plans of answering: ranges, money and refusals by hand-computed figures, and both stages through the TPU compiler."""

import importlib.util
import json
from dataclasses import replace

import pytest

from mentallama_jax.cli.main import main
from mentallama_jax.config import parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.planning import answers
from mentallama_jax.planning.answers import AnswerPlan, Batch, plan_answers
from mentallama_jax.planning.compilation import Compiled
from mentallama_jax.planning.hlo import Collective, Program
from mentallama_jax.planning.prices import Price
from mentallama_jax.planning.topologies import parse_topology

libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="the TPU compiler comes with the extra `tpu`"
)
TOY = """
model: {source: toy, weights: random, compute_dtype: bfloat16}
data: {train: [sample], max_length: 256}
training: {run_dir: "-", steps: 10, micro_batch_rows: 4, batch_size: 8, batch_unit: rows}
mesh: {fsdp: 1, tensor: 2, data: 2}
"""


def config(**mesh):
    values = {
        "model": {"source": "llama2-7b", "weights": "random"},
        "data": {"train": ["nowhere"]},
        "training": {"run_dir": "-", "epochs": 1},
        "mesh": mesh,
    }
    return parse_config(values, "test")


def program(cycles, link_bytes):
    sent = Collective("all-gather", ("tensor",), 4, 1, link_bytes * 4 // 3, 0, 0)
    return Program(1e9, cycles, {"matmul": cycles}, (sent,), (), {}, ())


def made(**changes):
    stages = {
        # 0.3 s of cycles at 1.5 GHz, 0.01 s over links of 180 GB/s, 4.095 GB read at 819 GB/s.
        "prefill": Compiled(True, 4_095_000_000, 10**9, 0, program=program(450_000_000, 1_800_000_000)),
        # 2 ms of cycles, 1 ms over links, and 8.19 GB read in 10 ms.
        "decode": Compiled(True, 8_190_000_000, 10**8, 0, program=program(3_000_000, 180_000_000)),
    }
    batch = Batch(rows=16, prompt=384, new_tokens=101, questions=33)
    mesh = {"data": 1, "fsdp": 1, "tensor": 4, "sequence": 1}
    plan = AnswerPlan(
        PRESETS["llama2-7b"],
        config(fsdp=1, tensor=4),
        parse_topology("v5e-4"),
        mesh,
        batch,
        stages,
        Price(2.0, "given"),
    )
    return replace(plan, **changes)


def test_a_token_takes_no_less_than_reading_weights_and_cache():
    plan = made()
    assert plan.stage_seconds("prefill") == pytest.approx((0.3, 0.31))
    assert plan.stage_seconds("decode") == pytest.approx((0.010, 0.011))
    assert plan.batch_seconds == pytest.approx((0.3 + 100 * 0.010, 0.31 + 100 * 0.011))
    assert plan.tokens_per_second == pytest.approx((16 * 101 / 4 / 1.41, 16 * 101 / 4 / 1.3))
    assert plan.hours == pytest.approx((3 * 1.3 / 3600, 3 * 1.41 / 3600))  # 33 questions are three batches of 16
    assert plan.money == pytest.approx((3 * 1.3 / 3600 * 8, 3 * 1.41 / 3600 * 8))
    assert not plan.warnings


def test_the_model_needs_two_operations_a_weight_and_token():
    plan = made()
    layers = 32 * (4 * 4096**2 + 3 * 4096 * 11_008)
    head = 4096 * 32_000
    causal = 2 * 32 * 384 * 32 * 128  # scores and outputs at half of T x T, a token
    assert plan.model_flops("prefill") == pytest.approx(16 / 4 * (384 * (2 * layers + causal) + 2 * head))
    seen = 2 * 32 * (2 * 384 + 101) * 32 * 128
    assert plan.model_flops("decode") == pytest.approx(16 / 4 * (2 * layers + 2 * head + seen))


def test_what_does_not_fit_has_no_time_and_says_what_to_change():
    stages = made().stages | {"decode": Compiled(False, problem="RESOURCE_EXHAUSTED", largest=((10**9, "cache"),))}
    plan = made(stages=stages)
    assert not plan.fits
    assert any("--batch-size (now 16)" in said for said in plan.warnings)
    values = answers.answers_as_json(plan)
    assert values["fits"] is False
    assert "hours" not in values
    assert values["stages"]["decode"]["largest"] == [{"bytes": 10**9, "name": "cache"}]


@pytest.mark.parametrize(
    ("mesh", "topology", "batch", "said"),
    [
        ({"fsdp": 1, "tensor": 8}, "h100-8", Batch(16, 384, 256, 1), "needs a TPU topology"),
        ({"fsdp": 1, "tensor": 8}, "v5e-8", Batch(16, 4000, 256, 1), "the model has 4096 positions"),
        (
            {"fsdp": 8},
            "v5e-8",
            Batch(12, 384, 256, 1),
            "--batch-size 12 does not divide along mesh axes data 1 x fsdp 8",
        ),
        ({"fsdp": 4, "sequence": 2}, "v5e-8", Batch(16, 384, 256, 1), "leave sequence at 1"),
        ({"fsdp": 3, "tensor": 1}, "v5e-8", Batch(16, 384, 256, 1), "is not the 8 devices"),
    ],
)
def test_what_cannot_answer_is_refused(mesh, topology, batch, said):
    with pytest.raises(UserError, match=said):
        plan_answers(PRESETS["llama2-7b"], config(**mesh), parse_topology(topology), batch, Price(1, "given"), None)


def test_the_command_refuses_what_makes_no_sense(tmp_path, capsys):
    path = tmp_path / "toy.yaml"
    path.write_text(TOY)
    for arguments, said in ((["--search"], "--search"), (["--new-tokens", "1"], "--new-tokens")):
        assert main(["plan", str(path), "--topology", "v5e-4", "--answers", *arguments]) == 2
        assert said in capsys.readouterr().err


@libtpu
def test_the_command_compiles_both_stages_and_finds_them_again(tmp_path, capsys):
    path = tmp_path / "toy.yaml"
    path.write_text(TOY)
    command = ["plan", str(path), "--topology", "v5e-4", "--answers", "--prompt", "128", "--new-tokens", "64"]
    command += ["--cache-dir", str(tmp_path / "cache")]
    assert main([*command, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)[0]
    prefill, decode = first["stages"]["prefill"], first["stages"]["decode"]
    assert sum(kernel["launches"] for kernel in prefill["kernels"]) == PRESETS["toy"].num_layers
    assert not decode["kernels"]
    assert decode["arguments"] > prefill["arguments"] > 0  # by the cache
    assert prefill["matmul_flops"] > 32 * decode["matmul_flops"] > 0
    assert any(one["axes"] == ["tensor"] for one in decode["collectives"])
    assert first["seconds"]["batch"][0] > 0
    assert main([*command, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)[0]
    assert again["stages"]["decode"]["compile_seconds"]["cached"]
    assert again["seconds"] == first["seconds"]
    assert main(command) == 0
    assert "new tokens/s/chip" in capsys.readouterr().out
