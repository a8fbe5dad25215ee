"""`mentallama evaluate --metrics` with models, as a user runs it: on one device and on eight, and again."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet
import pytest
from child_processes import cpu_environment
from small_sequence_model import write_bart

from mentallama_jax.cli.main import main
from mentallama_jax.formats.hf_folder import save_hf
from mentallama_jax.formats.model_card import ModelCard
from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer
from mentallama_jax.generation.engine import Engine, Settings
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.prompts import encode_answer, encode_prompt
from mentallama_jax.imhi.wording import instruction_response
from mentallama_jax.jobs import open_scorers
from mentallama_jax.models.llama import forward
from mentallama_jax.models.module import init_params
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.scorers.lm_score import LanguageModelScorer

TOKENIZER = Path(__file__).parents[2] / "mentallama_jax" / "imhi" / "sample" / "tokenizer"
BERT = Path(__file__).parents[1] / "fixtures" / "bert_score" / "bert"
LLAMA = replace(PRESETS["toy"], vocab_size=1024, num_layers=1)
NAMES = "bartscore,bartscore_precision,bartscore_faithfulness,bertscore,embedding,lm"
FIGURES = {"bartscore", "bartscore_precision", "bartscore_faithfulness", "bertscore_p", "bertscore_r", "bertscore_f1"}
FIGURES |= {"embedding", "lm", "lm_gold_label"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_bart(folder / "bart")
    params = init_params(LLAMA, jax.random.key(0))
    card = ModelCard("tiny", "org/base", base_is_hub_id=True)
    save_hf(folder / "llama", LLAMA, params, load_tokenizer(TOKENIZER), card=card)
    return folder


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """Nine rows: gold answers to other rows, an empty answer, and a row without a gold explanation."""
    records = [record for record in read_records(["sample"], split="test").records if record.explanation][:9]
    golds = [instruction_response(record) for record in records]
    rows = [
        Prediction(
            id=record.id,
            dataset=record.dataset,
            post_id=record.post_id,
            label=record.label,
            goldens=gold,
            generated_text=golds[number - 1][:120],
        )
        for number, (record, gold) in enumerate(zip(records, golds, strict=True))
    ]
    rows[2] = replace(rows[2], generated_text="")
    rows[3] = replace(rows[3], goldens=rows[3].goldens.partition("Reasoning")[0])
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(row.to_line() for row in rows))
    return path


def command(models: Path, predictions: Path, out: Path) -> list[str]:
    return [
        *("evaluate", str(predictions), "--metrics", NAMES, "--out", str(out)),
        *("--bartscore-model", str(models / "bart"), "--bertscore-model", str(BERT), "--bertscore-layer", "2"),
        *("--bertscore-idf", "--embedding-model", str(BERT), "--lm-model", str(models / "llama"), "--data", "sample"),
    ]


def table(out: Path) -> dict[tuple[str, str], dict]:
    rows = pyarrow.parquet.read_table(out / "scores_by_row.parquet").to_pylist()
    return {(row["id"], row["part"]): row for row in rows}


@pytest.mark.long
def test_all_metrics_and_only_what_is_missing(models, predictions, tmp_path, capsys, monkeypatch) -> None:
    out = tmp_path / "scores"
    assert main(command(models, predictions, out)) == 0
    shown = capsys.readouterr().out
    assert "ln p(reference | output)" in shown
    assert "bert_L2_idf_version=0.3.12(mentallama_jax)" in shown
    found = json.loads((out / "scores.json").read_text())["explanations"]
    assert found["signatures"].keys() == FIGURES
    whole, alone = (found["pooled"][part] for part in ("response", "explanation"))
    assert (whole["rows"], whole["without_reference"], whole["empty"]) == (9, 0, 1)
    assert (alone["rows"], alone["without_reference"]) == (8, 1)
    for name, figure in whole["metrics"].items():
        low, high = figure["interval"]
        assert low < figure["mean"] < high, name
        assert (figure["unit"] == "nats") == (name.startswith(("bart", "lm")))
    rows = table(out)
    empty = next(row for row in rows.values() if row["part"] == "response" and row["embedding"] == 0)
    assert (empty["bertscore_p"], empty["bertscore_f1"]) == (0, 0)
    assert empty["bartscore"] < 0
    assert empty["lm"] < 0
    # The same again asks no model for anything; one changed row asks for that row alone.
    asked: list[int] = []
    ask = open_scorers.OnDevices.scores

    def count(self, pairs):
        asked.append(len(pairs))
        return ask(self, pairs)

    monkeypatch.setattr(open_scorers.OnDevices, "scores", count)
    assert main(command(models, predictions, out)) == 0
    assert asked == []
    assert json.loads((out / "scores.json").read_text())["explanations"] == found
    lines = predictions.read_text().splitlines(keepends=True)
    changed = json.loads(lines[0]) | {"generated_text": "Another answer. Reasoning: it is new."}
    predictions.write_text(json.dumps(changed) + "\n" + "".join(lines[1:]))
    assert main(command(models, predictions, out)) == 0
    assert asked == [1] * 8  # four metrics, two parts


@pytest.mark.long
def test_eight_devices_give_the_same_scores_and_torch_is_never_there(models, predictions, tmp_path) -> None:
    code = f"""
import sys
class NoTorch:
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("torch was asked for", name="torch")
sys.meta_path.insert(0, NoTorch())
from mentallama_jax.cli.main import main
status = main({command(models, predictions, tmp_path / "eight")!r})
assert "torch" not in sys.modules
import jax
assert jax.device_count() == 8
sys.exit(status)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=cpu_environment(8), check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert main(command(models, predictions, tmp_path / "one")) == 0
    one, eight = table(tmp_path / "one"), table(tmp_path / "eight")
    assert one.keys() == eight.keys()
    for key, row in one.items():
        for name in FIGURES:
            if row[name] is None:
                assert eight[key][name] is None
            else:
                assert eight[key][name] == pytest.approx(row[name], abs=1e-4), (key, name)


@pytest.mark.long
def test_the_lm_score_is_the_mean_of_a_plain_pass() -> None:
    tokenizer = load_tokenizer(TOKENIZER)
    records = [record for record in read_records(["sample"], split="test").records if record.explanation][:4]
    texts = [records[0].explanation, "", "Short.", records[3].explanation * 2]
    params = init_params(LLAMA, jax.random.key(1))
    params = jax.tree.map(lambda x: x * 8, params)
    engine = Engine(LLAMA)
    engine.update(params)
    scorer = LanguageModelScorer(engine, tokenizer, style="plain", max_length=400, settings=Settings(batch_size=3))
    for after in (False, True):
        found: dict[int, float] = {}
        for part in scorer.scores(records, texts, after_gold_label=after):
            found |= part
        for place, (record, text) in enumerate(zip(records, texts, strict=True)):
            before = f"{record.task.sentences[record.label]} Reasoning:" if after else ""
            answer = " ".join(filter(None, (before, text)))
            tokens = encode_answer(f" {answer}", "plain", tokenizer) if answer else []
            given = encode_answer(f" {before}", "plain", tokenizer) if before else []
            tokens = [*tokens, tokenizer.eos_id]
            prompt = encode_prompt(record, "plain", tokenizer, 400 - len(tokens)).tokens
            row = np.array([prompt + tokens])
            places = np.arange(row.shape[1])[None]
            logits = forward(params, LLAMA, row, places, np.ones_like(row))[0]
            logs = jnp.take_along_axis(jax.nn.log_softmax(logits)[:-1], row[0, 1:, None], axis=-1)[:, 0]
            assert tokens[: len(given)] == given
            wanted = float(logs[len(prompt) + len(given) - 1 :].mean())
            assert found[place] == pytest.approx(wanted, abs=1e-4), (place, after)


def test_a_row_whose_post_is_not_known_is_named(models, predictions, tmp_path, capsys) -> None:
    line = json.loads(predictions.read_text().splitlines()[0]) | {"id": "DR/test/12345"}
    predictions.write_text(json.dumps(line) + "\n")
    assert main(command(models, predictions, tmp_path / "scores")) == 2
    assert "row 'DR/test/12345': its post is not in --data" in capsys.readouterr().err
    wanted = [part for part in command(models, predictions, tmp_path / "scores") if part not in ("--data", "sample")]
    assert main(wanted) == 2
    assert "--data" in capsys.readouterr().err
