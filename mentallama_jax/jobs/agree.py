"""Compares metrics of explanations with the marks that people gave, and people with each other."""

import hashlib
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mentallama_jax import __version__
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.explanations import Progress, no_progress
from mentallama_jax.evaluation.pair_metrics import PARTS, ResponsePart
from mentallama_jax.evaluation.people.answer_scores import (
    Against,
    ScoredAnswers,
    metric_scores,
    plain_scores,
    reference_pairs,
)
from mentallama_jax.evaluation.people.human_marks import HumanMarks, Matches, of_annotations, with_gold
from mentallama_jax.evaluation.people.metric_agreement import HumanAgreement, MetricScores, agreement
from mentallama_jax.evaluation.people.study_export import KEY
from mentallama_jax.evaluation.people.study_import import holds_study, read_study
from mentallama_jax.evaluation.reading import read_predictions
from mentallama_jax.evaluation.schema import SCHEMA_VERSION
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.files import write_json
from mentallama_jax.imhi.data_files.annotations import read_annotations
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.records import Record
from mentallama_jax.jobs.metric_models import MetricModels
from mentallama_jax.jobs.open_metrics import open_metrics

AGREEMENT = "human_agreement.json"
AGAINST: tuple[Against, ...] = ("gold", "post")

_DEFINITIONS = {
    "spearman": "rank correlation, ties with their mean rank",
    "kendall": "tau-b",
    "with_mean": "metric with the mean mark of all annotators",
    "with_others": "metric with the mean mark of all annotators but one, mean over the one left out",
    "ceiling": "marks of the one left out with the mean mark of the others, mean over the one left out",
    "alpha": "Krippendorff's alpha, ordinal",
    "corrected": "prediction-powered mean: marks corrected by the metric on answers without marks, clustered by post",
    "interval": "over posts: the variance is that of the figures with one post left out, with ranks of what is left",
}


class Agreed(NamedTuple):
    """What was found, and where it was written.

    Attributes:
        found: the figures.
        marks: what they were made of.
        matches: how answers found their gold; None where no records were named.
        path: of the file written.
    """

    found: HumanAgreement
    marks: HumanMarks
    matches: Matches | None
    path: Path


def agree(
    marks: Sequence[str | Path],
    out: str | Path,
    *,
    key: str | Path | None = None,
    metrics: Sequence[str] = (),
    against: Sequence[Against] = ("gold",),
    part: ResponsePart = "response",
    predictions: Sequence[str | Path] = (),
    metric_models: MetricModels | None = None,
    strict: bool = False,
    progress: Progress = no_progress,
) -> Agreed:
    """Compare metrics with human marks and write human_agreement.json.

    Args:
        marks: annotated CSV files, folders of such, or the folder of a study; with `key` the filled files of a study.
        out: folder to write to.
        key: the key.json of a study, where it does not lie in the study's folder.
        metrics: names in `jobs.open_metrics.METRICS`.
        against: what they compare answers with: the gold response, the post, or both.
        part: compare whole responses, or explanations alone.
        predictions: all answers of the systems whose answers were marked, named after the system; with them the mean
            mark of all answers is estimated.
        metric_models: which models the metrics are computed with; `data` names records with posts and gold.
        strict: whether a row that cannot be read is an error.
        progress: shows how far the metrics are.

    Raises:
        UserError: nothing that can be compared, or an argument that does not go with the others.
    """
    if part not in PARTS:
        raise UserError(f"--part {part}: there are {', '.join(PARTS)}")
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder to --out")
    models = metric_models or MetricModels()
    found = read_marks([Path(place) for place in marks], None if key is None else Path(key), strict)
    records: list[Record] = []
    matches = None
    if models.data:
        records = read_records(list(models.data), need_labels=False).records
        found, matches = with_gold(found, records)
    others = _unmarked([Path(place) for place in predictions], found)
    answers = [row.answer for row in found.rows] + [answer for rows in others.values() for answer in rows]
    by_id = {record.id: record.post for record in records}
    posts = [row.post for row in found.rows] + [by_id.get(row.id, "") for rows in others.values() for row in rows]
    out.mkdir(parents=True, exist_ok=True)
    scored = [plain_scores(answers)]
    if metrics:
        scored += _by_metrics(answers, posts, metrics, against, part, models, out, progress)
    scores, signatures, missing = _joined(scored, len(found.rows))
    settings = IntervalSettings()
    result = agreement(
        found,
        {name: of_rows[: len(found.rows)] for name, of_rows in scores.items()},
        settings,
        _by_system(others, scores, len(found.rows)),
        missing,
        _signature(found, matches, signatures, settings),
    )
    write_json(out / AGREEMENT, {"schema_version": SCHEMA_VERSION, **asdict(result)})
    return Agreed(result, found, matches, out / AGREEMENT)


def read_marks(places: Sequence[Path], key: Path | None, strict: bool = False) -> HumanMarks:
    """Read marks: the folder of a study, its filled files, or annotated CSV files and folders of such.

    Raises:
        UserError: nothing there, malformed, or studies and annotated files together.
    """
    if key is not None:
        return read_study(_files(places), key)
    studies = [place for place in places if holds_study(place)]
    if studies:
        if len(places) > 1:
            raise UserError(f"{studies[0]}: is the folder of a study; give it alone, or its filled files with --key")
        return read_study(_files(studies), studies[0] / KEY)
    annotations, problems, files = [], [], []
    seen: dict[str, Path] = {}
    for file in _files(places):
        if file.stem in seen:
            raise UserError(f"{file}: has the name of {seen[file.stem]}; rename one, as rows are named after files")
        seen[file.stem] = file
        rows, bad = read_annotations(file, strict=strict)
        annotations += rows
        problems += bad
        files.append({"file": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()})
    return of_annotations(annotations, files, problems)


def _files(places: Sequence[Path]) -> list[Path]:
    """The tables among places and in folders among them.

    Raises:
        UserError: a place that does not exist, or a folder without a table.
    """
    found = []
    for place in places:
        if place.is_dir():
            inside = [file for file in sorted(place.iterdir()) if file.suffix.lower() in (".csv", ".jsonl")]
            if not inside:
                folders = sorted(each for each in place.iterdir() if each.is_dir() and [*each.glob("*.csv")])
                such = f", such as {folders[0]}" if folders else ""
                raise UserError(f"{place}: holds no .csv or .jsonl with marks; name the folder in which they lie{such}")
            found += [file for file in inside if not file.name.startswith(".")]
        elif place.is_file():
            found.append(place)
        else:
            raise UserError(f"{place}: no such file or folder")
    return found


def _unmarked(predictions: Sequence[Path], marks: HumanMarks) -> dict[str, list[Prediction]]:
    """System -> all its answers.

    Raises:
        UserError: predictions that are named after no system.
    """
    systems = list(dict.fromkeys(row.system for row in marks.rows))
    found: dict[str, list[Prediction]] = {}
    for path in predictions:
        if path.stem not in systems:
            raise UserError(
                f"--predictions {path}: no marked answer is of {path.stem!r}; systems: {', '.join(systems)}"
            )
        found[path.stem] = list(read_predictions(path).rows)
    return found


def _by_metrics(
    answers: Sequence[Prediction],
    posts: Sequence[str],
    metrics: Sequence[str],
    against: Sequence[Against],
    part: ResponsePart,
    models: MetricModels,
    out: Path,
    progress: Progress,
) -> list[ScoredAnswers]:
    found = []
    for one in AGAINST:
        if one not in against:
            continue
        pairs = reference_pairs(answers, posts, part, one)
        if not any(pair.reference for pair in pairs):
            what = "name records with gold by --data, or compare with posts by --against post"
            raise UserError(f"--metrics: no answer has a {one} to compare it with; {what}")
        opened = open_metrics(metrics, models, [pair.reference for pair in pairs if pair.reference])
        by_row = out / f"human_agreement_by_row_{one}.parquet"
        found.append(metric_scores(pairs, opened, part, one, by_row, progress))
    return found


def _joined(
    scored: Sequence[ScoredAnswers], marked: int
) -> tuple[dict[str, list[float | None]], dict[str, str], dict[str, str]]:
    """Scores and signatures of all metrics, and why some have no figures."""
    scores = {name: of_rows for each in scored for name, of_rows in each.scores.items()}
    signatures = {name: said for each in scored for name, said in each.signatures.items()}
    missing = {
        name: "no marked answer has what it is compared with"
        for name, of_rows in scores.items()
        if all(score is None for score in of_rows[:marked])
    }
    return {name: of_rows for name, of_rows in scores.items() if name not in missing}, signatures, missing


def _by_system(
    others: dict[str, list[Prediction]], scores: MetricScores, start: int
) -> dict[str, tuple[Sequence[str], MetricScores]]:
    found: dict[str, tuple[Sequence[str], MetricScores]] = {}
    for system, rows in others.items():
        end = start + len(rows)
        found[system] = [row.post_id for row in rows], {name: each[start:end] for name, each in scores.items()}
        start = end
    return found


def _signature(
    marks: HumanMarks, matches: Matches | None, metrics: dict[str, str], settings: IntervalSettings
) -> dict[str, Any]:
    return {
        "marks": list(marks.files),
        "study": marks.study,
        "left_out": [asdict(problem) for problem in marks.problems],
        "gold": None if matches is None else asdict(matches),
        "metrics": metrics,
        "confidence": settings.confidence,
        "definitions": _DEFINITIONS,
        "versions": {
            "mentallama_jax": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
