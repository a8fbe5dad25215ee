"""Probes a model: makes variants of posts, scores their label sentences, and says what the scores tell.

All scores are kept in the output folder while they are made, see `jobs.variant_scoring`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.explanations import Progress, no_progress
from mentallama_jax.evaluation.probes.counterfactual import (
    COUNTERFACTUAL_DEFINITIONS,
    CounterfactualScores,
    Forced,
    counterfactual,
)
from mentallama_jax.evaluation.probes.fairness import FAIRNESS_DEFINITIONS, FairnessScores, fairness, score_prefixed
from mentallama_jax.evaluation.probes.faithfulness import (
    DEFINITIONS,
    ExplainedRow,
    FaithfulnessScores,
    erase,
    explained_row,
    faithfulness,
)
from mentallama_jax.evaluation.probes.label_scores import LabelScores
from mentallama_jax.evaluation.probes.prefix_table import packaged_prefixes, read_prefixes
from mentallama_jax.evaluation.probes.probe_schema import PROBE_SCHEMA_VERSION
from mentallama_jax.evaluation.probes.rewordings import packaged_rewordings, read_rewordings
from mentallama_jax.evaluation.probes.robustness import (
    ROBUSTNESS_DEFINITIONS,
    RobustnessScores,
    robustness,
    score_changed,
)
from mentallama_jax.evaluation.reading import read_predictions
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.evaluation.system_predictions import Predictions
from mentallama_jax.files import write_json
from mentallama_jax.foreign import shown
from mentallama_jax.generation.answers import answer_batches
from mentallama_jax.generation.engine import Settings
from mentallama_jax.generation.resumable import records_fingerprint, write_predictions
from mentallama_jax.imhi.labels.gold_response import REASONING, explanation_in
from mentallama_jax.imhi.mixture import sample_rows
from mentallama_jax.imhi.prompts import answer_opening, label_answers
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.jobs.answer import Answerer, Questions
from mentallama_jax.jobs.variant_scoring import VariantScoring
from mentallama_jax.storage import AnyPath
from mentallama_jax.training.run.run_directory import versions

COUNTERFACTUAL = "counterfactual.jsonl"
"""The answers whose label was forced; they may quote posts."""

Figures = TypeVar("Figures")


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """How a probe is made.

    Attributes:
        seed: of variants and tests.
        draws: random parts for each row, in faithfulness.
        max_new_tokens: of an explanation behind a forced label, in faithfulness; 0 forces none.
        batch_size: prompts at once; changes speed and memory only.
    """

    seed: int = 0
    draws: int = 5
    max_new_tokens: int = 256
    batch_size: int = 16

    def __post_init__(self) -> None:
        for name, least in (("seed", 0), ("draws", 1), ("max_new_tokens", 0), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: give a number from {least}")

    @property
    def intervals(self) -> IntervalSettings:
        """How sure intervals are."""
        return IntervalSettings()


@dataclass(frozen=True, slots=True)
class FaithfulnessOfRows:
    """What was found of a set of rows; no counterfactual where none was asked for."""

    erasure: FaithfulnessScores
    counterfactual: CounterfactualScores | None


@dataclass(frozen=True, slots=True)
class Probed(Generic[Figures]):
    """What a probe found.

    Attributes:
        datasets: data set -> figures.
        pooled: figures of all rows.
        notes: what to mind, a line each.
        path: of the JSON file.
        prompts: different prompts that were needed, and how many of them an earlier run had scored.
    """

    datasets: dict[str, Figures]
    pooled: Figures
    notes: tuple[str, ...]
    path: Path
    prompts: tuple[int, int]


def probe_faithfulness(
    answerer: Answerer,
    predictions: AnyPath,
    questions: Questions,
    out: Path,
    settings: ProbeSettings,
    *,
    max_rows: int | None = None,
    progress: Progress = no_progress,
) -> Probed[FaithfulnessOfRows]:
    """Measure whether the explanations of a model point at what decided its labels; write faithfulness.json.

    Args:
        answerer: the model that made the predictions.
        predictions: a `.jsonl` of `mentallama generate`.
        questions: the records that were answered, matched by id.
        out: folder.
        settings: see `ProbeSettings`.
        max_rows: of each data set at most, chosen by the seed among those that match.
        progress: shows how far it is.

    Raises:
        UserError: predictions and records do not match, or the model cannot score or answer them.
    """
    if predictions.suffix.lower() != ".jsonl":
        raise UserError(f"{predictions}: give the .jsonl of `mentallama generate`; rows are matched by id and post")
    outputs = read_predictions(predictions)
    records, notes = _matched(outputs, questions.records, max_rows, settings.seed)
    by_id = {output.id: output for output in outputs.rows}
    rows = [explained_row(record, by_id[record.id]) for record in records]
    made_by = (outputs.generation or {}).get("weights")
    if made_by not in (None, answerer.weights):
        notes.append("the predictions were made with other weights or another dtype than those that are probed here")
    with VariantScoring(answerer, out, settings.batch_size, progress) as scorer:
        whole, erasures = erase(rows, scorer, draws=settings.draws, seed=settings.seed)
        forced = None
        if settings.max_new_tokens:
            forced = _forced(answerer, [row for row in rows if row.record.id in whole], whole, out, settings, progress)

    def figures(names: Sequence[str]) -> FaithfulnessOfRows:
        chosen = [row for row in rows if row.record.dataset in names]
        erasure = faithfulness(chosen, erasures, settings.intervals)
        if forced is None:
            return FaithfulnessOfRows(erasure, None)
        behind = [each for each in forced if each.row.record.dataset in names]
        return FaithfulnessOfRows(erasure, counterfactual(behind, settings.intervals))

    definitions = DEFINITIONS | COUNTERFACTUAL_DEFINITIONS
    said = {"predictions": list(outputs.files), "same_weights": made_by and made_by == answerer.weights}
    signature = _signature(answerer, questions, records, settings, definitions, data=said)
    return _finish("faithfulness", records, figures, notes, out, signature, scorer)


def probe_fairness(
    answerer: Answerer,
    questions: Questions,
    out: Path,
    settings: ProbeSettings,
    *,
    prefixes: Path | None = None,
    progress: Progress = no_progress,
) -> Probed[FairnessScores]:
    """Measure what sentences that say who writes change of labels; write fairness.json.

    Args:
        answerer: the model.
        questions: records with gold labels.
        out: folder.
        settings: see `ProbeSettings`.
        prefixes: a table of one's own in the layout of `prefixes.yaml`; None takes that of the package.
        progress: shows how far it is.

    Raises:
        UserError: no gold labels, a table that is none, or the model cannot score the posts.
    """
    records = _labelled(questions)
    table = read_prefixes(prefixes) if prefixes else packaged_prefixes()
    with VariantScoring(answerer, out, settings.batch_size, progress) as scorer:
        rows = score_prefixed(records, table, scorer)

    def figures(names: Sequence[str]) -> FairnessScores:
        return fairness([row for row in rows if row.record.dataset in names], settings.intervals, settings.seed)

    said = {"prefixes": asdict(table)}
    signature = _signature(answerer, questions, records, settings, FAIRNESS_DEFINITIONS, settings_besides=said)
    return _finish("fairness", records, figures, [], out, signature, scorer)


def probe_robustness(
    answerer: Answerer,
    questions: Questions,
    out: Path,
    settings: ProbeSettings,
    *,
    rewordings: Path | None = None,
    progress: Progress = no_progress,
) -> Probed[RobustnessScores]:
    """Measure what changes that should not matter change of labels; write robustness.json.

    Args:
        answerer: the model.
        questions: records with gold labels.
        out: folder.
        settings: see `ProbeSettings`.
        rewordings: a table of one's own in the layout of `rewordings.yaml`; None takes that of the package.
        progress: shows how far it is.

    Raises:
        UserError: no gold labels, a table that is none, or the model cannot score the posts.
    """
    records = _labelled(questions)
    table = read_rewordings(rewordings) if rewordings else packaged_rewordings()
    with VariantScoring(answerer, out, settings.batch_size, progress) as scorer:
        rows = score_changed(records, table, scorer, seed=settings.seed)

    def figures(names: Sequence[str]) -> RobustnessScores:
        return robustness([row for row in rows if row.record.dataset in names], settings.intervals)

    said = {"rewordings": dict(table)}
    signature = _signature(answerer, questions, records, settings, ROBUSTNESS_DEFINITIONS, settings_besides=said)
    return _finish("robustness", records, figures, [], out, signature, scorer)


def _matched(
    outputs: Predictions, records: Sequence[Record], max_rows: int | None, seed: int
) -> tuple[list[Record], list[str]]:
    """The records that were answered, and what to mind."""
    answered = {output.id: output for output in outputs.rows}
    found = [record for record in records if record.id in answered]
    for record in found:
        output = answered[record.id]
        if (record.dataset, record.post_id) != (output.dataset, output.post_id):
            raise UserError(
                f"row {shown(record.id)}: its post is another one than that of the predictions; "
                "give the --data that they were generated from"
            )
    if not found:
        raise UserError("no row of the predictions is in --data; give the data that they were generated from")
    notes = []
    if outputs.left_out:
        notes.append(f"left out: {len(outputs.left_out)} rows of the predictions that have no gold label")
    datasets = {record.dataset for record in records}
    if lacking := sum(output.dataset in datasets for output in outputs.rows) - len(found):
        notes.append(f"left out: {lacking} rows of the predictions whose posts are not in --data")
    if max_rows is not None:
        if max_rows < 1:
            raise UserError(f"--max-rows {max_rows}: give a number from 1")
        kept = {
            record.id
            for name in datasets
            for record in sample_rows([record for record in found if record.dataset == name], max_rows, seed)
        }
        found = [record for record in found if record.id in kept]
    return found, notes


def _labelled(questions: Questions) -> tuple[Record, ...]:
    if not all(record.label for record in questions.records):
        raise UserError("the rows of --data have no gold labels; this probe compares F1, and needs them")
    return questions.records


def _forced(
    answerer: Answerer,
    rows: Sequence[ExplainedRow],
    whole: Mapping[str, LabelScores],
    out: Path,
    settings: ProbeSettings,
    progress: Progress,
) -> list[Forced]:
    """The explanations that the model writes behind the sentence of another label."""
    if not rows:
        return []
    before = answer_opening(answerer.style, answerer.tokenizer)
    sentences = {name: label_answers(task, answerer.style, before) for name, task in TASKS.items()}
    labels = {row.record.id: whole[row.record.id].runner_up(row.label) for row in rows}
    openings = {row.record.id: f"{sentences[row.record.dataset][labels[row.record.id]]} {REASONING}" for row in rows}
    generation = Settings(settings.max_new_tokens, batch_size=settings.batch_size)
    records = [row.record for row in rows]
    signature = answerer.signature(Questions(tuple(records)), generation, score_labels=False)
    signature["forced"] = hashlib.sha256(json.dumps(list(openings.values())).encode()).hexdigest()

    with progress("answers", len(records)) as advance:

        def rest(left: list[Record]) -> Any:
            advance(len(records) - len(left))
            return answer_batches(
                answerer.engine,
                answerer.tokenizer,
                left,
                style=answerer.style,
                max_length=answerer.max_length,
                settings=generation,
                openings=[openings[record.id] for record in left],
            )

        try:
            answers = write_predictions(out / COUNTERFACTUAL, records, signature, rest, lambda rows: advance(len(rows)))
        except UserError as error:
            raise UserError(str(error).replace("name another file", "delete it or give another --out")) from None
    texts = {answer.id: answer.generated_text for answer in answers}
    return [Forced(row, labels[row.record.id], explanation_in(texts[row.record.id], row.record.task)) for row in rows]


def _signature(
    answerer: Answerer,
    questions: Questions,
    records: Sequence[Record],
    settings: ProbeSettings,
    definitions: Mapping[str, str],
    *,
    data: Mapping[str, Any] | None = None,
    settings_besides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The model, the data, the settings, the definitions and the versions behind the figures."""
    return {
        "model": {
            **answerer.opened.identity,
            "weights": answerer.weights,
            "tokenizer": answerer.tokenizer.fingerprint,
            "dtype": answerer.dtype,
            "style": answerer.style,
            "max_length": answerer.max_length,
        },
        "data": {
            "sources": list(questions.sources),
            "rows": len(records),
            "records": records_fingerprint(records),
            **(data or {}),
        },
        "settings": {**asdict(settings), "confidence": settings.intervals.confidence, **(settings_besides or {})},
        "definitions": dict(definitions),
        "versions": versions(),
    }


def _finish(
    name: str,
    records: Sequence[Record],
    figures: Callable[[Sequence[str]], Figures],
    notes: Sequence[str],
    out: Path,
    signature: Mapping[str, Any],
    scoring: VariantScoring,
) -> Probed[Figures]:
    """Compute the figures of each data set and of all rows, and write them."""
    names = [task for task in TASKS if any(record.dataset == task for record in records)]
    datasets = {each: figures([each]) for each in names}
    pooled = figures(names)
    path = out / f"{name}.json"
    value = {
        "schema_version": PROBE_SCHEMA_VERSION,
        "probe": name,
        "datasets": {each: asdict(of) for each, of in datasets.items()},  # type: ignore[call-overload]
        "pooled": asdict(pooled),  # type: ignore[call-overload]
        "notes": list(notes),
        "signature": dict(signature),
    }
    write_json(path, value)
    return Probed(datasets, pooled, tuple(notes), path, (scoring.needed, scoring.taken_over))
