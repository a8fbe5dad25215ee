"""Tunes an encoder on labels, and makes of the best checkpoint a folder, predictions and figures."""

import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from mentallama_jax import __version__
from mentallama_jax.config import ClassificationSection, RunConfig
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.score_report import score_table
from mentallama_jax.evaluation.trust.trust_tables import show_high_risk
from mentallama_jax.files import write_json, write_jsonl
from mentallama_jax.formats.folder import read_object
from mentallama_jax.formats.hf_folder import save_model
from mentallama_jax.formats.tokenizers.encoder_tokenizer import EncoderTokenizer
from mentallama_jax.imhi.class_inputs import record_text
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.learnt_classes import classes_of
from mentallama_jax.imhi.predictions import Prediction, label_answer
from mentallama_jax.imhi.records import Record
from mentallama_jax.jobs.open_encoder import base_encoder
from mentallama_jax.jobs.score import score
from mentallama_jax.scorers.label_classifier import CARD, Classes, LabelClassifier, card
from mentallama_jax.terminal import Console
from mentallama_jax.training.interruption import StopRequest
from mentallama_jax.training.loop import TrainResult, train
from mentallama_jax.training.run.encoder_run import EncoderRun, load_encoder_run

FOLDER = "classifier"
"""The best checkpoint as a Hugging Face folder, below the run directory."""
TEST = "test"
"""Predictions and figures of the test rows, below the run directory."""
VALIDATION = "validation"
"""Predictions of the validation rows, for `evaluate --calibrate-on`, below the run directory."""


def tune_classifier(
    config: RunConfig, stop: StopRequest | None = None, console: Console | None = None, *, extend: bool = False
) -> TrainResult:
    """Tune an encoder, or resume the run in `config.training.run_dir`; at its end write folder, predictions, figures.

    With several processes nothing is written besides the run: the same command on one host does the rest.

    Args:
        config: the run; its objective is a `ClassificationSection`.
        stop: listens to signals already; by default training begins to listen.
        console: where progress is shown; standard error by default.
        extend: whether a run may be made longer than it was started.

    Raises:
        UserError: see `training.loop.train`; test rows that cannot be read.
    """
    console = console or Console(stderr=True)
    test = _test_records(config)
    result = train(config, base_encoder(config), console=console, stop=stop, extend=extend)
    if not result.stopped_by and jax.process_count() == 1:
        run_dir = Path(str(result.run_dir))
        run = load_encoder_run(result.run_dir)
        _write_folder(run, run_dir)
        if test := _trained(test, run_dir, console):
            _report(run, run_dir, test, _validation_records(config, test), console)
    return result


def _test_records(config: RunConfig) -> list[Record]:
    """The test rows of the data sets; read before training, so that a wrong name is found out at once."""
    assert isinstance(config.objective, ClassificationSection)
    objective, classes = config.objective, classes_of(config.data)
    if not objective.test:
        return []
    try:
        read = read_records(
            objective.test, repair_mojibake=config.data.repair_mojibake, strict=config.data.strict
        ).records
    except UserError as error:
        raise UserError(f"objective.test: {error}") from None
    names = [task.name for task in classes.tasks]
    records = [record for record in read if record.dataset in names and record.split in ("test", "")]
    if not records:
        raise UserError(f"objective.test: no test row of {', '.join(names)}; name other files")
    texts = [record for record in records if record_text(record, objective.input, ask=classes.asks)]
    if not texts:
        raise UserError(f"objective.test: none of its {len(records)} rows has the input {objective.input}")
    return texts


def _trained(test: Sequence[Record], run_dir: Path, console: Console) -> list[Record]:
    """The test rows of data sets that training had rows of: no other has been learnt."""
    rows = read_object(run_dir / "data.json")["train"]["rows"]
    if absent := sorted({record.dataset for record in test} - set(rows)):
        console.print(f"objective.test: left out, as no row was trained on: {', '.join(absent)}", highlight=False)
    return [record for record in test if record.dataset in rows]


def _validation_records(config: RunConfig, test: Sequence[Record]) -> list[Record]:
    """The validation rows of the data sets that are tested; those of posts that are tested are left out."""
    assert isinstance(config.objective, ClassificationSection)
    if not config.data.validation:
        return []
    what, asks = config.objective.input, classes_of(config.data).asks
    read = read_records(
        config.data.validation, repair_mojibake=config.data.repair_mojibake, strict=config.data.strict
    ).records
    tested, datasets = {record.post_id for record in test}, {record.dataset for record in test}
    there = [record for record in read if record.dataset in datasets and record.split in ("val", "")]
    return [record for record in there if record.post_id not in tested and record_text(record, what, ask=asks)]


def _classifiers(run: EncoderRun) -> dict[str, LabelClassifier]:
    """Data set -> the classifier of its labels; all are one encoder."""
    assert isinstance(run.config.objective, ClassificationSection)
    learnt, what = classes_of(run.config.data), run.config.objective.input
    identity = f"update {run.checkpoint.step} of {run.checkpoint.path.parent.parent}"
    tokenizer, length = EncoderTokenizer(run.tokenizer), run.config.data.max_length
    found = {}
    for task in learnt.tasks:
        first = learnt.first(task.name)
        classes = Classes(task.labels, "the run", what, length, first=first, asks=learnt.asks)
        found[task.name] = LabelClassifier(task, classes, run.model_config, run.params, tokenizer, identity)
    return found


def _write_folder(run: EncoderRun, run_dir: Path) -> None:
    """Write the Hugging Face folder of the best checkpoint, if it is not there; an extended run may have another."""
    folder = run_dir / FOLDER
    if folder.exists():
        if read_object(folder / CARD).get("trained", {}).get("update") == run.checkpoint.step:
            return
        shutil.rmtree(folder)
    assert isinstance(run.config.objective, ClassificationSection)
    learnt = classes_of(run.config.data)
    trained = {
        "model": run.config.model.source,
        "data": list(run.config.data.train),
        "explanations": "gold",
        "update": run.checkpoint.step,
        "scores": dict(run.checkpoint.scores),
    }
    described = card(learnt, run.config.objective.input, run.config.data.max_length, trained)
    files = EncoderTokenizer(run.tokenizer).files | {CARD: json.dumps(described, indent=2).encode() + b"\n"}
    save_model(folder, run.model_config, run.params, files, label_names=learnt.names)


def _report(
    run: EncoderRun, run_dir: Path, test: Sequence[Record], validation: Sequence[Record], console: Console
) -> None:
    """Answer the test and validation rows, score the test answers, and show the table."""
    classifiers = _classifiers(run)
    path = _write_predictions(run, classifiers, run_dir / TEST, test)
    calibrate_on = [_write_predictions(run, classifiers, run_dir / VALIDATION, validation)] if validation else []
    scored = score([path], run_dir / TEST, calibrate_on=calibrate_on)
    if scored.trust:
        show_high_risk(console, scored.trust)
    console.print(score_table(scored.scores))
    console.print(f"predictions and scores: {path.parent}; classifier: {run_dir / FOLDER}", highlight=False)


def _write_predictions(
    run: EncoderRun, classifiers: Mapping[str, LabelClassifier], folder: Path, records: Sequence[Record]
) -> Path:
    path = folder / "predictions.jsonl"
    folder.mkdir(exist_ok=True)
    write_jsonl(path, (row.to_json() for row in classified(classifiers, records)))
    write_json(path.with_suffix(".meta.json"), _signature(run, classifiers, records))
    return path


def classified(classifiers: Mapping[str, LabelClassifier], records: Sequence[Record]) -> list[Prediction]:
    """The answer of a classifier to each record: the sentence of the likeliest label, with the figures of all."""
    answers: dict[int, Prediction] = {}
    for name in dict.fromkeys(record.dataset for record in records):
        classes = classifiers[name].classes
        assert classes.input is not None
        own = {place: record for place, record in enumerate(records) if record.dataset == name}
        texts = [record_text(record, classes.input, ask=classes.asks) for record in own.values()]
        found, truncated = classifiers[name].log_probabilities(texts)
        for (place, record), row, cut in zip(own.items(), found, truncated, strict=True):
            answers[place] = label_answer(record, row, int(cut))
    return [answers[place] for place in range(len(records))]


def _signature(
    run: EncoderRun, classifiers: Mapping[str, LabelClassifier], records: Sequence[Record]
) -> dict[str, Any]:
    """How the predictions were made, as plain JSON values."""
    first, *_ = classifiers.values()
    own = first.signature()
    if len(classifiers) > 1:
        own["classes"] = {name: list(classifier.classes.labels) for name, classifier in classifiers.items()}
    return {
        "model": run.config.model.source,
        "revision": run.config.model.revision,
        "update": run.checkpoint.step,
        "mode": "classifier",
        **own,
        "objective": run.config.objective.model_dump(mode="json"),
        "seed": run.config.training.seed,
        "rows": len(records),
        "gold": "labels as released",
        "versions": {"mentallama_jax": __version__, "jax": jax.__version__, "python": platform.python_version()},
    }
