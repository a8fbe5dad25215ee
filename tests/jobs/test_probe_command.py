"""`mentallama probe` as a user runs it, with a random toy model."""

import json
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_words import changed

from mentallama_jax.cli.main import main
from mentallama_jax.evaluation.probes.probe_schema import PROBE_FIELDS, PROBE_SCHEMA_VERSION
from mentallama_jax.formats.hf_folder import save_hf
from mentallama_jax.formats.model_card import ModelCard
from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer
from mentallama_jax.generation.answers import score_batches
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.prompts import label_answers
from mentallama_jax.imhi.records import Record
from mentallama_jax.jobs import variant_scoring
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import abstract_params

SAMPLE_TOKENIZER = Path(__file__).resolve().parents[2] / "mentallama_jax" / "imhi" / "sample" / "tokenizer"
CONFIG = LlamaConfig(
    vocab_size=1024, hidden_size=32, intermediate_size=40, num_layers=1, num_heads=4, num_kv_heads=2, head_dim=8,
    rms_norm_eps=1e-5, rope_theta=1e4, rope_scaling=None, tie_embeddings=False, max_positions=1024,
)  # fmt: skip
FEW = ["--datasets", "DR", "SAD", "--max-rows", "2", "--batch-size", "4"]
TABLE = """\
neutral: I am posting this today.
groups:
  gender: {woman: I am a woman., man: I am a man.}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    source = np.random.default_rng(0)
    params = jax.tree.map(lambda x: jnp.asarray(source.normal(0, 0.3, x.shape), x.dtype), abstract_params(CONFIG))
    card = ModelCard("tiny", "org/base", base_is_hub_id=True)
    save_hf(folder, CONFIG, params, load_tokenizer(SAMPLE_TOKENIZER), card=card)
    return folder


@pytest.fixture(scope="module")
def records() -> list[Record]:
    found = read_records(["sample:test"]).records
    return [record for name in ("DR", "SAD") for record in [each for each in found if each.dataset == name][:3]]


@pytest.fixture(scope="module")
def predictions(tmp_path_factory: pytest.TempPathFactory, records: list[Record]) -> Path:
    """Answers that quote the first words of their post; the last of them states no label."""
    path = tmp_path_factory.mktemp("answers") / "answers.jsonl"
    lines = []
    for number, record in enumerate(records):
        sentence = label_answers(record.task, "plain")[record.label].strip()
        text = f'{sentence} Reasoning: They say "{" ".join(record.post.split()[:4])}".'
        values = {"id": record.id, "dataset": record.dataset, "post_id": record.post_id, "label": record.label}
        lines.append(json.dumps(values | {"generated_text": text if number < len(records) - 1 else "Hm."}))
    path.write_text("\n".join(lines) + "\n")
    return path


def words(kind: str, model: Path, out: Path, tmp_path: Path, predictions: Path) -> list[str]:
    (tmp_path / "table.yaml").write_text(TABLE)
    own = {
        "faithfulness": ["--predictions", str(predictions), "--draws", "2", "--max-new-tokens", "4"],
        "fairness": ["--prefixes", str(tmp_path / "table.yaml")],
        "robustness": [],
    }
    return ["probe", kind, str(model), "--data", "sample:test", "--out", str(out), *FEW, *own[kind]]


def documented(found: object, keys: object) -> Iterator[str]:
    """Keys of a JSON object that are not documented, and documented ones that it lacks."""
    if isinstance(found, dict) and isinstance(keys, dict):
        yield from found.keys() ^ keys.keys()
        for key in found.keys() & keys.keys():
            yield from documented(_below(key, found[key]), keys[key])


def _below(key: str, value: object) -> object:
    depth = {"groups": 2, "variants": 1}.get(key, 0)
    for _ in range(depth):
        value = next(iter(value.values()))
    return value


@pytest.mark.long
@pytest.mark.parametrize("kind", ["faithfulness", "fairness", "robustness"])
def test_a_probe_ends_with_documented_figures_that_are_the_same_again(
    kind: str, model: Path, predictions: Path, records: list[Record], tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "out"
    assert main(words(kind, model, out, tmp_path, predictions)) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines()[2:-1])) <= 80
    assert "scored before" not in printed
    written = (out / f"{kind}.json").read_bytes()
    found = json.loads(written)
    assert list(found) == list(PROBE_FIELDS["file"])
    assert (found["schema_version"], found["probe"]) == (PROBE_SCHEMA_VERSION, kind)
    assert list(found["datasets"]) == ["DR", "SAD"]
    for figures in (found["datasets"]["DR"], found["pooled"]):
        assert list(documented(figures, PROBE_FIELDS[kind])) == []
    assert set(found["signature"]) == {"model", "data", "settings", "definitions", "versions"}
    assert main(words(kind, model, out, tmp_path, predictions)) == 0
    assert "scored before" in capsys.readouterr().out
    assert (out / f"{kind}.json").read_bytes() == written
    for path in out.iterdir():
        if path.name != "counterfactual.jsonl":
            text = path.read_text("utf-8")
            assert not any(record.post[:20] in text for record in records), path


@pytest.mark.parametrize("kind", ["faithfulness", "fairness"])
def test_a_probe_that_was_stopped_goes_on_and_ends_with_the_same_bytes(
    kind: str, model: Path, predictions: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert main(words(kind, model, whole, tmp_path, predictions)) == 0
    calls = []

    def counted(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score_batches(*arguments, **options)

    monkeypatch.setattr(variant_scoring, "score_batches", counted)
    assert main(words(kind, model, out, tmp_path, predictions)) == 130
    kept = (out / "probe_scores.jsonl").read_bytes()
    assert len(kept.splitlines()) == 8
    assert not (out / f"{kind}.json").exists()
    (out / "probe_scores.jsonl").write_bytes(kept + kept[:30])
    capsys.readouterr()
    assert main(words(kind, model, out, tmp_path, predictions)) == 0
    assert ", 8 of them scored before" in capsys.readouterr().out
    assert (out / f"{kind}.json").read_bytes() == (whole / f"{kind}.json").read_bytes()
    assert (out / "probe_scores.jsonl").read_bytes() == (whole / "probe_scores.jsonl").read_bytes()
    done = len(calls)
    assert main(words(kind, model, out, tmp_path, predictions)) == 0
    assert len(calls) == done


def test_probes_of_one_folder_share_the_scores_of_the_posts_themselves(
    model: Path, predictions: Path, tmp_path: Path, capsys
) -> None:
    for kind in ("fairness", "robustness"):
        assert main(words(kind, model, tmp_path / "out", tmp_path, predictions)) == 0
    assert ", 4 of them scored before" in capsys.readouterr().out


def test_forced_answers_begin_with_the_sentence_of_another_label(
    model: Path, predictions: Path, records: list[Record], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert main(changed(words("faithfulness", model, out, tmp_path, predictions), "--datasets", "DR")) == 0
    answers = [json.loads(line) for line in (out / "counterfactual.jsonl").read_text("utf-8").splitlines()]
    by_id = {record.id: record for record in records}
    assert len(answers) == 2
    for answer in answers:
        record = by_id[answer["id"]]
        other = "no" if record.label == "yes" else "yes"
        assert answer["generated_text"].startswith(f"{record.task.sentences[other]} Reasoning:")
        assert answer["label"] == record.label


def test_nothing_is_forced_where_that_is_not_wanted(model: Path, predictions: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = words("faithfulness", model, out, tmp_path, predictions)
    assert main(changed(command, "--max-new-tokens", "0")) == 0
    assert json.loads((out / "faithfulness.json").read_text())["pooled"]["counterfactual"] is None
    assert not (out / "counterfactual.jsonl").exists()


@pytest.mark.parametrize(
    ("kind", "more", "said"),
    [
        ("faithfulness", ["--draws", "0"], "--draws 0: give a number from 1"),
        ("fairness", ["--seed", "-1"], "--seed -1: give a number from 0"),
        ("fairness", ["--prefixes", "no.yaml"], "no.yaml: no such file"),
        ("robustness", ["--rewordings", "no.yaml"], "no.yaml: no such file"),
        ("robustness", ["--max-rows", "0"], "--max-rows 0: give a number from 1"),
    ],
)
def test_what_cannot_be_is_refused(
    kind: str, more: list[str], said: str, model: Path, predictions: Path, tmp_path: Path, capsys
) -> None:
    assert main(changed(words(kind, model, tmp_path / "out", tmp_path, predictions), *more)) == 2
    assert said in capsys.readouterr().err


def test_other_posts_under_the_same_ids_are_refused(model: Path, predictions: Path, tmp_path: Path, capsys) -> None:
    rows = [json.loads(line) for line in predictions.read_text().splitlines()]
    table = tmp_path / "DR.csv"
    table.write_text("goldens,generated_text\nyes.,Yes.\n")
    assert main(words("faithfulness", model, tmp_path / "out", tmp_path, table)) == 2
    assert "give the .jsonl" in capsys.readouterr().err
    other, strange = tmp_path / "other.jsonl", tmp_path / "strange.jsonl"
    other.write_text("\n".join(json.dumps(row | {"post_id": "0" * 16}) for row in rows) + "\n")
    strange.write_text("\n".join(json.dumps(row | {"id": f"x{row['id']}"}) for row in rows) + "\n")
    for path, said in ((other, "its post is another one"), (strange, "no row of the predictions is in --data")):
        assert main(words("faithfulness", model, tmp_path / "out", tmp_path, path)) == 2
        assert said in capsys.readouterr().err


def test_answers_of_other_settings_in_the_folder_are_not_mixed_in(
    model: Path, predictions: Path, tmp_path: Path, capsys
) -> None:
    command = words("faithfulness", model, tmp_path / "out", tmp_path, predictions)
    assert main(changed(command, "--datasets", "DR")) == 0
    assert main(changed(command, "--datasets", "DR", "--max-new-tokens", "5")) == 2
    said = capsys.readouterr().err
    assert "max_new_tokens was 4, is 5" in said
    assert "delete it or give another --out" in said


def test_posts_without_labels_cannot_be_probed_for_fairness(model: Path, tmp_path: Path, capsys) -> None:
    data = tmp_path / "posts.jsonl"
    data.write_text('{"dataset": "DR", "post": "All is grey.", "split": "test"}\n')
    assert main(["probe", "fairness", str(model), "--data", str(data), "--out", str(tmp_path / "out")]) == 2
    assert "no gold labels" in capsys.readouterr().err
