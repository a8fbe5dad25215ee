"""Scores predictions: reads files, counts, finds intervals, writes figures and the report.

jax is imported only for metrics and readers that need a model.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.beside_classifiers import ClassifierReport
from mentallama_jax.evaluation.correctness import Scores, evaluate
from mentallama_jax.evaluation.explanations import ExplanationScores, Progress, no_progress, score_explanations
from mentallama_jax.evaluation.foreign_outputs.read_as import AS_THEY_SAY, ReadAs
from mentallama_jax.evaluation.label_readers import CLASSIFIER, RULES, LabelReader, reading_once
from mentallama_jax.evaluation.output_lengths import output_lengths
from mentallama_jax.evaluation.reading import pool, read_predictions
from mentallama_jax.evaluation.reports.shown_outputs import choose_examples, write_examples
from mentallama_jax.evaluation.score_report import write_report
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.evaluation.trust.trust_sections import TrustSections, score_trust
from mentallama_jax.files import write_jsonl
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.jobs.make_report import make_report
from mentallama_jax.jobs.metric_models import MetricModels
from mentallama_jax.jobs.open_metrics import open_metrics
from mentallama_jax.jobs.posts_by_id import posts_of
from mentallama_jax.storage import AnyPath, as_path

DIFFERING = "readers_differ.jsonl"
"""The rows that rules and classifier read differently, without their texts."""


class Scored(NamedTuple):
    """What was found, and where it was written.

    Attributes:
        scores: of the predictions.
        explanations: of the metrics asked for; None where there are none.
        posts_known: whether the files say which rows are of one post.
        paths: files written, scores.json first.
        classifiers: what classifiers read; None where none were given.
        trust: what is missed of high risk, faults of outputs, calibration, grounding, care.
        rows: what was scored.
    """

    scores: Scores
    explanations: ExplanationScores | None
    posts_known: bool
    paths: list[Path]
    classifiers: ClassifierReport | None = None
    trust: TrustSections | None = None
    rows: Sequence[Prediction] = ()


def score(
    predictions: Sequence[str | AnyPath],
    out: str | Path,
    *,
    reader: str = RULES,
    metrics: Sequence[str] = (),
    classifiers: str | Path | None = None,
    consistency: bool = False,
    metric_models: MetricModels | None = None,
    calibrate_on: Sequence[str | AnyPath] = (),
    progress: Progress = no_progress,
    read_as: ReadAs = AS_THEY_SAY,
    show_posts: bool = False,
    raw: bool = False,
) -> Scored:
    """Score predictions; write scores.json and the report that is made of it.

    Args:
        predictions: each a file or a folder that `evaluation.reading` reads; several are pooled.
        out: folder for the report.
        reader: a name in `evaluation.label_readers.READERS`, or `CLASSIFIER`.
        metrics: of explanations, names in `jobs.open_metrics.METRICS`. Their scores by row go to scores_by_row.parquet
            while they are made; scores that stand there already are not computed again.
        classifiers: directory with the folder of a classifier for each data set.
        consistency: whether to measure how often explanations alone are read as the stated label.
        metric_models: which models the metrics are computed with.
        calibrate_on: validation predictions of the same system, to fit temperatures and conformal sets on.
        progress: shows how far the metrics are.
        read_as: what files of other programs do not say themselves: columns, data set, gold.
        show_posts: whether to keep some outputs in examples.json, and to show them in the report.
        raw: whether these stay as they are; else they are masked.

    Raises:
        UserError: nothing that can be scored, or an argument that does not go with the others.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder to --out")
    if classifiers is None and (reader == CLASSIFIER or consistency):
        raise UserError(
            "--reader classifier and --consistency need --classifiers, a directory with a folder a data set"
        )
    if classifiers is not None and reader != CLASSIFIER and not consistency:
        raise UserError("--classifiers goes with --reader classifier or --consistency; give one of them")
    if raw and not show_posts:
        raise UserError("--raw goes with --show-posts")
    settings = IntervalSettings()
    pooled = pool([read_predictions(as_path(path), read_as) for path in predictions])
    read_by: str | LabelReader = reader
    found = None
    if classifiers is not None:
        from mentallama_jax.jobs.classified_outputs import read_with_classifiers

        found = read_with_classifiers(classifiers, pooled.rows, len(pooled.rows), reader, consistency, settings)
        read_by = found.reader or reader
    read_by = reading_once(read_by)
    scores = evaluate(pooled, reader=read_by, settings=settings)
    validation = pool([read_predictions(as_path(path)) for path in calibrate_on]) if calibrate_on else None
    data = metric_models.data if metric_models else ()
    trust = score_trust(pooled, validation, read_by, settings, posts_of(pooled.rows, data) if data else None)
    explanations = None
    if metrics:
        references = [row.goldens.strip() for row in pooled.rows]
        opened = open_metrics(metrics, metric_models or MetricModels(), references)
        out.mkdir(parents=True, exist_ok=True)
        explanations = score_explanations(pooled.rows, opened, settings, out / "scores_by_row.parquet", progress)
    report = found.report if found else None
    lengths = output_lengths(pooled.rows, read_by, settings)
    paths = write_report(out, scores, explanations, report, trust, lengths)
    if found and found.differing is not None:
        paths.append(out / DIFFERING)
        write_jsonl(paths[-1], found.differing)
    paths += write_examples(out, choose_examples(pooled.rows, read_by, raw=raw) if show_posts else None)
    paths += make_report([out], show_posts=show_posts).paths
    return Scored(scores, explanations, pooled.posts_known, paths, report, trust, pooled.rows)
