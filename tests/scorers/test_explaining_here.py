"""Explanations from a model of this machine, checked by a classifier and by BARTScore; toy models."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import jax
import pytest
from small_sequence_model import write_bart

from mentallama_jax.cli.main import main
from mentallama_jax.evaluation import explanation_checks as checks
from mentallama_jax.evaluation.explanation_checks import Thresholds
from mentallama_jax.formats.hf_folder import save_hf, save_model
from mentallama_jax.formats.model_card import ModelCard
from mentallama_jax.formats.tokenizers.encoder_tokenizer import EncoderTokenizer
from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer
from mentallama_jax.imhi.explanation_prompts import expert_examples
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.jobs.explain import REPORT, CheckModels, Collection, check
from mentallama_jax.models.bert import BertConfig
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import init_params

SAMPLE = Path(__file__).resolve().parents[2] / "mentallama_jax" / "imhi" / "sample"
EXPERTS = [
    Record(f"e{number}", "DR", f"expert post {number}", ("yes", "no")[number % 2], f"a reason {number}")
    for number in range(6)
]
ROWS = [Record(f"r{number}", "DR", f"grey day {number}", ("yes", "no")[number % 2]) for number in range(4)]


def write(path: Path, records: list[Record]) -> str:
    path.write_text("".join(json.dumps(asdict(record)) + "\n" for record in records))
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=16,
        intermediate_size=32,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        max_positions=1024,
        rope_theta=10000.0,
        rope_scaling=None,
        rms_norm_eps=1e-5,
        tie_embeddings=True,
    )
    params = init_params(config, jax.random.key(0))
    card = ModelCard("tiny", "org/base", base_is_hub_id=True)
    save_hf(folder, config, params, load_tokenizer(SAMPLE / "tokenizer"), card=card)
    return folder


@pytest.mark.slow
def test_a_model_here_answers_and_is_asked_once(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "data.jsonl", [*ROWS, replace(ROWS[0], id="long", post="grey " * 2000)])
    experts, out = write(tmp_path / "experts.jsonl", EXPERTS), tmp_path / "out"
    words = ["data", "explain", data, "--examples", experts, "--model", str(model), "--out", str(out)]
    words += ["--max-new-tokens", "4", "--batch-size", "4"]
    assert main(words) == 0
    answers = (out / "answers.jsonl").read_bytes()
    report = json.loads((out / REPORT).read_text())
    assert report["all"]["rows"] == 5
    assert report["all"]["rejected"][checks.NO_ANSWER] == 1
    assert sum(report["all"]["rejected"].values()) >= 5  # a model that learnt nothing writes no labels
    assert report["made_by"]["max_new_tokens"] == 4
    assert "nothing was kept" in capsys.readouterr().out
    assert main(words) == 0
    assert (out / "answers.jsonl").read_bytes() == answers
    assert json.loads((out / REPORT).read_text()) == report


@pytest.mark.slow
def test_a_classifier_and_bartscore_check_explanations(tmp_path: Path) -> None:
    task = TASKS["DR"]
    config = BertConfig(
        vocab_size=1024,
        hidden_size=16,
        intermediate_size=32,
        num_layers=1,
        num_heads=2,
        max_positions=64,
        position_offset=0,
        type_vocab_size=2,
        layer_norm_eps=1e-12,
        activation="gelu",
        pooler=True,
        num_labels=2,
        dropout=0.1,
        classifier_dropout=0.1,
    )
    params = init_params(config, jax.random.key(0))
    files = dict(EncoderTokenizer(SAMPLE / "encoder_tokenizer").files)
    save_model(tmp_path / "classifiers" / "DR", config, params, files, label_names=task.labels)
    write_bart(tmp_path / "bart")
    rows = [*ROWS, Record("own", "DR", "expert post 0", "yes")]
    collection = Collection(records=rows, experts=expert_examples(EXPERTS, rows, 2, 0), count=2)
    answers: list[tuple[str | None, str]] = [
        (f"{task.sentences[record.label]} Reasoning: The post is about a grey day.", "eos") for record in rows
    ]
    models = CheckModels(classifiers=tmp_path / "classifiers", bartscore=str(tmp_path / "bart"))
    found = check(collection, answers, Thresholds(reject_inconsistent=True, least_bartscore=0.0), models)
    read = {row.read for row in found}
    assert len(read) == 1  # the explanation is the same, and the label sentence is not read
    assert read <= set(task.labels)
    wrong = [row for row in found if row.read != row.collected.record.label]
    assert wrong
    assert all(checks.INCONSISTENT in row.reasons for row in wrong)
    assert [row.bartscore is None for row in found] == [True] * 4 + [False]
    assert found[-1].reasons[-1] == checks.FAR  # a log-probability is below 0
