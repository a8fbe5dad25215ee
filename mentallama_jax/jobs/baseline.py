"""Answers questions with a floor: the commonest training label, or TF-IDF with logistic regression."""

import hashlib
import json
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from mentallama_jax import __version__
from mentallama_jax.baselines.floors import Floor, TextSettings, learn_majority, learn_text
from mentallama_jax.errors import UserError
from mentallama_jax.generation.resumable import records_fingerprint, write_predictions
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.predictions import Prediction, label_answer
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import task_named
from mentallama_jax.jobs.answer import Questions

FloorKind = Literal["majority", "tfidf"]


def baseline(
    kind: FloorKind,
    train: Sequence[str],
    questions: Questions,
    out: str | Path,
    *,
    validation: Sequence[str] = (),
    settings: TextSettings | None = None,
    repair_mojibake: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[Prediction]:
    """Learn a floor for each data set that is asked about, and answer into a predictions file.

    Args:
        kind: `majority` or `tfidf`.
        train: sources of training rows; those marked `train` or not at all are taken.
        questions: see `jobs.answer.questions_in`.
        out: ends in `.jsonl`.
        validation: sources of rows that choose C; those marked `val` or not at all are taken.
        settings: of TF-IDF.
        repair_mojibake: undo UTF-8 that was read as MacRoman, where it round-trips, in training and validation rows.
        say: is told what was learnt, a line at a time.

    Returns:
        All predictions in the order of the questions.

    Raises:
        UserError: unreadable data, no training row of a data set that is asked about, scikit-learn is missing, or see
            `generation.resumable.write_predictions`.
    """
    settings = settings or TextSettings()
    names = list(dict.fromkeys(record.dataset for record in questions.records))
    trained = _rows(train, "train", "--train", repair_mojibake)
    chooses = _rows(validation, "val", "--validation", repair_mojibake) if validation else []
    learnt = {record.dataset for record in trained}
    if without := [name for name in names if name not in learnt]:
        others = [name for name in names if name in learnt]
        rest = f", or answer the others alone with --datasets {' '.join(others)}" if others else ""
        raise UserError(f"--train has no row of {', '.join(without)}; name their training data{rest}")
    floors: dict[str, Floor] = {}
    for name in names:
        task = task_named(name)
        own = [record for record in trained if record.dataset == name]
        if kind == "majority":
            floors[name] = learn_majority(task, own)
        else:
            own_validation = [record for record in chooses if record.dataset == name]
            floors[name] = learn_text(task, own, own_validation, settings, say)
    used = [record for record in trained if record.dataset in floors]
    asked = {record.post_id for record in questions.records}
    if shared := sum(record.post_id in asked for record in used):
        say(f"{shared} training rows are of posts that are asked about too, which flatters the scores")
    signature = _signature(kind, used, questions, floors, settings) | {"training_rows_of_asked_posts": shared}

    def answers(left: list[Record]) -> Iterator[list[Prediction]]:
        for name in names:
            rows = [record for record in left if record.dataset == name]
            found = floors[name].log_probabilities(rows)
            yield [label_answer(record, row) for record, row in zip(rows, found, strict=True)]

    return write_predictions(Path(out), questions.records, signature, answers)


def _rows(sources: Sequence[str], split: str, option: str, repair_mojibake: bool) -> list[Record]:
    try:
        read = read_records(sources, repair_mojibake=repair_mojibake).records
    except UserError as error:
        raise UserError(f"{option}: {error}") from None
    kept = [record for record in read if record.split in (split, "")]
    if not kept:
        there = ", ".join(sorted({record.split for record in read}))
        raise UserError(f"{option}: no row of split {split} (only {there}); name other files")
    return kept


def _signature(
    kind: FloorKind, train: Sequence[Record], questions: Questions, floors: dict[str, Floor], settings: TextSettings
) -> dict[str, Any]:
    """All that decides the answers, as plain JSON values; versions besides."""
    versions = {"mentallama_jax": __version__, "python": platform.python_version()}
    how: dict[str, Any] = {"learnt_from": records_fingerprint(train)}
    if kind == "tfidf":
        import sklearn

        versions["scikit-learn"] = sklearn.__version__
        how |= asdict(settings)
    learnt = {name: floor.facts() for name, floor in floors.items()}
    weights = hashlib.sha256(json.dumps([kind, how, learnt], sort_keys=True).encode()).hexdigest()
    return {
        "model": kind,
        "weights": weights,
        "mode": "baseline",
        **how,
        "learnt": learnt,
        "sources": list(questions.sources),
        "rows": len(questions.records),
        "records": records_fingerprint(questions.records),
        "gold": "labels as released" if any(record.label for record in questions.records) else "none",
        "versions": versions,
    }
