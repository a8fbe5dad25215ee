"""Collects explanations of known labels as the benchmark was built: ask, check, and keep what stands the checks."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mentallama_jax.baselines.endpoints.chat_messages import Disguise, as_it_is
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.explanation_checks import (
    Checked,
    Collected,
    Thresholds,
    add_bartscores,
    add_consistency,
    check_labels,
    collection_report,
)
from mentallama_jax.files import write_json, write_jsonl
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.explanation_prompts import (
    EXAMPLES_OF_A_LABEL,
    INSTRUCTION,
    Experts,
    examples_for,
    expert_examples,
    explanation_question,
)
from mentallama_jax.imhi.predictions import Prediction, answer_to
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.wording import instruction_response

KEPT, REJECTED, ANSWERS, REPORT = "kept.jsonl", "rejected.jsonl", "predictions.jsonl", "report.json"
"""Files of the folder that is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What is explained, and how it is asked.

    Attributes:
        records: with gold labels.
        experts: explanations by experts, see `imhi.explanation_prompts`.
        count: examples of each label.
        instruction: what stands in front.
    """

    records: Sequence[Record]
    experts: Experts
    count: int = EXAMPLES_OF_A_LABEL
    instruction: str = INSTRUCTION

    def shown(self, record: Record, count: int | None = None) -> list[Record]:
        """The examples before the question about a record: `count` of each label, or as many as are set."""
        return examples_for(record, self.experts, self.count if count is None else count)

    def question(self, record: Record, count: int | None = None) -> str:
        """The question about a record behind its examples, see `shown`."""
        return explanation_question(record, self.shown(record, count), self.instruction)

    def expert_explanation(self, record: Record) -> str:
        """What an expert wrote about the same post and label; "" where nobody did."""
        there = self.experts.get((record.dataset, record.aspect, record.label), ())
        return next((each.explanation for each in there if each.post_id == record.post_id), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckModels:
    """The models of the checks that need one; None leaves a check out.

    Attributes:
        classifiers: a folder with a classifier of explanations for each data set.
        bartscore: a BART, folder or hub id.
        bartscore_weights: other weights for it.
    """

    classifiers: Path | None = None
    bartscore: str | None = None
    bartscore_weights: Path | None = None


def open_collection(
    sources: Sequence[str],
    examples: Sequence[str],
    *,
    datasets: Sequence[str] = ("all",),
    max_rows: int | None = None,
    count: int = EXAMPLES_OF_A_LABEL,
    seed: int = 0,
    instruction: str = INSTRUCTION,
    disguise: Disguise = as_it_is,
) -> Collection:
    """Read what is to be explained, and the experts' explanations.

    Args:
        sources: of records with labels; explanations that they have are not looked at.
        examples: of records with labels and explanations by experts.
        datasets: to take, or `all`.
        max_rows: of each data set at most, chosen by `seed`.
        count: examples of each label in a prompt.
        seed: of the choice of examples and rows.
        instruction: what stands in front.
        disguise: what is shown of a record; explanations speak of that, so that it is what is kept.

    Raises:
        UserError: nothing to explain, or too few examples of a label.
    """
    from mentallama_jax.jobs.answer import questions_in

    if count < 0:
        raise UserError(f"--examples-per-label {count}: give a number from 0")
    asked = questions_in(sources, datasets=datasets, max_rows=max_rows, seed=seed).records
    if not any(record.label for record in asked):
        raise UserError("there is nothing to explain: no row has a label")
    asked = tuple(map(disguise, asked))
    experts = [disguise(record) for record in read_records(list(examples)).records]
    return Collection(
        records=asked, experts=expert_examples(experts, asked, count, seed), count=count, instruction=instruction
    )


def check(
    collection: Collection, answers: Sequence[tuple[str | None, str]], thresholds: Thresholds, models: CheckModels
) -> list[Checked]:
    """Check the answers to all records of a collection.

    Args:
        collection: what was asked.
        answers: text and finish of each; the text is None where the question could not be asked.
        thresholds: what drops a row.
        models: of the checks that need one.

    Raises:
        UserError: a model that cannot be opened.
    """
    pairs = zip(collection.records, answers, strict=True)
    rows = check_labels([Collected(record, text, finish) for record, (text, finish) in pairs], thresholds)
    explained = [place for place, row in enumerate(rows) if row.collected.explanation]
    if models.classifiers is not None and explained:
        read = _read_by_classifiers(models.classifiers, [rows[place] for place in explained])
        add_consistency([rows[place] for place in explained], read, thresholds)
    if models.bartscore is not None:
        add_bartscores(rows, _bartscores(collection, rows, explained, models), thresholds)
    return rows


def write_collection(out: Path, rows: Sequence[Checked], said: dict[str, Any]) -> dict[str, Any]:
    """Write kept and rejected rows, the kept answers as predictions, and the report; return the report.

    Args:
        out: the folder.
        rows: checked.
        said: how the answers were made, for the report and the signature of the predictions.
    """
    kept = [row for row in rows if not row.reasons]
    records = [replace(row.collected.record, explanation=row.collected.explanation) for row in kept]
    report = {**collection_report(rows), "made_by": said}
    write_jsonl(out / KEPT, (asdict(record) for record in records))
    write_jsonl(out / REJECTED, (_rejected(row) for row in rows if row.reasons))
    write_jsonl(out / ANSWERS, (_as_prediction(record).to_json() for record in records))
    write_json(out / f"{Path(ANSWERS).stem}.meta.json", said)
    write_json(out / REPORT, report)
    return report


def _rejected(row: Checked) -> dict[str, Any]:
    found = row.collected
    besides = {"answer": found.text, "reasons": row.reasons, "classifier": row.read, "bartscore": row.bartscore}
    return {**asdict(found.record), "explanation": found.explanation, **besides}


def _as_prediction(record: Record) -> Prediction:
    return replace(answer_to(record, instruction_response(record)), finish="eos")


def _read_by_classifiers(folder: Path, rows: Sequence[Checked]) -> list[str | None]:
    from mentallama_jax.scorers.label_classifier import open_classifiers, read_explanations

    tasks = {row.collected.record.dataset: row.collected.record.task for row in rows}
    classifiers = open_classifiers(folder, list(tasks.values()))
    return read_explanations(classifiers, [answer_to(row.collected.record, row.collected.text or "") for row in rows])[
        0
    ]


def _bartscores(
    collection: Collection, rows: Sequence[Checked], explained: Sequence[int], models: CheckModels
) -> dict[int, float]:
    """Place -> the score of an explanation against that of an expert, for the rows that have one."""
    from mentallama_jax.evaluation.pair_metrics import Pair
    from mentallama_jax.jobs.metric_models import MetricModels
    from mentallama_jax.jobs.open_scorers import open_model_metrics

    pairs: dict[int, Pair] = {}
    for place in explained:
        record = rows[place].collected.record
        if reference := collection.expert_explanation(record):
            output = rows[place].collected.explanation
            pairs[place] = Pair(record.id, record.dataset, record.post_id, output, reference)
    if not pairs:
        return {}
    assert models.bartscore is not None
    opened = MetricModels(bartscore=models.bartscore, bartscore_weights=models.bartscore_weights)
    (metric,) = open_model_metrics(["bartscore"], opened, [pair.reference for pair in pairs.values()])
    places = list(pairs)
    return {
        places[number]: score.value
        for batch in metric.scores(list(pairs.values()))
        for number, (score,) in batch.items()
    }
