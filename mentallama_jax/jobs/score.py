"""Scores predictions: reads files, counts, finds intervals, writes figures and the report.

jax is imported only for metrics and readers that need a model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypedDict, Unpack

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.beside_classifiers import ClassifierReport
from mentallama_jax.evaluation.correctness import Scores, evaluate
from mentallama_jax.evaluation.coverage import Covered, coverage
from mentallama_jax.evaluation.explanations import ExplanationScores, Progress, no_progress, score_explanations
from mentallama_jax.evaluation.foreign_outputs.read_as import AS_THEY_SAY, ReadAs
from mentallama_jax.evaluation.label_readers import CLASSIFIER, RULES, LabelReader, ReadingOnce
from mentallama_jax.evaluation.output_lengths import output_lengths
from mentallama_jax.evaluation.reading import read_predictions
from mentallama_jax.evaluation.reports.shown_outputs import choose_examples, write_examples
from mentallama_jax.evaluation.row_labels import write_labels
from mentallama_jax.evaluation.score_report import write_report
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.evaluation.system_predictions import Predictions, pool, refuse_twice
from mentallama_jax.evaluation.trust.trust_sections import TrustSections, score_trust
from mentallama_jax.files import write_jsonl
from mentallama_jax.foreign import parse_json, shown_cell
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.jobs.make_report import make_report
from mentallama_jax.jobs.metric_models import MetricModels
from mentallama_jax.jobs.open_metrics import open_metrics
from mentallama_jax.jobs.posts_by_id import other_gold, posts_of, records_by_id
from mentallama_jax.jobs.system_names import system_names
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
        covered: rows of the benchmark's splits among them.
        replaced: the files whose scores stood in the folder before, where these are others.
    """

    scores: Scores
    explanations: ExplanationScores | None
    posts_known: bool
    paths: list[Path]
    classifiers: ClassifierReport | None = None
    trust: TrustSections | None = None
    rows: Sequence[Prediction] = ()
    covered: Covered = MappingProxyType({})
    replaced: Sequence[str] = ()


class ScoreOptions(TypedDict, total=False):
    """What `score` and `score_each` may be told.

    Attributes:
        reader: a name in `evaluation.label_readers.READERS`, or `CLASSIFIER`; `RULES` by default.
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
    """

    reader: str
    metrics: Sequence[str]
    classifiers: str | Path | None
    consistency: bool
    metric_models: MetricModels | None
    calibrate_on: Sequence[str | AnyPath]
    progress: Progress
    read_as: ReadAs
    show_posts: bool
    raw: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """The same with their defaults."""

    reader: str = RULES
    metrics: Sequence[str] = ()
    classifiers: str | Path | None = None
    consistency: bool = False
    metric_models: MetricModels | None = None
    calibrate_on: Sequence[str | AnyPath] = ()
    progress: Progress = no_progress
    read_as: ReadAs = AS_THEY_SAY
    show_posts: bool = False
    raw: bool = False


def score(
    predictions: Sequence[str | AnyPath | Predictions],
    out: str | Path,
    *,
    pool: bool = False,
    **options: Unpack[ScoreOptions],
) -> Scored:
    """Score the predictions of one system; write scores.json and the report that is made of it.

    Args:
        predictions: each a file or a folder that `evaluation.reading` reads, or what it read.
        out: folder for the report.
        pool: whether several are taken for one: seeds of a recipe, or parts of a benchmark.
        options: see `ScoreOptions`.

    Raises:
        UserError: nothing that can be scored, the same file twice, several without `pool`, or an argument that does
            not go with the others.
    """
    if len(predictions) > 1 and not pool:
        raise UserError(
            "several predictions are pooled on request alone: pool=True, or score_each to see them side by side"
        )
    how = _checked(out, options)
    parts = [
        each if isinstance(each, Predictions) else read_predictions(as_path(each), how.read_as) for each in predictions
    ]
    refuse_twice(parts)
    return _score(parts, Path(out), how)


def score_each(
    predictions: Sequence[str | AnyPath], out: str | Path, **options: Unpack[ScoreOptions]
) -> Mapping[str, Scored]:
    """Score several systems, each into a folder of its name below `out`, and write one report of all into `out`.

    Args:
        predictions: one of each system; it is called after its file or folder.
        out: folder of the report of all.
        options: see `ScoreOptions`.

    Returns:
        System -> its scores, in the order given.

    Raises:
        UserError: as `score`; `calibrate_on`, which belongs to one system.
    """
    how = _checked(out, options)
    if how.calibrate_on:
        raise UserError("--calibrate-on belongs to one system; evaluate the systems one by one")
    names = system_names(predictions)
    parts = [read_predictions(as_path(path), how.read_as) for path in predictions]
    refuse_twice(parts)
    scored = {name: _score([part], Path(out) / name, how) for name, part in zip(names, parts, strict=True)}
    make_report([Path(out) / name for name in names], out, show_posts=how.show_posts)
    return scored


def _checked(out: str | Path, options: ScoreOptions) -> _Options:
    """The options, where they go together and there is a place for what is written."""
    how = _Options(**options)
    if Path(out).exists() and not Path(out).is_dir():
        raise UserError(f"{out}: is a file; give a folder to --out")
    if how.classifiers is None and (how.reader == CLASSIFIER or how.consistency):
        raise UserError(
            "--reader classifier and --consistency need --classifiers, a directory with a folder a data set"
        )
    if how.classifiers is not None and how.reader != CLASSIFIER and not how.consistency:
        raise UserError("--classifiers goes with --reader classifier or --consistency; give one of them")
    if how.raw and not how.show_posts:
        raise UserError("--raw goes with --show-posts")
    return how


def _score(parts: Sequence[Predictions], out: Path, how: _Options) -> Scored:
    settings = IntervalSettings()
    pooled = pool(parts)
    replaced = _others_scored(out, pooled)
    data = how.metric_models.data if how.metric_models else ()
    records = records_by_id(data) if data else None
    if records is not None and (unlike := other_gold(pooled.rows, records)):
        what = f"{len(unlike):,} rows, such as {shown_cell(unlike[0])}, have other gold than --data"
        said = f"{what}; theirs counts, and --gold takes that of the data"
        pooled = replace(pooled, remarks=(*pooled.remarks, said))
    read_by: str | LabelReader = how.reader
    found = None
    if how.classifiers is not None:
        from mentallama_jax.jobs.classified_outputs import read_with_classifiers

        count = len(pooled.rows)
        found = read_with_classifiers(how.classifiers, pooled.rows, count, how.reader, how.consistency, settings)
        read_by = found.reader or how.reader
    read_by = ReadingOnce(read_by)
    scores = evaluate(pooled, reader=read_by, settings=settings)
    calibrate_on = how.calibrate_on
    validation = pool([read_predictions(as_path(path)) for path in calibrate_on]) if calibrate_on else None
    posts = None if records is None else posts_of(pooled.rows, records)
    trust = score_trust(pooled, validation, read_by, settings, posts)
    explanations = None
    if how.metrics:
        references = [row.goldens.strip() for row in pooled.rows]
        opened = open_metrics(how.metrics, how.metric_models or MetricModels(), references)
        out.mkdir(parents=True, exist_ok=True)
        store = out / "scores_by_row.parquet"
        explanations = score_explanations(pooled.rows, opened, settings, store, how.progress)
    report, covered = found.report if found else None, coverage(parts)
    lengths = output_lengths(pooled.rows, read_by, settings)
    paths = write_report(out, scores, explanations, report, trust, lengths, covered)
    paths.append(write_labels(out, pooled.rows, read_by))
    if found and found.differing is not None:
        paths.append(out / DIFFERING)
        write_jsonl(paths[-1], found.differing)
    shown = choose_examples(pooled.rows, read_by, raw=how.raw) if how.show_posts else None
    paths += write_examples(out, shown)
    paths += make_report([out], show_posts=how.show_posts).paths
    return Scored(scores, explanations, pooled.posts_known, paths, report, trust, pooled.rows, covered, replaced)


def _others_scored(folder: Path, predictions: Predictions) -> list[str]:
    """The files whose scores a folder holds, where they are not those of these predictions."""
    path = folder / "scores.json"
    if not path.is_file():
        return []
    try:
        before = [str(each["file"]) for each in parse_json(path.read_bytes(), path)["signature"]["predictions"]]
    except (UserError, LookupError, TypeError, OSError):
        return ["what cannot be read"]
    return [] if before == [each["file"] for each in predictions.files] else before
