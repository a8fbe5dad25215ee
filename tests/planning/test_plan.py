"""Topologies, costs, recipes, cache, reports and the command, each by hand-computed figures."""

import importlib.util
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from mentallama_jax.cli.main import main
from mentallama_jax.config import parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.models.module import count_params
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.parallel.mesh import mesh_sizes
from mentallama_jax.planning import cost, plan, ranking, report, search
from mentallama_jax.planning.compilation import Compiled, read_out_of_memory
from mentallama_jax.planning.figures_cache import FiguresCache
from mentallama_jax.planning.hlo import Collective, Kernel, Program
from mentallama_jax.planning.prices import Price, chip_price
from mentallama_jax.planning.recipe import Assumptions, assumed_recipe, recipe_of_lengths
from mentallama_jax.planning.topologies import parse_topology

libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="the TPU compiler comes with the extra `tpu`"
)
PAPER = {
    "model": {"source": "llama2-7b", "weights": "random"},
    "data": {"train": ["nowhere"]},
    "training": {"run_dir": "-", "epochs": 10, "micro_batch_rows": 8},
}
TOY = """
model: {source: toy, weights: random}
data: {train: [sample], max_length: 256}
training: {run_dir: "-", steps: 10, micro_batch_rows: 4, batch_size: 8, batch_unit: rows}
"""


def paper():
    return parse_config(PAPER, "test")


@pytest.mark.parametrize(
    ("name", "shape", "chips", "devices", "compiler"),
    [
        ("v5e-64", (8, 8), 64, 64, "v5e:8x8"),
        ("v5e-8", (2, 4), 8, 8, "v5e:2x4"),
        ("v6e-256", (16, 16), 256, 256, "v6e:16x16"),
        ("v5p-64", (2, 4, 4), 32, 32, "v5p:2x4x4"),
        ("v5p-8", (2, 2, 1), 4, 4, "v5p:2x2x1"),
        ("v4-8", (2, 2, 1), 4, 8, "v4:2x2x1"),
        ("v5e:4x8", (4, 8), 32, 32, "v5e:4x8"),
        ("h100-8", (8,), 8, 8, "h100:8"),
    ],
)
def test_names_of_topologies(name, shape, chips, devices, compiler):
    topology = parse_topology(name)
    found = (topology.shape, topology.chips, topology.devices, topology.compiler_name)
    assert found == (shape, chips, devices, compiler)


def test_slices_and_nodes_multiply():
    assert parse_topology("v5e-256", 4).chips == 1024
    assert parse_topology("h100-16").slices == 2


@pytest.mark.parametrize("name", ["v5e", "v9-8", "v5p-7", "v5e-12", "v5e-512", "v5e:4x4x4", "v5p:4x4", "h100-12"])
def test_topologies_that_are_not(name):
    with pytest.raises(UserError, match=name):
        parse_topology(name)


def test_model_flops_are_six_a_weight_and_half_of_the_attention():
    model, length = PRESETS["llama2-7b"], 2048
    weights = count_params(model) - model.vocab_size * model.hidden_size - (2 * 32 + 1) * 4096  # no embedding, norms
    attention = 3 * 2 * length * 4096 * 32  # forward and twice backward; 2 products of T x T / 2, 2 operations each
    assert cost.model_flops_per_token(model, length) == 6 * weights + attention


def test_link_bytes_follow_the_ring_rule():
    def sent(kind):
        return cost.link_bytes(Collective(kind, ("fsdp",), 4, 1, 1000, 1, 1000))

    assert sent("all-gather") == 750
    assert sent("all-gather-start") == 750
    assert sent("reduce-scatter") == 3000  # of 4,000 bytes before they are scattered
    assert sent("all-reduce") == 1500
    assert sent("all-to-all") == 750
    assert sent("collective-permute") == 1000


def program(**changes):
    values = {
        "matmul_flops": 1e14,
        "cycles": 3_000_000_000,
        "categories": {"matmul": 2_000_000_000, "copies": 400_000_000, "other": 600_000_000},
        "collectives": (Collective("all-gather", ("fsdp",), 4, 2, 240 * 10**9, 2, 240 * 10**9),),
        "kernels": (Kernel("splash_mha_fwd", (4, 32, 2048, 128), 10), Kernel("dkv", (4, 4, 32, 2048, 128), 10)),
        "custom_calls": {},
        "top": (),
    }
    return Program(**(values | changes))


def test_the_time_of_a_step_is_a_range():
    time = cost.step_time(program(), parse_topology("v5e-4"), kernel_efficiency=0.5)
    assert time.compiled == 2.0  # at 1.5 GHz
    # Causal attention: two products forward, five backward, each T x T x H operations a head (half of 2 T T H).
    assert time.kernels == pytest.approx(7 * 10 * 4 * 32 * 2048**2 * 128 / (0.5 * 197e12))
    assert time.links == pytest.approx(1.0)  # 180 GB over 180 GB/s
    assert (time.lower, time.upper) == (time.compute, time.compute + time.links)


def test_attention_is_counted_however_its_kernels_are_cut():
    square = 10 * 32 * 2048**2 * 128
    forward, keys = (
        Kernel("splash_mha_fwd_residuals", (32, 2048, 128), 10),
        Kernel("splash_mha_dkv", (8, 2048, 128), 10),
    )
    queries = Kernel("splash_mha_dq", (32, 2048, 128), 10)
    assert cost.attention_flops([forward]) == 2 * square  # a row a device: no dimension for rows
    assert cost.attention_flops([forward, keys, queries]) == (2 + 4 + 3) * square  # few keys for many queries
    assert cost.attention_flops([forward, keys]) == (2 + 5) * square
    assert cost.attention_flops([Kernel("cross_entropy", (8, 2048, 128), 10)]) == 0


def test_data_crosses_the_network_between_slices():
    crossing = (Collective("all-reduce", ("data",), 2, 1, 31 * 10**8, 1, 0),)
    time = cost.step_time(program(collectives=crossing), parse_topology("v5e-4", 2))
    assert (time.links, time.network) == (0.0, pytest.approx(1.0))


def test_the_recipe_of_the_paper_is_24_packed_rows():
    recipe = assumed_recipe(paper(), Assumptions())
    assert (recipe.updates, recipe.rows, recipe.examples) == (2820, 24.0, 256.0)
    assert recipe.micro_batches(8) == 3
    assert recipe.micro_batches(64) == 1
    padded = recipe.as_padded()
    assert padded.real_share(32) == pytest.approx(182 / 2096)  # 8.7 % real tokens


def test_the_recipe_of_real_lengths_is_their_plan():
    lengths = np.full(1024, 500, np.int64)  # four to a row of 2,048; 256 examples are 64 rows
    recipe = recipe_of_lengths(paper(), lengths)
    assert (recipe.updates, recipe.rows, recipe.tokens) == (40, pytest.approx(64), 128000)


def a_plan(config=None, topology="v5e-64", compiled=None):
    config = config or plan.with_overrides(paper(), training={"micro_batch_rows": 64})
    place, recipe = parse_topology(topology), assumed_recipe(config, Assumptions())
    compiled = compiled or Compiled(True, 10**9, 2 * 10**9, 10**7, program=program())
    time = cost.step_time(compiled.program, place) if compiled.program else None
    sizes = mesh_sizes(config.mesh, place.devices, place.slices)
    return plan.Plan(PRESETS["llama2-7b"], config, place, sizes, recipe, 1, compiled, time, Price(2.0, "given"))


def test_a_report_says_that_more_chips_than_rows_are_waste():
    console = Console(width=150, record=True, file=io.StringIO())
    shown = a_plan()
    report.show(shown, console, details=True)
    text = console.export_text()
    assert "64 chips, 64 devices" in text
    assert "only about 24 packed rows, and 64 devices" in " ".join(text.split())
    values = json.loads(json.dumps(report.as_json(shown)))
    hours = 2820 * shown.seconds[0] / 3600
    assert values["hours"][0] == pytest.approx(hours)
    assert values["dollars"][0] == pytest.approx(hours * 64 * 2)
    real = 256 * 182 / 64 * cost.model_flops_per_token(PRESETS["llama2-7b"], 2048)
    assert values["model_flops_real"] == pytest.approx(real)
    assert values["mfu"][1] == pytest.approx(real * 64 * 2048 / (256 * 182) / shown.seconds[0] / 197e12)


def test_a_report_of_what_does_not_fit_says_what_to_change():
    message = "RESOURCE_EXHAUSTED: Ran out: the total memory required for HLO temporaries (43.42G) exceeds (15.75G)."
    compiled = read_out_of_memory(message)
    assert not compiled.fits
    assert compiled.temporaries == int(43.42 * 2**30)
    config = plan.with_overrides(paper(), training={"micro_batch_rows": 128}, model={"remat": "none"})
    said = report.warnings(a_plan(config, compiled=compiled))
    assert any("model.remat=full" in line for line in said)
    assert any("training.micro_batch_rows=64" in line for line in said)
    assert report.as_json(a_plan(config, compiled=compiled))["fits"] is False


def test_the_compilers_list_of_large_buffers_is_read():
    message = """RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 40.00G of 15.75G hbm.
  Largest program allocations in hbm:

  1. Size: 10.75G
     Operator: op_name="jit(train_step)/jvp()/mlp" source_file="x.py"
     Shape: bf16[32,4,2048,11008]{3,2,1,0}
     Unpadded size: 10.75G
     ==========================

  2. Size: 4.00M
     Shape: bf16[32,4,2048,4096]{3,2,1,0}
"""
    assert read_out_of_memory(message).largest == (
        (int(10.75 * 2**30), "jit(train_step)/jvp()/mlp"),
        (4 * 2**20, "bf16[32,4,2048,4096]{3,2,1,0}"),
    )


def test_gpus_are_planned_by_formulas_and_the_report_says_so():
    config = paper()
    made = plan.make_plan(
        PRESETS["llama2-7b"], config, parse_topology("h100-8"), assumed_recipe(config, Assumptions()), Price(1, "given")
    )
    assert made.fits
    assert any("nothing was compiled" in line for line in report.warnings(made))
    params = count_params(PRESETS["llama2-7b"])
    assert made.compiled.arguments == pytest.approx(12 * params / 8, rel=1e-3)  # weights and two moments in float32
    assert made.compiled.program.matmul_flops == pytest.approx(made.computed_flops * 4 / 3)


def test_the_cache_is_by_content_and_survives_damage(tmp_path):
    cache = FiguresCache(tmp_path)
    key = FiguresCache.key("text", "v5e:2x2")
    assert key != FiguresCache.key("text", "v5e:2x4")
    assert FiguresCache.key("ab", "c") != FiguresCache.key("a", "bc")
    cache.write(key, {"fits": True})
    assert cache.read(key) == {"fits": True}
    (tmp_path / f"{key}.json").write_text('{"fits"')
    assert cache.read(key) is None
    FiguresCache(None).write(key, {})


def test_every_family_has_a_price_that_the_user_can_override():
    for name in ("v4-8", "v5e-4", "v5p-8", "v6e-4", "a100-8", "h100-8"):
        assert chip_price(parse_topology(name), None).chip_hour > 0
    assert chip_price(parse_topology("v5e-4"), 0.5) == Price(0.5, "given")


def test_rows_are_raised_to_what_the_devices_share():
    assert plan.with_whole_rows(paper(), parse_topology("v5e-64")).training.micro_batch_rows == 64
    assert plan.with_whole_rows(paper(), parse_topology("v5e-8")) == paper()


def test_search_leaves_out_what_cannot_fit():
    config = paper()
    recipe = assumed_recipe(config, Assumptions())
    assert not list(search.candidates(PRESETS["llama2-70b"], config, [parse_topology("v5e-4")], recipe))
    found = list(search.candidates(PRESETS["llama2-7b"], config, [parse_topology("v5e-32")], recipe))
    assert {one.config.mesh.tensor for one in found} >= {1, 2}
    assert all(one.config.training.micro_batch_rows * one.config.mesh.tensor % 32 == 0 for one in found)


def test_remat_on_a_small_host_recomputes_more(monkeypatch):
    import jax

    config = plan.with_overrides(paper(), model={"source": "toy"}, data={"max_length": 256})
    assert search.choose_remat(PRESETS["toy"], config, jax.devices()[:1]) == "none"
    monkeypatch.setattr(search, "available_memory", lambda: 1000)
    assert search.choose_remat(PRESETS["toy"], config, jax.devices()[:1]) == "full"


def test_the_least_recompute_that_fits_is_found_with_few_compilations():
    kept = {"full": 0, "attention": 8, "attention+gate": 30, "attention+gate+middle": 38, "attention+qkv+middle": 40}
    compiled = []

    def memory(changed):
        compiled.append(changed.model.remat)
        used = 10 + kept.get(changed.model.remat, 100) * 1.1
        return used if used <= limit else None

    def choose():
        compiled.clear()
        estimated = lambda changed: kept.get(changed.model.remat, 100)  # noqa: E731
        return search.least_recompute(paper(), limit, memory, estimated), list(compiled)

    limit = 53
    assert choose() == ("attention+gate+middle", ["full", "attention+qkv+middle", "attention+gate+middle"])
    limit = 12
    assert choose() == ("full", ["full"])
    limit = 5
    assert choose() == ("full", ["full"])


def test_auto_remat_is_planned_as_what_fits(tmp_path, monkeypatch):
    config = plan.with_overrides(paper(), model={"remat": "auto"})
    h100 = parse_topology("h100-8")
    made = search.plans_by_remat(
        PRESETS["llama2-7b"], config, h100, assumed_recipe(config, Assumptions()), Price(1, "-")
    )
    assert made[0].config.model.remat == "full"
    assert made[-1].fits
    assert made[-1].config.model.remat not in ("full", "auto")
    assert made[-1].compiled.memory > made[0].compiled.memory


def test_the_command_tells_mistakes_in_one_line(tmp_path, capsys, monkeypatch):
    path = tmp_path / "toy.yaml"
    path.write_text(TOY)
    for arguments, said in (
        (["--topology", "v9-3"], "--topology v9-3"),
        (["--topology", "v5e-4", "--price", "0"], "--price"),
        (["--topology", "v5e-16"], "training.batch_size 8 cannot fill the 16 rows"),
    ):
        assert main(["plan", str(path), *arguments]) == 2
        assert said in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["plan", str(path), "--topology", "v5e-4"]) == 2
    assert "pip install 'mentallama-jax[tpu]'" in capsys.readouterr().err


@libtpu
@pytest.mark.parametrize("tensor", [1, 2, 8])
def test_data_is_what_crosses_slices(tensor, monkeypatch):
    from jax.experimental import topologies

    from mentallama_jax.config import MeshSection
    from mentallama_jax.parallel.mesh import make_mesh

    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    monkeypatch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    described = topologies.get_topology_desc(platform="tpu", topology_name="v5e:4x4", num_slices=2)
    mesh = make_mesh(MeshSection(data=4, tensor=tensor), described.devices)
    assert dict(mesh.shape) == {"data": 4, "fsdp": 8 // tensor, "tensor": tensor, "sequence": 1}
    slices = [{device.slice_index for device in part.flat} for part in mesh.devices]
    assert slices == [{0}, {0}, {1}, {1}]


@libtpu
def test_an_axis_may_be_a_part_of_a_side_of_the_chips(monkeypatch):
    from jax.experimental import topologies

    from mentallama_jax.config import MeshSection
    from mentallama_jax.parallel.mesh import make_mesh

    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    monkeypatch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    described = topologies.get_topology_desc(platform="tpu", topology_name="v6e:4x4")
    mesh = make_mesh(MeshSection(tensor=2), described.devices)
    assert dict(mesh.shape) == {"data": 1, "fsdp": 8, "tensor": 2, "sequence": 1}
    assert len({device.id for device in mesh.devices.flat}) == 16


@pytest.mark.long
@libtpu
def test_the_command_compiles_the_step_and_finds_it_again(tmp_path, capsys):
    path = tmp_path / "toy.yaml"
    path.write_text(TOY)
    command = ["plan", str(path), "--topology", "v5e-4", "--cache-dir", str(tmp_path / "cache"), "--json"]
    assert main(command) == 0
    first = json.loads(capsys.readouterr().out)[0]
    assert (first["chips"], first["micro_batches"], first["fits"]) == (4, 2, True)
    assert first["memory"]["arguments"] > 0
    assert first["cycles"] == sum(first["cycles_by_category"].values()) > 0
    # Two micro-batches of three layers: forward, forward again for the backward pass, or less with another remat.
    assert sum(kernel["launches"] for kernel in first["kernels"]) >= 12
    assert any(one["axes"] == ["fsdp"] for one in first["collectives"])
    assert main(command) == 0
    again = json.loads(capsys.readouterr().out)[0]
    assert again["compile_seconds"]["cached"]
    assert again | {"compile_seconds": 0} == first | {"compile_seconds": 0}


@libtpu
@pytest.mark.slow
def test_seven_billion_parameters_fit_a_v5e_64_with_full_recompute(tmp_path):
    rows = {"micro_batch_rows": 256, "batch_size": 256, "batch_unit": "rows"}
    config = plan.with_overrides(paper(), training=rows, model={"remat": "full"})
    recipe = assumed_recipe(config, Assumptions())
    made = plan.make_plan(
        PRESETS["llama2-7b"], config, parse_topology("v5e-64"), recipe, Price(1.2, "given"), str(tmp_path)
    )
    assert made.fits
    assert made.compiled.program.matmul_flops == pytest.approx(407e12, rel=0.02)
    assert made.compiled.arguments == pytest.approx(1.267e9, rel=0.01)
    refused = replace(made, config=plan.with_overrides(config, model={"remat": "none"}))
    tried = plan.make_plan(refused.model, refused.config, refused.topology, recipe, refused.price, str(tmp_path))
    assert not tried.fits
    assert tried.compiled.temporaries > refused.topology.device_memory


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v5litepod64", "did you mean v5litepod-64?"),
        ("v5litepod-4x", "did you mean v5litepod-4?"),
        ("h100_8", "did you mean h100-8?"),
        ("v5e-65", "take v5e-64 or v5e-128, or give a shape such as v5e:4x12"),
        ("v5p-24", "take v5p-16 or v5p-32, or give a shape such as v5p:4x4x12"),
    ],
)
def test_a_topology_that_is_nearly_one_is_named(name, said):
    with pytest.raises(UserError, match=re.escape(said)):
        parse_topology(name)


def test_figures_of_a_ranking_have_two_digits():
    assert [
        ranking._range(ends) for ends in ((0.0012, 0.0018), (0.031, 0.2), (0.73, 1.03), (44.2, 6200.0), (0.0, 0.1))
    ] == [
        "0.0012-0.0018",
        "0.031-0.200",
        "0.73-1.03",
        "44-6,200",
        "0.00-0.10",
    ]


def test_a_search_that_is_stopped_keeps_what_it_found(monkeypatch):
    config = parse_config(
        {"model": {"source": "llama2-7b"}, "data": {"train": ["x"]}, "training": {"steps": 1, "run_dir": "r"}}, "test"
    )
    found = []

    def one(*_):
        if found:
            raise KeyboardInterrupt
        found.append("plan")
        return ["plan"]

    monkeypatch.setattr(search, "plans_by_remat", one)
    said = []
    given = {"limit": 3, "price": None, "cache_dir": None, "kernel_efficiency": 0.5}
    recipe = assumed_recipe(config, Assumptions())
    topologies = [parse_topology("v5e-64")]
    progress = lambda done, total, what: said.append((done, what))  # noqa: E731
    assert search.search(PRESETS["llama2-7b"], config, topologies, recipe, progress=progress, **given) == ["plan"]
    assert said[-1] == (1, "stopped; what follows is of those before")
