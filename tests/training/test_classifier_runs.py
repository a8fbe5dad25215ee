"""Whole runs that train a classifier: what they leave, how they end and go on, what they refuse."""

import io
import json
import random
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from rich.console import Console
from test_resume import Run

from mentallama_jax.cli.main import main
from mentallama_jax.config import parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.reading import read_predictions
from mentallama_jax.formats.fingerprint import source_fingerprint
from mentallama_jax.formats.load import load_model
from mentallama_jax.imhi.class_inputs import record_text
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.jobs.open_encoder import base_encoder
from mentallama_jax.jobs.tune import tune
from mentallama_jax.parallel.mesh import make_mesh, use_mesh
from mentallama_jax.scorers.label_classifier import open_classifier, open_classifiers
from mentallama_jax.training.early_stopping import EarlyStopping
from mentallama_jax.training.mesh_placement import abstract_state
from mentallama_jax.training.objectives.classification import Classification
from mentallama_jax.training.run.encoder_run import load_encoder_run
from mentallama_jax.training.run.metrics import read_metrics
from mentallama_jax.training.step import model_params

pytestmark = pytest.mark.long

SECTIONS = {
    "model": {
        "source": "toy-encoder",
        "tokenizer": "sample",
        "weights": "random",
        "compute_dtype": "float32",
        "remat": "none",
    },
    "data": {"train": ["sample:train"], "validation": ["sample:val"], "datasets": ["dreaddit"], "max_length": 96},
    "objective": {"kind": "classification", "test": ["sample:test"], "class_weights": "balanced"},
    "optimizer": {"learning_rate": 1e-3},
    "evaluation": {"metric": "weighted_f1"},
    "training": {"epochs": 6, "batch_size": 8, "micro_batch_rows": 2},
}


@pytest.fixture(scope="module")
def values(training_cache):
    """Sections of a config, to be changed key by key; 24 updates in six epochs as it stands."""

    def make(run_dir: Path, **changes: dict) -> dict:
        sections = {name: SECTIONS.get(name, {}) | changes.get(name, {}) for name in {*SECTIONS, *changes}}
        places = {"run_dir": str(run_dir), "compile_cache_dir": str(training_cache / "xla")}
        return sections | {"training": sections["training"] | places}

    return make


def trained(values: dict):
    shown = io.StringIO()
    result = tune(parse_config(values, "test"), console=Console(file=shown, width=200))
    return result, shown.getvalue()


@pytest.fixture(scope="module")
def reference(values, tmp_path_factory):
    return trained(values(tmp_path_factory.mktemp("classifier") / "run"))


def test_a_run_compiles_once_and_reports_its_test_rows(reference):
    result, shown = reference
    assert (result.steps, result.total_steps, result.stopped_by, result.step_compiles) == (24, 24, "", 1)
    rows = [row for row in read_metrics(result.run_dir / "metrics.jsonl") if row["kind"] == "validation"]
    assert [row["step"] for row in rows] == [4, 8, 12, 16, 20, 24]
    assert all({"validation_loss", "weighted_f1"} <= row.keys() for row in rows)
    best = max(rows, key=lambda row: (row["weighted_f1"], -row["validation_loss"]))  # of equal F1 the lower loss
    assert result.best.step == best["step"]
    assert "Correctness in %" in shown
    scores = json.loads((result.run_dir / "test" / "scores.json").read_text())
    low, high = scores["datasets"]["dreaddit"]["weighted_f1_interval"]
    assert 0 <= low <= scores["datasets"]["dreaddit"]["weighted_f1"] <= high <= 1
    assert scores["signature"]["generation"]["mode"] == "classifier"
    calibration = scores["calibration"]["datasets"]["dreaddit"]
    assert calibration["without_log_probabilities"] == calibration["differing"] == 0
    validation = read_predictions(result.run_dir / "validation" / "predictions.jsonl").rows
    assert {row.split for row in validation} == {"val"}
    assert calibration["temperature"]["rows"] == calibration["conformal"]["calibration_rows"] == len(validation)
    assert json.loads((result.run_dir / "data.json").read_text())["classes"] == {"yes": 15, "no": 15}


def test_its_predictions_are_those_of_every_other_system(reference):
    rows = read_predictions(reference[0].run_dir / "test" / "predictions.jsonl").rows
    assert len(rows) == 10
    for row in rows:
        scores = {label: of["sum"] for label, of in row.label_log_probabilities.items()}
        assert row.generated_text == TASKS["dreaddit"].sentences[max(scores, key=scores.get)]
        assert sum(np.exp(list(scores.values()))) == pytest.approx(1, abs=1e-5)
        assert (row.finish, row.split) == ("label", "test")
        assert row.explanation


def test_its_folder_holds_the_best_checkpoint_with_the_names_of_the_labels(reference):
    run_dir = reference[0].run_dir
    run = load_encoder_run(run_dir)
    config, params = load_model(run_dir / "classifier")
    assert config == run.model_config
    jax.tree.map(np.testing.assert_array_equal, params, run.params)
    described = json.loads((run_dir / "classifier" / "config.json").read_text())
    assert described["id2label"] == {"0": "yes", "1": "no"}
    classifier = open_classifier(run_dir / "classifier", TASKS["dreaddit"])
    assert (classifier.classes.input, classifier.max_length) == ("post", 96)
    assert classifier.classes.named_by == "classifier.json"


def test_transformers_reads_the_folder_and_finds_the_same_labels(reference):
    torch = pytest.importorskip("torch", reason="the extra parity is not installed")
    transformers = pytest.importorskip("transformers")
    folder = reference[0].run_dir / "classifier"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["I cannot cope with all of this work.", "A calm day by the lake.", "so much to do, so little time"]
    ours, _ = open_classifier(folder, TASKS["dreaddit"]).log_probabilities(texts)
    for text, row in zip(texts, ours, strict=True):
        logits = model(**tokenizer(text, return_tensors="pt")).logits
        np.testing.assert_allclose(row, torch.log_softmax(logits, -1)[0].detach().numpy(), atol=1e-4)


def test_one_classifier_learns_several_data_sets_and_answers_each_with_its_own_labels(values, tmp_path, capsys):
    data = {"datasets": ["all"], "exclude": ["SWMH", "MultiWD"]}
    changes = {"data": SECTIONS["data"] | data, "training": SECTIONS["training"] | {"epochs": 1}}
    run_dir = tmp_path / "run"
    result, shown = trained(values(run_dir, **changes))
    assert "Correctness in %" in shown
    rows = read_predictions(run_dir / "test" / "predictions.jsonl").rows
    records = [each for each in read_records(["sample:test"]).records if each.dataset not in data["exclude"]]
    assert [(row.id, row.aspect) for row in rows] == [(record.id, record.aspect) for record in records]
    for row in rows:
        scores = {label: of["sum"] for label, of in row.label_log_probabilities.items()}
        assert set(scores) == set(row.task.labels)
        assert sum(np.exp(list(scores.values()))) == pytest.approx(1, abs=1e-5)
        assert row.generated_text == row.task.sentences[max(scores, key=scores.get)]
    counts = json.loads((run_dir / "data.json").read_text())["classes"]
    assert list(counts)[:3] == ["DR: yes", "DR: no", "CLP: yes"]
    read = read_metrics(run_dir / "metrics.jsonl")
    assert 0 <= next(row["weighted_f1"] for row in read if row["kind"] == "validation") <= 1
    opened = open_classifiers(run_dir, [TASKS["SAD"], TASKS["IRF"]])
    (irf,) = {id(each.params): each for each in opened.values()}.values()
    assert (opened["SAD"].classes.first, opened["IRF"].classes.asks, irf.config.num_labels) == (12, True, len(counts))
    first = next(row for row in rows if row.dataset == "IRF")
    text = record_text(next(record for record in records if record.id == first.id), "post")
    ours, _ = opened["IRF"].log_probabilities([text])
    np.testing.assert_allclose(ours[0], [of["sum"] for of in first.label_log_probabilities.values()], atol=1e-5)
    with pytest.raises(UserError, match=r"classifier.json: is a classifier of 'DR', .*, not of SWMH"):
        open_classifiers(run_dir, [TASKS["SWMH"]])
    assert result.steps == result.total_steps


def test_the_same_command_again_changes_nothing(reference, values):
    run_dir = reference[0].run_dir
    before = {path: path.read_bytes() for path in (run_dir / "test" / "predictions.jsonl", run_dir / "metrics.jsonl")}
    result, _ = trained(values(run_dir))
    assert (result.steps, result.best) == (24, reference[0].best)
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize("dataset", ["SAD", "DR"])
def test_an_encoder_keeps_its_weights_and_gets_a_new_classifier(reference, values, tmp_path, dataset):
    """Even where it has one of as many classes: they may mean something else."""
    folder = reference[0].run_dir / "classifier"
    changes = {"source": str(folder), "weights": "pretrained", "tokenizer": None}
    model = SECTIONS["model"] | changes
    config = parse_config(values(tmp_path, model=model, data=SECTIONS["data"] | {"datasets": [dataset]}), "test")
    base = base_encoder(config)
    shape, old = load_model(folder)
    assert base.config == replace(shape, num_labels=len(TASKS[dataset].labels))
    with use_mesh(mesh := make_mesh(config.mesh, jax.devices()[:1])):
        objective = Classification(base.config, config, (1.0,) * base.config.num_labels)
        shapes = model_params(abstract_state(objective, config, 1, mesh))
        new = base.load_params(jax.tree.map(lambda shape: shape.sharding, shapes))
    head = new.pop("classifier"), new.pop("classifier_bias")
    before = old.pop("classifier"), old.pop("classifier_bias")
    jax.tree.map(np.testing.assert_array_equal, new, old)
    assert head[0].shape == (64, base.config.num_labels)
    assert not np.array_equal(head[0], before[0])
    assert not head[1].any()
    assert base.fingerprint() == source_fingerprint(str(folder))


OTHERS = (
    (["generate", "{run}", "--data", "sample:test", "--out", "{new}.jsonl"], "is an encoder (bert), which reads texts"),
    (
        ["generate", "{folder}", "--data", "sample:test", "--out", "{new}.jsonl"],
        "is an encoder (bert), which reads texts",
    ),
    (["export", "{run}", "--out", "{new}"], "is an encoder (bert), which reads texts and writes none"),
    (
        ["plan", "configs/classifier-toy.yaml", "--topology", "v5e-8", "--generate"],
        "is an encoder (bert), which reads texts",
    ),
    (["bench", "generate", "configs/classifier-toy.yaml"], "is an encoder (bert), which reads texts"),
)


@pytest.mark.parametrize(("arguments", "message"), OTHERS, ids=[arguments[0] for arguments, _ in OTHERS])
def test_other_commands_refuse_a_classifier_in_one_line(reference, tmp_path, capsys, arguments, message):
    run_dir = reference[0].run_dir
    places = {"run": run_dir, "folder": run_dir / "classifier", "new": tmp_path / "new"}
    assert main([argument.format(**places) for argument in arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"weights": "pretrained"}}, "toy-encoder is a shape without weights; name a folder or a hub id"),
        ({"model": {"tokenizer": None}}, "model.tokenizer: toy-encoder brings none"),
        ({"model": {"source": "LLAMA"}}, "is a llama model; a classifier is made from an encoder"),
        ({"model": {"tokenizer": "LLAMA"}}, "no tokenizer.json, vocab.txt or vocab.json with merges.txt"),
        ({"data": {"datasets": ["dreadit"]}}, "did you mean dreaddit?"),
        ({"data": {"max_length": 300}}, "data.max_length 300 is more than the 256 positions of toy-encoder; lower it"),
        ({"data": {"max_length": 2}}, "data.max_length: max_length 2 is no more than the 2 special tokens; raise it"),
        ({"objective": {"test": ["/nowhere"]}}, "objective.test: /nowhere: no such file or folder"),
        ({"objective": {"test": ["sample:val"]}}, "objective.test: no test row of dreaddit; name other files"),
    ],
)
def test_what_does_not_fit_is_one_line_before_the_first_update(values, tiny_model, tmp_path, changes, message):
    ((section, change),) = changes.items()
    change = {key: str(tiny_model) if value == "LLAMA" else value for key, value in change.items()}
    with pytest.raises(UserError) as refused:
        trained(values(tmp_path / "run", **{section: change}))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run" / "checkpoints").exists() or not list((tmp_path / "run" / "checkpoints").iterdir())


def test_killed_it_ends_bit_for_bit_as_if_left_alone(values, tmp_path):
    """With dropout, whose random numbers follow from the update."""
    changes = {"checkpoint": {"every_steps": 3}, "objective": {"test": []}}
    whole, broken = (Run(tmp_path / name, values(tmp_path / name, **changes)) for name in ("whole", "broken"))
    trained(json.loads(whole.config.read_text()))
    status, _, _ = broken.interrupt(signal.SIGKILL, random.Random(5).randint(5, 15))
    assert status == -signal.SIGKILL
    assert broken.updates() < 24
    status, _, err = broken.finish()
    assert status == 0, err
    assert "resuming after update" in err
    assert whole.figures() == broken.figures()
    for which in ("best", "last"):
        one, other = load_encoder_run(whole.folder, which), load_encoder_run(broken.folder, which)
        assert one.checkpoint.scores == other.checkpoint.scores
        jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


def test_early_stopping_ends_the_run_and_a_second_start_does_not_go_on(values, tmp_path):
    """A learning rate of next to nothing: no evaluation is better than the first."""
    changes = {
        "optimizer": {"learning_rate": 1e-12},
        "evaluation": {"metric": "weighted_f1", "patience": 2},
    }
    result, shown = trained(values(tmp_path / "run", **changes))
    assert (result.steps, result.total_steps, result.stopped_by, result.best.step) == (12, 24, "", 4)
    assert "done after 12 updates of 24, as weighted_f1 was not better in the last 2 evaluations" in shown
    again, shown = trained(values(tmp_path / "run", **changes))
    assert (again.steps, again.best) == (12, result.best)
    changes["evaluation"]["patience"] = 3  # more patience: one evaluation more
    assert trained(values(tmp_path / "run", **changes))[0].steps == 16


def test_evaluations_are_counted_from_the_best_one_on(values, tmp_path):
    config = parse_config(values(tmp_path, evaluation={"metric": "weighted_f1", "patience": 2}), "test")
    rows = [{"kind": "validation", "step": step, "weighted_f1": 0.5} for step in (4, 8, 12)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    checkpoints = SimpleNamespace(best=SimpleNamespace(step=8))
    early = EarlyStopping(config, tmp_path / "metrics.jsonl", checkpoints)
    assert not early.agreed()  # one evaluation since the best
    checkpoints.best = SimpleNamespace(step=16)
    early.evaluated(16)
    assert not early.agreed()
    early.evaluated(20)
    early.evaluated(24)
    assert early.agreed()
    assert EarlyStopping(config, tmp_path / "none.jsonl", SimpleNamespace(best=None)).agreed() is False
