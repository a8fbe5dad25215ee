"""Plans of tuning a classifier: operations and kernels by hand, the command by formulas and by the compiler."""

import importlib.util
import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from mentallama_jax.cli.main import main
from mentallama_jax.config import load_config
from mentallama_jax.jobs.open_shape import trained_shape
from mentallama_jax.models.bert import BertConfig
from mentallama_jax.models.module import count_params
from mentallama_jax.models.presets import ENCODER_PRESETS
from mentallama_jax.planning import cost, plan, report
from mentallama_jax.planning.compilation import Job, figures_key
from mentallama_jax.planning.hlo import Kernel, read_program
from mentallama_jax.planning.prices import Price
from mentallama_jax.planning.recipe import Assumptions, assumed_recipe, assumed_tokens
from mentallama_jax.planning.topologies import parse_topology

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs" / "classifier-minilm.yaml")
BASE = ["model.source=bert-base", "model.compute_dtype=bfloat16", "data.max_length=512"]
ROWS = ["training.micro_batch_rows=64", "training.batch_size=64", "training.batch_unit=rows"]
TOY = ["model.source=toy-encoder", "data.max_length=128", "training.micro_batch_rows=4", "training.batch_size=8"]
libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="the TPU compiler comes with the extra `tpu`"
)


def base(*changes: str):
    return load_config(CONFIG, [*BASE, *ROWS, *changes])


def base_plan(topology: str, cache_dir: str | None = None):
    config = base()
    recipe = assumed_recipe(config, Assumptions(2837, assumed_tokens(config)))
    return plan.make_plan(
        trained_shape(config), config, parse_topology(topology), recipe, Price(1.2, "given"), cache_dir
    )


def test_bert_base_has_its_published_size():
    shape = ENCODER_PRESETS["bert-base"]
    assert count_params(shape) == 109_482_240
    tuned = trained_shape(base())
    assert isinstance(tuned, BertConfig)
    assert (tuned.num_labels, count_params(tuned)) == (2, 109_482_240 + 2 * 768 + 2)


def test_published_names_need_no_download():
    assert trained_shape(base("model.source=google-bert/bert-base-uncased")) == trained_shape(base())


def test_an_encoder_needs_six_operations_a_weight_and_the_whole_of_the_attention():
    model, length = ENCODER_PRESETS["bert-base"], 512
    weights = 12 * (4 * 768 * 768 + 2 * 768 * 3072)
    attention = 3 * 12 * 2 * 2 * length * 768  # forward and twice backward; 2 products of T x T, 2 operations each
    assert cost.model_flops_per_token(model, length) == 6 * weights + attention


def test_a_bidirectional_kernel_counts_the_whole_square():
    half = [Kernel("splash_mha_fwd", (8, 12, 512, 64), 12), Kernel("splash_mha_dkv", (8, 12, 512, 64), 12)]
    whole = [Kernel(f"bidirectional {one.name}", one.shape, one.times) for one in half]
    assert not any(one.is_bidirectional for one in half)
    assert cost.attention_flops(half) == 7 * 12 * 8 * 12 * 512**2 * 64
    assert cost.attention_flops(whole) == 2 * cost.attention_flops(half)


def test_a_kernel_is_named_by_its_scope_which_stands_some_lines_further():
    text = (Path(__file__).parent / "small.hlo").read_text("utf-8")
    target = 'custom_call_target="tpu_custom_call"'
    more = ', frontend_attributes={kernel_metadata={\n\n"xprof_metadata":"{}"\n}}, metadata={op_name="jit(step)/%s/x"}'
    mesh = {"data": 2, "fsdp": 4, "tensor": 1, "sequence": 1}
    causal, other = (
        read_program(text.replace(target, target + more % scope), mesh) for scope in ("shard_map", "bidirectional")
    )
    assert causal == read_program(text, mesh)
    assert [one.name for one in causal.kernels] == ["splash_mha_fwd"]
    assert [one.name for one in other.kernels] == ["bidirectional splash_mha_fwd"]
    assert (other.cycles, other.collectives) == (causal.cycles, causal.collectives)


def test_the_recipe_is_of_the_data_set_and_of_the_texts_that_are_read():
    config = base("training.epochs=3")
    recipe = assumed_recipe(config, Assumptions(2837, assumed_tokens(config)))
    examples = 64 * 512 * 0.985 / 113
    assert (recipe.rows, recipe.updates) == (64, 3 * 10)
    assert recipe.examples == pytest.approx(examples)
    assert assumed_tokens(base("objective.input=explanation")) < assumed_tokens(config)
    assert assumed_tokens(base("data.max_length=64")) == 64  # a post is cut


def test_gpus_are_planned_by_formulas():
    made = base_plan("h100-8")
    assert made.fits
    # Weights and two moments in float32; norms and biases are whole on every device.
    assert made.compiled.arguments == pytest.approx(12 * count_params(made.model) / 8, rel=1e-2)
    assert made.compiled.program is not None
    assert made.compiled.program.matmul_flops == pytest.approx(made.computed_flops)  # nothing is recomputed
    values = json.loads(json.dumps(report.as_json(made)))
    assert "attention at the whole of T x T" in values["rule"]
    assert values["recipe"]["padded_over_packed"] == pytest.approx(math.ceil(math.ceil(made.recipe.examples) / 64))
    console = Console(width=150, record=True, file=io.StringIO())
    report.show(made, console, details=True)
    text = console.export_text()
    assert "padded to 512 " in text
    assert "paper" not in text
    assert f"{made.rent.seconds[0]:.1f} to" in text  # less than a tenth of an hour is told in seconds


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data.max_length=1024"], "data.max_length 1024 is more than the 512 positions of bert-base; lower it"),
        (["--generate"], "bert-base: is an encoder (bert), which reads texts and writes none"),
        (["model.source=llama2-7b"], "llama2-7b"),
    ],
)
def test_mistakes_are_told_in_one_line(capsys, monkeypatch, arguments, said):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["plan", CONFIG, *BASE, *ROWS, *arguments, "--topology", "v5e-8"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.long
@libtpu
def test_the_command_compiles_the_step_of_an_encoder_and_finds_it_again(tmp_path, capsys):
    command = ["plan", CONFIG, *TOY, "training.batch_unit=rows", "--topology", "v5e-4", "--json"]
    command += ["--cache-dir", str(tmp_path / "cache")]
    assert main(command) == 0
    first = json.loads(capsys.readouterr().out)[0]
    assert (first["chips"], first["micro_batches"], first["fits"]) == (4, 2, True)
    assert first["cycles"] == sum(first["cycles_by_category"].values()) > 0
    assert "2,837 examples of 113 tokens" in first["recipe"]["source"]
    # Two micro-batches of two layers: outputs, gradients of queries, gradients of keys and values; all without
    # causality, and none for anything else.
    assert [kernel["launches"] for kernel in first["kernels"]] == [4, 4, 4]
    assert all(kernel["name"].startswith("bidirectional splash") for kernel in first["kernels"])
    assert main(command) == 0
    again = json.loads(capsys.readouterr().out)[0]
    assert again["compile_seconds"]["cached"]
    assert again | {"compile_seconds": 0} == first | {"compile_seconds": 0}


@libtpu
def test_figures_are_kept_by_model_type_and_objective():
    place, config = parse_topology("v5e-4"), load_config(CONFIG, TOY)
    encoder = Job(trained_shape(config), config, place, 1)
    assert encoder.kind == "bert classification"
    config = load_config(str(ROOT / "configs" / "toy.yaml"))
    causal = Job(trained_shape(config), config, place, 1)
    assert causal.kind == "llama supervised"
    assert figures_key(encoder, {"fsdp": 4}, "text") == figures_key(encoder, {"fsdp": 4}, "text")
    assert figures_key(encoder, {"fsdp": 4}, "text") != figures_key(causal, {"fsdp": 4}, "text")


@libtpu
@pytest.mark.slow
def test_bert_base_trains_on_a_v5e_8(tmp_path):
    made = base_plan("v5e-8", str(tmp_path))
    assert made.fits
    assert made.compiled.program is not None
    params = count_params(made.model)
    assert made.compiled.arguments == pytest.approx(12 * params / 8, rel=0.15)  # and the batch, in whole tiles
    attention = cost.attention_flops(made.compiled.program.kernels)
    assert attention / 9 * 6 == pytest.approx(3 * 12 * 4 * 512 * 768 * 8 * 512)  # 9 products where the model needs 6
    assert made.compiled.program.matmul_flops == pytest.approx(made.computed_flops - attention / 9 * 6, rel=0.02)
