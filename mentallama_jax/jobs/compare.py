"""Compares systems on the same rows: reads predictions or scores folders, measures, tests, writes comparison.json.

jax is imported only for metrics and readers that need a model.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.comparison import Comparison, compare_systems
from mentallama_jax.evaluation.comparison_report import write_comparison
from mentallama_jax.evaluation.explanations import Progress, no_progress, score_explanations
from mentallama_jax.evaluation.foreign_outputs.read_as import AS_THEY_SAY, ReadAs, said_before
from mentallama_jax.evaluation.label_readers import CLASSIFIER, RULES, LabelReader
from mentallama_jax.evaluation.reading import read_predictions
from mentallama_jax.evaluation.row_labels import first_unlike
from mentallama_jax.evaluation.row_matching import SeedAnswers, System
from mentallama_jax.evaluation.score_store import read_scores
from mentallama_jax.evaluation.statistics.paired_tests import ExchangeSettings
from mentallama_jax.evaluation.system_predictions import pool, refuse_twice
from mentallama_jax.foreign import parse_json, reading, shown, shown_cell
from mentallama_jax.jobs.metric_models import MetricModels
from mentallama_jax.jobs.open_metrics import open_metrics
from mentallama_jax.storage import AnyPath, as_path

_SCORES, _BY_ROW = "scores.json", "scores_by_row.parquet"
_LONGEST_PLACE = 200
"""Letters of a place that a message shows."""
_NEAR = 3
"""Folders between scores and their predictions, at most, for these to be found where both were moved."""


class Compared(NamedTuple):
    """What was found, and where it was written."""

    comparison: Comparison
    path: Path


def compare(
    systems: Mapping[str, Sequence[str | AnyPath]],
    out: str | Path,
    *,
    reader: str = RULES,
    classifiers: str | Path | None = None,
    metrics: Sequence[str] = (),
    metric_models: MetricModels | None = None,
    matched_only: bool = False,
    read_as: ReadAs = AS_THEY_SAY,
    draws: int = 5000,
    seed: int = 0,
    confidence: float = 0.95,
    progress: Progress = no_progress,
) -> Compared:
    """Compare systems by pairs, by every metric that all of them have, and write comparison.json.

    Args:
        systems: name -> the predictions of each of its seeds, as `score` takes them, or the folder that `score` wrote;
            its scores by row are then compared too.
        out: folder for comparison.json, and for scores by row that are made.
        reader: a name in `evaluation.label_readers.READERS`, or `CLASSIFIER`.
        classifiers: directory with the folder of a classifier for each data set.
        metrics: of explanations, names in `jobs.open_metrics.METRICS`, computed here; none takes those of the folders.
        metric_models: which models the metrics are computed with.
        matched_only: leave out rows that not all systems have, instead of refusing them.
        read_as: what files of other programs do not say themselves: columns, data set, gold. A folder of scores is read
            as it was when it was scored, with gold from here where it is given.
        draws: exchanges drawn for a test where they are too many to go through.
        seed: of the draws.
        confidence: of intervals; a corrected p of less than 1 - confidence distinguishes systems.
        progress: shows how far the metrics are.

    Raises:
        UserError: fewer than two systems, rows or gold that differ, or an argument that does not go with the others.
    """
    if len(systems) < 2:
        raise UserError("a comparison takes two systems or more; seeds of one system are given as NAME=FILE,FILE")
    if draws < 100 or seed < 0:
        raise UserError("--draws must be 100 or more and --seed 0 or more")
    if not 0.5 <= confidence < 1:
        raise UserError("--confidence must be between 0.5 and 1, such as 0.95")
    if (reader == CLASSIFIER) != (classifiers is not None):
        raise UserError("--reader classifier and --classifiers FOLDER go together")
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder to --out")
    settings = ExchangeSettings(draws=draws, seed=seed, confidence=confidence)
    opened = [
        System(name, tuple(_answers(as_path(path), not metrics, read_as) for path in files))
        for name, files in systems.items()
    ]
    answers = [[seed.predictions for seed in system.seeds] for system in opened]
    for of_system in answers:
        refuse_twice(of_system)
    refuse_twice([pool(of_system) for of_system in answers])
    if metrics:
        opened = _scored(opened, out, metrics, metric_models or MetricModels(), settings, progress)
    read_by: str | LabelReader = reader
    signatures: dict[str, Any] = {}
    if classifiers is not None:
        from mentallama_jax.jobs.classified_outputs import read_with_classifiers

        rows = [row for system in opened for answers in system.seeds for row in answers.predictions.rows]
        found = read_with_classifiers(classifiers, rows, len(rows), reader, False, settings)
        read_by, signatures = found.reader or reader, found.report.signatures
    comparison = compare_systems(opened, reader=read_by, settings=settings, matched_only=matched_only)
    comparison = replace(comparison, signature=comparison.signature | {"classifiers": signatures})
    out.mkdir(parents=True, exist_ok=True)
    return Compared(comparison, write_comparison(out, comparison))


def _answers(path: AnyPath, with_scores: bool, read_as: ReadAs) -> SeedAnswers:
    """The answers of a predictions file, or those that a scores folder was made of."""
    if not (path.is_dir() and (path / _SCORES).is_file()):
        return SeedAnswers(str(path), read_predictions(path, read_as))
    folder = Path(str(path))
    signature = _signature(folder)
    file = _scored_place(folder, signature)
    # What a version before did not keep must be said again.
    own = said_before(signature["read_as"], read_as.gold) if "read_as" in signature else read_as
    predictions = read_predictions(file, own)
    unlike = first_unlike(folder, predictions.rows)
    if unlike is not None:
        what = f"row {shown_cell(unlike)} of {file} is not read as it was when it was scored"
        raise UserError(f"{folder}: {what}; run `mentallama evaluate` on it again")
    by_row = folder / _BY_ROW
    return SeedAnswers(str(path), predictions, read_scores(by_row) if with_scores and by_row.is_file() else None)


def _signature(folder: Path) -> Mapping[str, Any]:
    """What `scores.json` says of how it was made."""
    with reading(folder / _SCORES, "JSON"):
        value = parse_json((folder / _SCORES).read_bytes(), folder / _SCORES)
    signature = value.get("signature") if isinstance(value, dict) else None
    return signature if isinstance(signature, dict) else {}


def _scored_place(folder: Path, signature: Mapping[str, Any]) -> AnyPath:
    """The predictions that scores were made of, a file or a folder of files, unchanged since."""
    files, given = signature.get("predictions"), signature.get("given")
    if not isinstance(files, list) or not all(isinstance(each, dict) and "file" in each for each in files):
        raise UserError(f"{folder / _SCORES}: does not say which predictions were scored; give their file")
    given = given or [each["file"] for each in files]
    if len(given) != 1:
        raise UserError(f"{folder}: holds the scores of {len(given)} files together; give each to NAME=FILE,FILE")
    place = as_path(str(given[0]))
    sums = {as_path(str(each["file"])).name: each.get("sha256") for each in files}
    for candidate in (place, *_moved(folder, place)):
        if _is_unchanged(candidate, sums):
            return candidate
    if not place.exists():
        raise UserError(
            f"{folder}: was made of {shown(place, _LONGEST_PLACE)}, which is not there; give that file instead"
        )
    raise UserError(f"{place}: was changed after {folder} was made; run `mentallama evaluate` on it again")


def _is_unchanged(place: AnyPath, sums: Mapping[str, Any]) -> bool:
    """Whether a file, or the files of a folder that were read, are those with these hashes by their names."""
    if place.is_dir():
        return all((place / name).is_file() and _sha256(place / name) == sha256 for name, sha256 in sums.items())
    return place.is_file() and [_sha256(place)] == list(sums.values())


def _sha256(file: AnyPath) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _moved(folder: Path, file: AnyPath) -> Iterator[Path]:
    """Where predictions may be that were moved together with their scores: as near to these as they were."""
    parts = Path(str(file)).parts
    for above in list(folder.absolute().parents)[:_NEAR]:
        yield from (above.joinpath(*parts[-count:]) for count in range(1, min(_NEAR, len(parts)) + 1))


def _scored(
    systems: Sequence[System],
    out: Path,
    metrics: Sequence[str],
    models: MetricModels,
    settings: ExchangeSettings,
    progress: Progress,
) -> list[System]:
    """The systems with scores by row, which are kept in `out`."""
    answers = [seed for system in systems for seed in system.seeds]
    references = [row.goldens.strip() for seed in answers for row in seed.predictions.rows]
    if not any(references):
        raise UserError("--metrics: no row has a gold text to compare explanations with; --gold SOURCE takes it")
    opened = open_metrics(metrics, models, references)
    out.mkdir(parents=True, exist_ok=True)
    found = []
    for number, seed in enumerate(answers, start=1):
        by_row = out / f"scores_by_row_{number}.parquet"
        score_explanations(seed.predictions.rows, opened, settings, by_row, progress)
        found.append(replace(seed, scored=read_scores(by_row)))
    places = iter(found)
    return [replace(system, seeds=tuple(next(places) for _ in system.seeds)) for system in systems]
