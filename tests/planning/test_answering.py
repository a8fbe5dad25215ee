"""Plans of answering: bytes, ranges and formulas by hand; the compiler on the toy."""

import importlib.util
import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from mentallama_jax.cli.main import main
from mentallama_jax.config import parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.generation.cache_moves import STEPS
from mentallama_jax.generation.placement import axes_of_hosts
from mentallama_jax.models.module import count_params
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.planning import answer_report, cost
from mentallama_jax.planning.answering import Answers, device_bytes, make_answer_plan
from mentallama_jax.planning.compilation import Compiled
from mentallama_jax.planning.hlo import Collective, Program
from mentallama_jax.planning.plan import with_overrides
from mentallama_jax.planning.prices import Price
from mentallama_jax.planning.topologies import parse_topology

MODEL = PRESETS["llama2-7b"]
SEVEN = parse_config(
    {
        "model": {"source": "llama2-7b", "weights": "random"},
        "data": {"train": ["nowhere"]},
        "training": {"run_dir": "-", "epochs": 1},
        "mesh": {"tensor": 8},
    },
    "test",
)
BATCH = Answers(16, 256, 256)
TOY = """
model: {source: toy, weights: random}
data: {train: [sample], max_length: 256}
training: {run_dir: "-", steps: 10}
mesh: {tensor: 2}
"""
libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="the TPU compiler comes with the extra `tpu`"
)


def answer_plan(topology="v5e-8", answers=BATCH, config=SEVEN, **changes):
    price = Price(2.0, "given")
    return make_answer_plan(MODEL, config, parse_topology(topology), answers, 1000, price, **changes)


def compiled(fits=True, **changes):
    sums = (Collective("all-reduce", ("tensor",), 8, 10, 36 * 10**7, 10, 0),)
    one = {"matmul_flops": 1e12, "categories": {}, "kernels": (), "custom_calls": {}, "top": ()}
    prefill = Program(**one, cycles=150_000_000, collectives=sums)
    token = Program(**one, cycles=3_000_000, collectives=sums[:0])
    return Compiled(fits, 10**9, 10**9, 10**6, program=prefill, loop=token, **changes)


def test_weights_and_cache_are_counted_by_their_shapes():
    mesh = {"data": 1, "fsdp": 1, "tensor": 8, "sequence": 1}
    found = device_bytes(MODEL, SEVEN, mesh, BATCH)
    norms = (2 * 32 + 1) * 4096
    assert found.weights == 2 * ((count_params(MODEL) - norms) // 8 + norms)
    assert found.cache == 2 * 32 * 16 * 512 * 4096 * 2 // 8  # keys and values, layers, rows, slots, width, bfloat16
    assert found.read - found.cache == 2 * (count_params(MODEL) - 32000 * 4096) // 8  # the embedding is looked up
    gathered = device_bytes(MODEL, SEVEN, mesh | {"fsdp": 8, "tensor": 1}, BATCH)
    assert gathered.cache == found.cache
    assert gathered.read - gathered.cache == 8 * (found.read - found.cache)


def test_int8_is_counted_by_its_bytes_and_named_in_the_command(monkeypatch):
    mesh = {"data": 1, "fsdp": 1, "tensor": 8, "sequence": 1}
    plain = device_bytes(MODEL, SEVEN, mesh, BATCH)
    found = device_bytes(MODEL, SEVEN, mesh, replace(BATCH, int8_cache=True, int8_weights=True))
    assert found.cache == plain.cache * (128 + 2) // 256  # a byte a number, and a scale of two for each head of 128
    projections = 32 * (4 * 4096 * 4096 + 3 * 4096 * 11008) // 8
    scales = 32 * 2 * (4096 // 8 * 3 + 4096 + 2 * 11008 // 8 + 4096)  # of outputs that are not cut, whole everywhere
    assert plain.weights - found.weights == projections - scales
    assert plain.read - found.read == pytest.approx(projections + plain.cache - found.cache, rel=1e-3)
    monkeypatch.setattr("mentallama_jax.planning.answering.compile_job", lambda job: compiled())
    made = answer_plan(answers=replace(BATCH, int8_cache=True))
    assert answer_report.command(made)[-2:] == ["--cache-dtype", "int8"]
    assert answer_report.as_json(made)["int8"] == ["--cache-dtype int8"]
    assert "--weights int8" in answer_report.remedies(made)
    assert "--cache-dtype int8" not in answer_report.remedies(made)


def test_drafts_are_named_and_cost_operations_of_a_step(monkeypatch):
    plain, drafted = (answer_plan("h100-8", answers=replace(BATCH, drafts=drafts)) for drafts in (0, 3))
    assert drafted.compiled.loop.matmul_flops == 4 * plain.compiled.loop.matmul_flops
    assert drafted.bytes == plain.bytes
    assert answer_report.command(drafted)[-2:] == ["--drafts", "3"]
    assert "--drafts" not in answer_report.command(plain)
    assert [answer_report.as_json(one)["drafts"] for one in (plain, drafted)] == [0, 3]
    jobs = []
    monkeypatch.setattr("mentallama_jax.planning.answering.compile_job", lambda job: jobs.append(job) or compiled())
    answer_plan(answers=replace(BATCH, drafts=3))
    assert jobs[0].work.drafts == 3


def test_a_range_is_from_all_hidden_to_none_and_memory_bounds_a_step(monkeypatch):
    monkeypatch.setattr("mentallama_jax.planning.answering.compile_job", lambda job: compiled())
    made = answer_plan()
    assert made.prefill.compiled == pytest.approx(0.1)  # at 1.5 GHz
    assert made.prefill.links == pytest.approx(2 * 36e7 * 7 / 8 / 180e9)
    assert made.prefill.latency == pytest.approx(10 * 14 * cost.HOP_SECONDS)
    bound = made.bytes.read / 819e9
    assert made.token.lower == pytest.approx(bound)  # more than its 2 ms of cycles
    assert made.token.upper == pytest.approx(bound)  # all of it is read within the instructions, as far as cycles say
    beside = replace(compiled().loop, copied_beside=made.bytes.read)
    monkeypatch.setattr("mentallama_jax.planning.answering.compile_job", lambda job: replace(compiled(), loop=beside))
    assert answer_plan().token.upper == pytest.approx(bound + 0.002)
    assert answer_plan().token.lower == pytest.approx(bound)
    seconds = 8 * 0.1 + 256 * bound  # 16 x 256 tokens in packs of 512
    assert made.seconds[0] == pytest.approx(seconds)
    assert made.rent.hours[0] == pytest.approx(63 * seconds / 3600)  # 1,000 posts by 16
    assert made.rent.dollars[0] == pytest.approx(63 * seconds / 3600 * 8 * 2)
    assert made.tokens_per_second[1] == pytest.approx(16 * 256 / 8 / seconds)


def test_table_and_json_say_the_same(monkeypatch):
    monkeypatch.setattr("mentallama_jax.planning.answering.compile_job", lambda job: compiled())
    made, console = answer_plan(), Console(width=150, record=True, file=io.StringIO())
    answer_report.show(made, console, details=True)
    text = console.export_text()
    assert "--mesh data=1 fsdp=1 tensor=8 --batch-size 16 --max-new-tokens 256" in text
    assert "no step is faster" in text
    values = json.loads(json.dumps(answer_report.as_json(made)))
    assert values["decode_step"]["seconds"]["total"] == [made.token.lower, made.token.upper]
    assert values["prefill"]["collectives"][0]["axes"] == ["tensor"]
    assert values["dollars"] == list(made.rent.dollars)
    assert values["warnings"] == []


def test_what_does_not_fit_says_what_to_change(monkeypatch):
    refused = Compiled(False, temporaries=10**12, problem="RESOURCE_EXHAUSTED")
    monkeypatch.setattr("mentallama_jax.planning.answering.compile_job", lambda job: refused)
    made = answer_plan(config=with_overrides(SEVEN, model={"compute_dtype": "float32"}))
    said = answer_report.warnings(made)
    assert not made.fits
    assert any("--batch-size" in line for line in said)
    assert any("model.compute_dtype=bfloat16" in line for line in said)
    assert "prefill" not in answer_report.as_json(made)
    answer_report.show(made, Console(file=io.StringIO()))


def test_fsdp_is_warned_of(monkeypatch):
    monkeypatch.setattr("mentallama_jax.planning.answering.compile_job", lambda job: compiled())
    made = answer_plan("v5e-64")
    assert made.answers.rows == 16
    assert any("fsdp 8" in line for line in answer_report.warnings(made))
    assert answer_plan("v5e-64", Answers(9, 256, 256)).answers.rows == 16  # as `generate` fills a batch up


def test_several_hosts_have_a_copy_each_or_as_few_as_hold_one_share_it(monkeypatch):
    monkeypatch.setattr("mentallama_jax.planning.answering.compile_job", lambda job: compiled())
    plain = with_overrides(SEVEN, mesh={"tensor": 1})
    made = answer_plan("v5e-16", config=plain)
    assert (made.mesh["data"], made.mesh["fsdp"], made.mesh["tensor"]) == (4, 1, 4)  # hosts of four chips
    assert made.compiled is not None
    words = answer_report.command(made)
    assert words[-1] == "--distributed"
    assert words[words.index("--mesh") + 1 :][:3] == ["data=4", "fsdp=1", "tensor=4"]
    assert not answer_report.warnings(made)
    assert answer_report.command(answer_plan())[-1] != "--distributed"
    assert answer_plan("v5e-16").mesh["tensor"] == 8  # what the config says stays
    wide = with_overrides(plain, model={"compute_dtype": "float32"})
    assert answer_plan("v5e-16", config=wide).mesh["tensor"] == 4
    large = axes_of_hosts(replace(MODEL, num_layers=80), "float32", 16, 4, 16 * 2**30)  # 66 GB, of 64 on a host
    assert (large.data, large.fsdp, large.tensor) == (2, 1, 8)
    odd = axes_of_hosts(replace(MODEL, num_kv_heads=2), "bfloat16", 16, 4, 16 * 2**30)
    assert (odd.data, odd.tensor) == (8, 2)  # what divides among a host's devices
    assert parse_topology("v5p-32").host_devices == 4
    assert parse_topology("v4-32").host_devices == 8


def test_gpus_are_planned_by_formulas_and_the_report_says_so():
    made = answer_plan("h100-8")
    assert made.fits
    assert any("nothing was compiled" in line for line in answer_report.warnings(made))
    assert made.compiled.program.matmul_flops == pytest.approx(made.prefill_flops)
    assert made.compiled.loop.matmul_flops == pytest.approx(made.token_flops)
    assert made.token.lower == made.token.memory == pytest.approx(made.bytes.read / 3350e9)
    assert made.token.latency == pytest.approx(64 * 14 * cost.HOP_SECONDS)
    gathered = answer_plan("h100-8", config=with_overrides(SEVEN, mesh={"tensor": 1}))
    whole = 2 * (count_params(MODEL) - 32000 * 4096)
    assert gathered.prefill.links == pytest.approx(whole * 7 / 8 / 450e9)
    assert gathered.token.links == 0
    assert gathered.compiled.temporaries > whole
    assert not answer_plan("a100-8", Answers(4096, 2048, 2048)).fits


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mesh.sequence=2"], "answers are generated token by token"),
        (["mesh.tensor=4"], "does not divide along mesh axes tensor 4"),
        (["--slices", "2"], "answers are generated within one"),
        (["--search"], "do not go with --generate"),
        (["--new-tokens", "1"], "--new-tokens: at least 2"),
        (["--prompt", "100000"], "the model has"),
        (["--batch-size", "0"], "--batch-size: must be above 0"),
    ],
)
def test_the_command_tells_mistakes_in_one_line(tmp_path, capsys, arguments, said):
    path = tmp_path / "toy.yaml"
    path.write_text(TOY)
    changes = [word for word in arguments if "=" in word]
    options = [word for word in arguments if "=" not in word]
    assert main(["plan", str(path), *changes, "--topology", "v5e-4", "--generate", *options]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len([line for line in error.splitlines() if not line.startswith("asking the compiler about ")]) == 1


def test_options_of_answering_want_generate(tmp_path, capsys):
    (tmp_path / "toy.yaml").write_text(TOY)
    assert main(["plan", str(tmp_path / "toy.yaml"), "--topology", "v5e-4", "--prompt", "64"]) == 2
    assert "--prompt goes with --generate" in capsys.readouterr().err
    assert main(["plan", str(tmp_path / "toy.yaml"), "--topology", "v5e-4", "--weights", "int8"]) == 2
    assert "--weights goes with --generate" in capsys.readouterr().err


def test_too_many_positions_are_refused():
    with pytest.raises(UserError, match="4000 \\+ 256 tokens: the model has 4096 positions"):
        answer_plan(answers=Answers(16, 4000, 256))


@pytest.mark.long
@libtpu
def test_the_command_compiles_the_program_and_finds_it_again(tmp_path, capsys):
    path = tmp_path / "toy.yaml"
    path.write_text(TOY)
    command = ["plan", str(path), "--topology", "v5e-4", "--generate", "--cache-dir", str(tmp_path / "cache"), "--json"]
    command += ["--batch-size", "8", "--prompt", "128", "--new-tokens", "32"]
    assert main(command) == 0
    first = json.loads(capsys.readouterr().out)[0]
    assert (first["chips"], first["batch_size"], first["fits"]) == (4, 8, True)
    assert first["memory"]["arguments"] > 0
    assert first["memory"]["arguments"] > first["weight_bytes"] + first["cache_bytes"]
    prefill, step = first["prefill"], first["decode_step"]
    assert prefill["cycles"] > step["cycles"] > 0
    assert sum(kernel["launches"] for kernel in prefill["kernels"]) == PRESETS["toy"].num_layers
    assert not step["kernels"]
    # Without the loop there is no more than a pack; and a step is what one token of each row costs, with the places of
    # the cache that hold nothing and those of a loop's block.
    assert prefill["matmul_flops"] == pytest.approx(prefill["model_flops"], rel=0.3)
    toy, rows = PRESETS["toy"], 8 / 4
    attention = 4 * toy.num_layers * toy.head_dim * rows
    weights = step["model_flops"] - attention * toy.num_heads * (128 + 32 / 2)
    places = 192 + STEPS
    assert step["matmul_flops"] == pytest.approx(weights + attention * toy.num_heads * places, rel=0.1)
    assert any(one["axes"] == ["tensor"] for one in step["collectives"])
    assert main(command) == 0
    again = json.loads(capsys.readouterr().out)[0]
    assert again["compile_seconds"]["cached"]
    assert again | {"compile_seconds": 0} == first | {"compile_seconds": 0}


@libtpu
@pytest.mark.slow
def test_seven_billion_parameters_answer_on_a_v5e_8(tmp_path):
    made = answer_plan(cache_dir=str(tmp_path))
    assert made.fits
    assert made.compiled.arguments == pytest.approx(made.bytes.weights + made.bytes.cache, rel=0.02)
    assert made.compiled.temporaries < made.bytes.weights
    assert made.compiled.program.matmul_flops == pytest.approx(made.prefill_flops, rel=0.02)
    assert made.compiled.loop.matmul_flops == pytest.approx(made.token_flops, rel=0.02)
    assert {one.axes for one in made.compiled.loop.collectives} == {("tensor",)}
    assert made.token.lower > made.token.memory > 0.002
