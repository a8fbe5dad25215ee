"""Whole runs that tune an encoder-decoder: trained, stopped and resumed, answering by beams, scored and exported."""

import io
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from mentallama_jax.cli.main import main
from mentallama_jax.config import parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.reading import read_predictions
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.pair_texts import encode_sources, source_text, specials_of, target_text
from mentallama_jax.jobs.open_sequence import base_sequence_model, open_sequence
from mentallama_jax.jobs.tune import tune
from mentallama_jax.training.data.batches import TrainingData
from mentallama_jax.training.data.packing import PlanSettings
from mentallama_jax.training.data.paired import pair_store
from mentallama_jax.training.interruption import StopRequest
from mentallama_jax.training.run.metrics import read_metrics

pytestmark = pytest.mark.long

SECTIONS = {
    "model": {
        "source": "toy-bart",
        "tokenizer": "sample",
        "weights": "random",
        "compute_dtype": "float32",
        "remat": "none",
    },
    "data": {
        "train": ["sample:train"],
        "validation": ["sample:val"],
        "datasets": ["DR", "SAD"],
        "style": "completion",
        "max_length": 128,
    },
    "objective": {"kind": "sequence_to_sequence", "target_length": 128, "beams": 2},
    "optimizer": {"name": "adafactor", "learning_rate": 1e-2, "clip_norm": None},
    "evaluation": {"generate_rows": 4, "max_new_tokens": 12},
    "checkpoint": {"every_steps": 3},
    "mesh": {"fsdp": 1},
    "training": {"steps": 8, "batch_size": 8, "micro_batch_rows": 2},
}
CLOCK = {"time", "tokens_per_second"}


@pytest.fixture(scope="module")
def values(training_cache):
    """Sections of a config, to be changed key by key."""

    def make(run_dir: Path, **changes: dict) -> dict:
        sections = {name: SECTIONS[name] | changes.get(name, {}) for name in SECTIONS}
        places = {"run_dir": str(run_dir), "compile_cache_dir": str(training_cache / "xla")}
        return sections | {"training": sections["training"] | places}

    return make


class _Killed(BaseException):
    """What ends a run without asking it."""


class _KillAfter(StopRequest):
    """Ends the process' work in the middle, after so many looks for a request to stop."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._left = looks

    def agreed(self) -> bool:
        self._left -= 1
        if self._left < 0:
            raise _Killed
        return False


def trained(values: dict, stop: StopRequest | None = None):
    shown = io.StringIO()
    result = tune(parse_config(values, "test"), stop, Console(file=shown, width=200))
    return result, shown.getvalue()


@pytest.fixture(scope="module")
def reference(values, tmp_path_factory):
    return trained(values(tmp_path_factory.mktemp("sequence") / "run"))


def figures(run_dir: Path) -> list[dict]:
    return [
        {key: value for key, value in row.items() if key not in CLOCK}
        for row in read_metrics(run_dir / "metrics.jsonl")
    ]


def params_of(run_dir: Path, which: str):
    opened = open_sequence(str(run_dir), checkpoint=which)
    return opened.update, opened.load_params("float32", None)


def test_a_run_learns_and_reports(reference):
    result, shown = reference
    assert (result.steps, result.total_steps, result.stopped_by, result.step_compiles) == (8, 8, "", 1)
    assert "rows of 128 tokens of prompts and 128 of answers" in shown
    rows = figures(result.run_dir)
    train = [row for row in rows if row["kind"] == "train"]
    assert train[-1]["loss"] < train[0]["loss"] - 1
    assert all(row["target_tokens"] > 0 and 0 <= row["pad_share"] < 1 for row in train)
    scores = [row for row in rows if row["kind"] == "validation"]
    assert all({"validation_loss", "label_f1"} <= row.keys() for row in scores)
    facts = json.loads((result.run_dir / "data.json").read_text())
    assert facts["train"]["target_tokens"] < facts["train"]["tokens"]
    assert facts["train"]["posts_cut"] == 0


def test_killed_it_ends_bit_for_bit_as_if_left_alone(reference, values, tmp_path):
    """With dropout, whose random numbers follow from the update, and with the factored moments of Adafactor."""
    with pytest.raises(_Killed):
        trained(values(tmp_path / "run"), _KillAfter(7))
    done = figures(tmp_path / "run")
    assert 3 <= len(done) < 8
    result, shown = trained(values(tmp_path / "run"))
    assert "resuming after update" in shown
    assert figures(tmp_path / "run") == figures(reference[0].run_dir)
    for which in ("best", "last"):
        (step, mine), (other_step, theirs) = params_of(result.run_dir, which), params_of(reference[0].run_dir, which)
        assert step == other_step
        jax.tree.map(np.testing.assert_array_equal, mine, theirs)


@pytest.mark.parametrize("how", ["beams", "labels"])
def test_it_answers_in_the_common_format_and_goes_on_where_it_stopped(reference, tmp_path, capsys, how):
    out = tmp_path / "answers.jsonl"
    options = ["--beams", "3", "--no-repeat-ngram", "2"] if how == "beams" else ["--score-labels"]
    command = ["generate", str(reference[0].run_dir), "--data", "sample:test", "--out", str(out), *options]
    command += ["--datasets", "DR", "--max-rows", "6", "--max-new-tokens", "8", "--batch-size", "3"]
    assert main(command) == 0
    whole = out.read_bytes()
    rows = read_predictions(out).rows
    assert len(rows) == 6
    signature = json.loads(out.with_suffix(".meta.json").read_text())
    if how == "beams":
        assert (signature["beams"], signature["length_penalty"], signature["no_repeat_ngram"]) == (3, 1.0, 2)
        assert all(row.finish in ("eos", "length") and 0 < row.new_tokens <= 8 for row in rows)
    else:
        assert all(row.generated_text in ("Yes.", "No.", "yes.", "no.") for row in rows)
        assert all(set(row.label_log_probabilities) == {"yes", "no"} for row in rows)
    out.write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))
    assert main(command) == 0
    assert "going on: 3 rows are there" in capsys.readouterr().err
    assert out.read_bytes() == whole
    assert main(["evaluate", str(out), "--out", str(tmp_path / "scores")]) == 0
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert scores["datasets"]["DR"]["n"] == 6


def test_label_scores_are_the_log_probabilities_of_transformers(reference, tmp_path, monkeypatch, capsys):
    """The program of the model card loads the export."""
    torch = pytest.importorskip("torch", reason="the extra parity is not installed")
    folder = tmp_path / "export"
    assert main(["export", str(reference[0].run_dir), "--out", str(folder)]) == 0
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text("utf-8"), re.DOTALL)
    capsys.readouterr()
    exec(program.replace("max_new_tokens=256", "max_new_tokens=8"), used := {})
    model, tokenizer = used["model"].eval(), used["tokenizer"]
    assert capsys.readouterr().out.strip() == tokenizer.decode(used["answer"][0], skip_special_tokens=True).strip()
    record = next(record for record in read_records(["sample:test"]).records if record.dataset == "DR")
    source = tokenizer(source_text(record, "completion"), return_tensors="pt")
    ours = open_sequence(str(folder))
    assert source.input_ids[0].tolist() == ours.tokenizer.encode([source_text(record, "completion")], 999)[0]
    out = tmp_path / "answers.jsonl"
    asked = ["--data", "sample:test", "--datasets", "DR", "--max-length", "300"]
    assert main(["generate", str(folder), *asked, "--out", str(out), "--score-labels"]) == 0
    row = next(row for row in read_predictions(out).rows if row.id == record.id)
    for label, text in (("yes", "Yes."), ("no", "No.")):
        target = torch.tensor([tokenizer(text).input_ids[:-1]])
        read = torch.cat([torch.tensor([[model.config.decoder_start_token_id]]), target[:, :-1]], dim=1)
        logits = model(input_ids=source.input_ids, decoder_input_ids=read).logits
        wanted = torch.log_softmax(logits, -1).gather(2, target[..., None]).sum().item()
        assert row.label_log_probabilities[label]["sum"] == pytest.approx(wanted, abs=1e-3)
    written = model.generate(input_ids=source.input_ids, num_beams=3, max_length=14)
    assert (
        main(
            [
                "generate",
                str(folder),
                *asked,
                "--out",
                str(tmp_path / "b.jsonl"),
                "--beams",
                "3",
                "--max-new-tokens",
                "12",
            ]
        )
        == 0
    )
    row = next(row for row in read_predictions(tmp_path / "b.jsonl").rows if row.id == record.id)
    assert row.generated_text == ours.tokenizer.decode(written[0].tolist()).strip()


def test_only_the_end_of_a_post_is_cut(values, tmp_path):
    """And it is counted; the question and the answer stay whole."""
    base = base_sequence_model(parse_config(values(tmp_path), "test"))
    tokenizer = base.tokenizer
    records = [record for record in read_records(["sample:train"]).records if record.dataset == "DR"]
    (whole,) = encode_sources(records[:1], "completion", tokenizer, 999)
    (cut,) = encode_sources(records[:1], "completion", tokenizer, len(whole.tokens) - 5)
    assert 5 <= cut.truncated <= 6
    assert len(cut.tokens) == len(whole.tokens) - cut.truncated
    question = tokenizer.encode([source_text(records[0], "completion")[-30:]], 999)[0][2:]
    assert cut.tokens[-len(question) :] == whole.tokens[-len(question) :] == question
    with pytest.raises(UserError, match=r"needs \d+ tokens even with an empty post; 8 are allowed"):
        encode_sources(records[:1], "completion", tokenizer, 8)
    with pytest.raises(UserError, match=r"its answer has \d+ tokens and objective\.target_length allows 6; raise it"):
        pair_store(records[:1], "completion", tokenizer, 128, 6)


def test_pairs_share_rows_and_every_token_is_there_once(values, tmp_path):
    config = parse_config(values(tmp_path, data={"max_length": 256}), "test")
    tokenizer = base_sequence_model(config).tokenizer
    records = read_records(["sample:train"]).records[:40]
    store = pair_store(records, "completion", tokenizer, 256, 192)
    assert specials_of(tokenizer, 3, "test") == ((2,), (3,))
    data = TrainingData(store, PlanSettings.of(config), epochs=1)
    seen = most = 0
    for step in range(data.steps):
        batch = data.batch(step)
        arrays = batch.arrays
        assert arrays["tokens"].shape[1] == 256
        assert arrays["target_tokens"].shape[1] == 192
        segments = max(map(int, arrays["segment_ids"].max(axis=1)))
        most = max(most, segments)
        for row in range(len(arrays["tokens"])):
            for segment in range(1, segments + 1):
                source = arrays["tokens"][row][arrays["segment_ids"][row] == segment]
                target = arrays["target_tokens"][row][arrays["target_segment_ids"][row] == segment]
                assert (len(source) > 0) == (len(target) > 0)
                if len(source):
                    found = [
                        number
                        for number in batch.examples
                        if tokenizer.encode([target_text(records[number], "completion")], 999)[0] == target.tolist()
                    ]
                    texts = [tokenizer.encode([source_text(records[number], "completion")], 999)[0] for number in found]
                    assert source.tolist() in texts
                    seen += 1
        computed = int(arrays["micro_batches"]) * 2 * (256 + 192)
        assert batch.pad_share == pytest.approx(1 - batch.real_tokens / computed)
    assert seen == len(records)
    assert most > 1


def test_a_model_that_is_none_is_refused(values, tmp_path):
    for source, message in (("toy", "toy"), ("toy-encoder", "toy-encoder")):
        model = SECTIONS["model"] | {"source": source}
        with pytest.raises(UserError, match=message):
            base_sequence_model(parse_config(values(tmp_path, model=model), "test"))
