"""Runs on raw text: they learn, say how held-out text was before and after, resume, and are a model to go on from."""

import io
import json
import os
import random
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from mentallama_jax.config import parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.reports.sections_on_runs import TrainedRun, training_sections
from mentallama_jax.formats.load import load_model
from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer
from mentallama_jax.jobs.export import export
from mentallama_jax.jobs.tune import base_model, tune
from mentallama_jax.training import loop
from mentallama_jax.training.data.examples import load_examples
from mentallama_jax.training.run.metrics import read_metrics
from mentallama_jax.training.run.opened_run import load_run

pytestmark = pytest.mark.long

WORDS = (
    "the quiet river runs under old stone bridges",
    "people walk home",
    "rain and wind",
    "a slow evening",
    "warm light",
)
CLOCK = "tokens_per_second"


def write(path: Path, count: int, seed: int) -> str:
    draw = random.Random(seed)
    texts = [" ".join(draw.choice(WORDS) for _ in range(draw.randint(4, 160))) for _ in range(count)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


@pytest.fixture(scope="module")
def values(tiny_values, tmp_path_factory):
    """Sections of a config over made texts, some records between them; `values(run_dir, key changes)`."""
    folder = tmp_path_factory.mktemp("texts")
    data = {
        "train": [write(folder / "train.jsonl", 80, 0)],
        "validation": [write(folder / "val.jsonl", 6, 1)],
        "max_length": 128,
        "max_rows": None,
    }
    objective = {"kind": "documents", "instructions": ["sample:train"], "instruction_share": 0.15}
    training = {"epochs": 2, "batch_size": 8, "batch_unit": "rows"}
    changed = {"data": data, "objective": objective, "training": training, "optimizer": {"learning_rate": 1e-2}}
    changed |= {"evaluation": {"max_rows": 5}}

    def make(run_dir: Path, **changes):
        return tiny_values(
            run_dir, **{name: changed.get(name, {}) | changes.get(name, {}) for name in {*changed, *changes}}
        )

    return make


@pytest.fixture(scope="module")
def whole(values, tmp_path_factory):
    """A whole run: (folder, config, what it said)."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    config = parse_config(values(folder), "test")
    said = io.StringIO()
    result = tune(config, console=Console(file=said, width=200))
    assert result.steps == result.total_steps > 20
    return folder, config, said.getvalue()


def figures(folder: Path) -> list[dict]:
    return [
        {key: value for key, value in row.items() if key != CLOCK} for row in read_metrics(folder / "metrics.jsonl")
    ]


def best_of(folder: Path) -> dict:
    """The evaluation of the checkpoint that stands for the run."""
    measured = [row for row in figures(folder) if row["kind"] == "validation" and row["step"]]
    return min(measured, key=lambda row: row["validation_loss"])


def test_perplexity_of_held_out_text_falls_and_is_told_before_and_after(whole):
    folder, _, said = whole
    measured = [row for row in figures(folder) if row["kind"] == "validation"]
    last = max(row["step"] for row in figures(folder))
    assert [row["step"] for row in measured] == [0, last // 2, last]
    first, *_, end = measured
    assert 900 < first["perplexity"] < 1200  # 1,024 pieces, of which the model knows nothing
    assert end["perplexity"] < 30
    for row in measured:
        assert row["perplexity"] == pytest.approx(np.exp(row["validation_loss"]))
    assert end["bits_per_byte"] / first["bits_per_byte"] == pytest.approx(
        end["validation_loss"] / first["validation_loss"]
    )
    for name, key in (("perplexity", "perplexity"), ("bits per byte", "bits_per_byte")):
        told = f"held-out text: {name} {first[key]:.4f} before the first update, {end[key]:.4f} after update {last}"
        assert told in said
    assert not any(word in said + (folder / "log.txt").read_text() for word in ("bridges", "quiet"))
    assert "bridges" not in (folder / "data.json").read_text()


def test_reports_know_that_lower_is_better(whole):
    lines = read_metrics(whole[0] / "metrics.jsonl")
    (section,) = training_sections([TrainedRun("run", lines)])
    table = next(block for block in section.blocks if getattr(block, "caption", "") == "Validation")
    best = {row[1]: float(row[2]) for row in table.rows}
    for name, key in (
        ("Perplexity of held-out text", "perplexity"),
        ("Bits per byte of held-out text", "bits_per_byte"),
    ):
        assert best[name] == pytest.approx(min(line[key] for line in lines if key in line), abs=1e-4)


def test_bits_per_byte_are_those_of_the_texts(whole):
    folder, config, _ = whole
    examples = load_examples(config, base_model(config).tokenizer, lambda _: None)
    store = examples.validation
    texts = [json.loads(line)["text"] for line in Path(config.data.validation[0]).read_text().splitlines()]
    chosen = {int(name.split(",")[0].rpartition(":")[2]) for name in store.ids}
    assert len(chosen) == 5
    assert store.text_bytes == sum(len(texts[number - 1].encode()) for number in chosen)
    row = figures(folder)[-1]
    nats = row["validation_loss"] * (len(store.tokens) - len(store))
    assert row["bits_per_byte"] == pytest.approx(nats / np.log(2) / store.text_bytes)


def test_a_run_that_was_stopped_goes_on_bit_for_bit(whole, values, tmp_path, monkeypatch):
    folder, _, _ = whole
    config = parse_config(values(tmp_path / "run"), "test")
    place_batch, calls = loop.place_batch, []

    def place_and_interrupt(*arguments):
        calls.append(None)
        if len(calls) == 15:
            os.kill(os.getpid(), signal.SIGTERM)
        return place_batch(*arguments)

    monkeypatch.setattr(loop, "place_batch", place_and_interrupt)
    stopped = [tune(config, console=Console(file=io.StringIO())) for _ in range(2)]
    assert [result.stopped_by for result in stopped] == ["SIGTERM", ""]
    assert figures(tmp_path / "run") == figures(folder)
    mine, theirs = load_run(tmp_path / "run"), load_run(folder)
    jax.tree.map(np.testing.assert_array_equal, mine.params, theirs.params)


def test_files_may_move_but_not_change(whole, values, tmp_path):
    folder, config, _ = whole
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(Path(config.data.train[0]).read_bytes())
    quiet = Console(file=io.StringIO())
    assert tune(parse_config(values(folder, data={"train": [str(moved)]}), "test"), console=quiet).stopped_by == ""
    moved.write_text(moved.read_text() + '{"text": "more"}\n')
    with pytest.raises(UserError, match="other data"):
        tune(parse_config(values(folder, data={"train": [str(moved)]}), "test"), console=quiet)


@pytest.fixture(scope="module")
def exported(whole, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "hf"
    export(str(whole[0]), folder)
    return folder


def test_the_run_is_a_model_to_tune_and_to_export(whole, exported, tiny_values, tmp_path):
    folder, _, _ = whole
    model = {"source": str(folder), "weights": "pretrained", "tokenizer": None}
    base, trained = base_model(parse_config(tiny_values(tmp_path / "tuned", model=model), "test")), load_run(folder)
    assert (base.config, base.tokenizer.fingerprint) == (
        trained.model_config,
        load_tokenizer(folder / "tokenizer").fingerprint,
    )
    for params in (base.load_params(None), load_model(str(exported))[1]):
        jax.tree.map(np.testing.assert_array_equal, params, trained.params)


def test_perplexity_is_that_of_transformers(whole, exported):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `parity`)")
    hf = pytest.importorskip("transformers.models.llama.modeling_llama")
    folder, config, _ = whole
    model = hf.LlamaForCausalLM.from_pretrained(exported).eval()
    store = load_examples(config, base_model(config).tokenizer, lambda _: None).validation
    loss, count = 0.0, 0
    for start, stop in zip(store.offsets, store.offsets[1:], strict=False):
        tokens = torch.tensor(np.array(store.tokens[start:stop])).long()[None]
        with torch.no_grad():
            loss += float(model(tokens, labels=tokens).loss) * (tokens.shape[1] - 1)
        count += tokens.shape[1] - 1
    assert best_of(folder)["perplexity"] == pytest.approx(np.exp(loss / count), rel=1e-4)
