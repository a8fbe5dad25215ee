"""Plans of scoring pairs: ranges and formulas by hand, the program that `evaluate` runs, a small BART compiled."""

import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from child_processes import cpu_environment
from rich.console import Console

from mentallama_jax.cli.main import main
from mentallama_jax.jobs.open_shape import scorer_shape
from mentallama_jax.models.module import count_params
from mentallama_jax.models.presets import SEQUENCE_PRESETS
from mentallama_jax.models.t5 import T5Config
from mentallama_jax.planning import scoring_report
from mentallama_jax.planning.compilation import Compiled, Job, PairRows
from mentallama_jax.planning.hlo import Collective, Program
from mentallama_jax.planning.prices import Price
from mentallama_jax.planning.scoring import MEAN_TOKENS, flops_per_place, make_score_plan
from mentallama_jax.planning.topologies import parse_topology

ROOT = Path(__file__).resolve().parents[2]
LARGE = SEQUENCE_PRESETS["bart-large"]
CONFIG_YAML = str(ROOT / "configs" / "toy.yaml")
libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="the TPU compiler comes with the extra `tpu`"
)
SMALL = {
    "model_type": "bart",
    "architectures": ["BartForConditionalGeneration"],
    "vocab_size": 256,
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 1,
    "decoder_attention_heads": 1,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 512,
    "activation_function": "gelu",
    "scale_embedding": False,
    "dropout": 0.1,
}

PROGRAMS = """
import sys
from pathlib import Path
import jax
from small_sequence_model import CONFIG, write_bart
from mentallama_jax.config import MeshSection
from mentallama_jax.evaluation.pair_metrics import Pair
from mentallama_jax.jobs.metric_models import MetricModels
from mentallama_jax.jobs.open_metrics import open_metrics
from mentallama_jax.parallel.mesh import make_mesh, use_mesh
from mentallama_jax.scorers import bart_score

folder = Path(sys.argv[1])
write_bart(folder)
devices, real, texts = jax.devices(), bart_score._token_logs, []

def recorded(*arguments, **fixed):
    texts.append(real.lower(*arguments, **fixed).as_text())
    return real(*arguments, **fixed)

bart_score._token_logs = recorded
(metric,) = open_metrics(["bartscore"], MetricModels(bartscore=str(folder)), ["it is so"])
list(metric.scores([Pair("1", "DR", "a post", "it was", "it is so")]))
bart_score._token_logs = real
mesh = make_mesh(MeshSection(data=len(devices), fsdp=1), devices)
with use_mesh(mesh):
    rows, room = bart_score.ROWS_ON_CPU * len(devices), bart_score.ROOM_ON_CPU
    absent = bart_score.lower_scores(CONFIG, mesh, rows=rows, room=room).as_text()
assert texts == [absent]
"""


def a_program(**changes) -> Program:
    sums = (Collective("all-reduce", ("data",), 8, 10, 36 * 10**7, 10, 0),)
    return Program(3e12, 150_000_000, {"matmul": 150_000_000}, sums, (), {}, (), **changes)


def large_plan(monkeypatch, compiled: Compiled | None = None, topology="v5e-8", pairs=19353):
    made = compiled or Compiled(True, 10**9, 10**9, 10**6, program=a_program())
    monkeypatch.setattr("mentallama_jax.planning.scoring.compile_job", lambda job: made)
    price = Price(2.0, "given")
    return make_score_plan("bart-large", LARGE, parse_topology(topology), pairs, MEAN_TOKENS, price)


def test_bart_large_has_its_published_size():
    # As transformers counts bart-large-cnn, to which the biases of the output are no parameters.
    assert count_params(LARGE) == 406_290_432 + 50264
    assert scorer_shape("facebook/bart-large-cnn") == LARGE


def test_operations_of_a_place_are_two_a_weight_and_three_attentions():
    tables = 50264 * 1024 + 2 * 1026 * 1024
    vectors = 50264 + 2 * 2 * 1024 + 12 * (4 + 1 + 4) * 1024 + 12 * (4 + 4 + 1 + 6) * 1024 + 24 * 4096
    weights = count_params(LARGE) - tables - vectors
    assert weights == 12 * (4 + 8) * 1024**2 + 24 * 2 * 1024 * 4096
    attention = 12 * (4 + 2 + 4) * 512 * 1024  # of the encoder, the decoder's own half, to the source
    assert flops_per_place(LARGE, 512) == 2 * (weights + 50264 * 1024) + attention


def test_heads_of_t5_need_not_be_as_wide_as_the_model():
    shape = T5Config(
        vocab_size=100,
        hidden_size=8,
        head_dim=4,
        intermediate_size=16,
        encoder_layers=1,
        decoder_layers=1,
        num_heads=6,
        buckets=8,
        max_distance=16,
        layer_norm_eps=1e-6,
        activation="relu",
        gated=True,
        tie_embeddings=True,
        scale_outputs=True,
        dropout=0.0,
        pad_id=0,
        start_id=0,
        end_id=1,
    )
    products = (4 + 8) * 8 * 24 + 2 * 3 * 8 * 16 + 8 * 100
    assert flops_per_place(shape, 32) == 2 * products + 10 * 32 * 24


def test_pairs_share_rows_and_the_range_is_that_of_communication(monkeypatch):
    made = large_plan(monkeypatch)
    assert made.work == PairRows(64, 512)
    assert made.pairs_of_a_row == pytest.approx(0.985 * 512 / 113)
    assert made.batches == 68  # 19,353 pairs, 64 rows of 4.46
    links = 2 * 36e7 * 7 / 8 / 180e9
    assert made.seconds == (pytest.approx(0.1), pytest.approx(0.1 + links))
    assert made.pairs_per_second[1] == pytest.approx(made.pairs_of_a_row * 64 / 0.1)
    assert made.rent.seconds[0] == pytest.approx(6.8)
    assert made.rent.dollars[0] == pytest.approx(6.8 / 3600 * 8 * 2)
    assert made.model_flops == 8 * 512 * flops_per_place(LARGE, 512)


def test_table_and_json_say_the_same(monkeypatch):
    made, console = large_plan(monkeypatch), Console(width=150, record=True, file=io.StringIO())
    scoring_report.show(made, console, details=True)
    text = console.export_text()
    assert "68 batches, 6.8 to 7.0 seconds" in text
    assert "$0.03 to $0.03" in text
    values = json.loads(json.dumps(scoring_report.as_json(made)))
    assert values["pairs_per_second"] == list(made.pairs_per_second)
    assert values["dollars"] == list(made.rent.dollars)
    assert (values["rows"], values["room"], values["dtype"], values["warnings"]) == (64, 512, "float32", [])


def test_what_does_not_fit_or_is_too_large_is_said(monkeypatch):
    refused = large_plan(monkeypatch, Compiled(False, temporaries=10**12, problem="RESOURCE_EXHAUSTED"))
    assert not refused.fits
    assert any("does not fit" in line for line in scoring_report.warnings(refused))
    assert "pairs_per_second" not in scoring_report.as_json(refused)
    scoring_report.show(refused, Console(file=io.StringIO()))
    assert any(
        "one host, which has at most 8" in one
        for one in scoring_report.warnings(large_plan(monkeypatch, topology="v5e-64"))
    )
    assert any(
        "rows of its only batch are empty" in one for one in scoring_report.warnings(large_plan(monkeypatch, pairs=9))
    )


def test_figures_are_kept_by_model_type_and_work():
    place = parse_topology("v5e-8")
    assert Job(LARGE, None, place, PairRows(64, 512)).kind == "bart PairRows"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--score", "bart-large", "--topology", "h100-8"], "which there is none of for GPUs"),
        (["--score", "bart-large", "--topology", "v5e-8", "--slices", "2"], "pairs are scored within one"),
        (["--score", "bart-large", "--topology", "v5e-8", "--mean-tokens", "600"], "rows of pairs have 512 tokens"),
        (["--score", "bart-large", "--topology", "v5e-8", "--generate"], "--score takes no CONFIG"),
        (["--score", "bart-large", "--topology", "v5e-8", "--prompt", "9"], "--prompt goes with --generate"),
        ([CONFIG_YAML, "--score", "bart-large", "--topology", "v5e-8"], "--score takes no CONFIG"),
        (["--topology", "v5e-8"], "CONFIG: name a YAML file"),
        (["--score", "nowhere/at-all", "--topology", "v5e-8"], "nowhere/at-all"),
    ],
)
def test_the_command_tells_mistakes_in_one_line(capsys, monkeypatch, arguments, said):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["plan", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len([line for line in error.splitlines() if not line.startswith("asking the compiler about ")]) == 1


def test_a_model_that_is_no_encoder_decoder_is_refused(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 9, "hidden_size": 4}))
    assert main(["plan", "--score", str(tmp_path), "--topology", "v5e-8"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.long
def test_what_is_planned_is_the_program_that_evaluate_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAMS, str(tmp_path / "bart")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=cpu_environment(4, PYTHONPATH=f"{ROOT}:{ROOT / 'tests/scorers'}"),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]


@pytest.mark.long
@libtpu
def test_the_command_compiles_the_program_and_finds_it_again(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    command = [
        "plan",
        "--score",
        str(tmp_path),
        "--topology",
        "v5e-4",
        "--cache-dir",
        str(tmp_path / "cache"),
        "--json",
    ]
    assert main(command) == 0
    first = json.loads(capsys.readouterr().out)[0]
    assert (first["chips"], first["rows"], first["model_type"], first["fits"]) == (4, 32, "bart", True)
    assert first["memory"]["arguments"] > 0
    assert first["cycles"] == sum(first["cycles_by_category"].values()) > 0
    kernels = {
        kernel["name"].split(" ")[0].startswith("bidirectional"): kernel["launches"] for kernel in first["kernels"]
    }
    assert kernels == {True: 2 + 3, False: 3}  # the encoder and what reads it, and the decoder's own
    assert first["matmul_flops"] == pytest.approx(first["model_flops"] - first_attention(), rel=0.02)
    assert not first["collectives"]  # parameters are on every device
    assert main(command) == 0
    again = json.loads(capsys.readouterr().out)[0]
    assert again["compile_seconds"]["cached"]
    assert again | {"compile_seconds": 0} == first | {"compile_seconds": 0}


def first_attention() -> float:
    """Operations of attention of the small BART on a device: 8 rows of 512 places."""
    return 8 * 512 * (2 * 4 + 3 * (2 + 4)) * 512 * 64


@libtpu
@pytest.mark.slow
def test_bart_large_scores_on_a_v5e_8(tmp_path):
    made = make_score_plan(
        "bart-large", LARGE, parse_topology("v5e-8"), 19353, MEAN_TOKENS, Price(1.2, "given"), str(tmp_path)
    )
    assert made.fits
    assert made.compiled.arguments == pytest.approx(4 * count_params(LARGE), rel=0.01)
    program = made.compiled.program
    assert program is not None
    assert sum(kernel.times for kernel in program.kernels) == 36
    attention = 8 * 512 * 12 * 10 * 512 * 1024
    assert program.matmul_flops == pytest.approx(made.model_flops - attention, rel=0.02)
    # A product in full fp32 is six of bf16: the cycles hold them.
    assert program.categories["matmul"] / 1.5e9 > 6 * program.matmul_flops / 197e12
