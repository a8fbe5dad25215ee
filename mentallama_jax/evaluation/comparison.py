"""Do systems differ on the same rows? Differences of every metric over posts, tested, and how many posts it takes.

Figures of a system are those that `correctness` and `explanations` give it; that of several seeds is their mean. A
difference is the first system's figure less the second's.
"""

import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from mentallama_jax import __version__
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.correctness import LabelledRow, label_rows, separate_labels, tally_rows
from mentallama_jax.evaluation.label_readers import LabelReader, label_reader
from mentallama_jax.evaluation.pair_metrics import Figure, Unit
from mentallama_jax.evaluation.row_matching import Matched, System, match_rows
from mentallama_jax.evaluation.schema import COMPARISON_VERSION
from mentallama_jax.evaluation.statistics.f1 import accuracy, macro_f1, weighted_f1
from mentallama_jax.evaluation.statistics.intervals import (
    Difference,
    finite_ends,
    mean_score,
    paired_difference,
    row_scores,
)
from mentallama_jax.evaluation.statistics.paired_tests import (
    ExchangeSettings,
    PairedTest,
    PairedTestName,
    exchange_tests,
    holm,
    mcnemar,
)
from mentallama_jax.evaluation.statistics.power import (
    POWER,
    design_effect,
    intraclass_correlation,
    minimum_detectable,
    posts_needed,
)
from mentallama_jax.foreign import shown
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import TASKS

POOLED = "pooled"
LABEL_METRICS = {"accuracy": accuracy, "weighted_f1": weighted_f1, "macro_f1": macro_f1}
_DEFINITIONS = {
    "difference": "figure of the first system less that of the second, on the rows that all systems have",
    "interval": "Student's t over posts (jackknife) and, of systems with several seeds, over seeds",
    "p": "mcnemar: exact, of rows independent of each other; exchange: of the answers of whole posts, all exchanges or "
    "drawn ones, those with the difference seen counted half; t: over posts and seeds, where there are several seeds",
    "p_holm": "p corrected by Holm, of one metric over all data sets and pairs of systems; of the pool over pairs",
    "not_distinguished": "the best system, and those whose p_holm beside it is above 1 - confidence",
    "design_effect": "1 + (m - 1) ICC of the row-wise differences, m rows a post",
    "minimum_detectable": f"the smallest true difference that is found with a chance of {POWER}",
    "posts_needed": f"posts on which the difference seen would be found with a chance of {POWER}, were it the true one "
    "and the variance over seeds as it is; none where that alone hides it",
}


@dataclass(frozen=True, slots=True)
class PairedFigures:
    """A metric of two systems on the same rows; keys of `comparison.json`, see `schema.COMPARISON_FIELDS`."""

    metric: str
    dataset: str
    first: str
    second: str
    rows: int
    posts: int
    first_value: float
    second_value: float
    difference: float
    interval: tuple[float, float] | None
    test: PairedTestName
    p: float
    p_holm: float
    icc: float | None
    design_effect: float | None
    post_variance: float
    seed_variance: float
    minimum_detectable: float | None
    posts_needed: int | None
    warning: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """The systems by one metric on one data set.

    Attributes:
        values: system -> figure of each of its seeds.
        best: the one with the highest figure.
        not_distinguished: it, and those of which it is not known to be better.
    """

    metric: str
    dataset: str
    values: dict[str, list[float]]
    best: str
    not_distinguished: list[str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `comparison.json` holds; `schema.COMPARISON_FIELDS` documents each key."""

    schema_version: int
    systems: dict[str, list[dict[str, Any]]]
    left_out: dict[str, int]
    units: dict[str, str]
    standings: list[Standing]
    differences: list[PairedFigures]
    signature: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Measured:
    """Metrics of all systems on the same rows: sums by post and values by row of each system and seed."""

    dataset: str
    metrics: Mapping[str, Callable[[Any], Any]]
    sums: list[list[Any]]
    by_row: list[np.ndarray[Any, np.dtype[np.float64]]]
    posts: list[str]
    span: float = 1.0
    unit: Unit = "share"


def compare_systems(
    systems: Sequence[System], *, reader: str | LabelReader, settings: ExchangeSettings, matched_only: bool = False
) -> Comparison:
    """Compare systems by pairs, by every metric that all of them have.

    Args:
        systems: two at least, of different names.
        reader: how labels are read, see `correctness.evaluate`.
        settings: confidence of intervals and tests, draws and seed of tests.
        matched_only: leave out rows that not all systems have.

    Raises:
        UserError: see `row_matching.match_rows`; or a metric of explanations that was computed in different ways.
    """
    matched = match_rows(systems, matched_only)
    names = [system.name for system in systems]
    measured = [*_by_labels(matched, reader), *_by_rows(systems, matched)]
    found = [each for part in measured for each in _pairs(names, part, settings)]
    found = _corrected(found)
    standings = [each for part in measured for each in _standings(names, part, found, 1 - settings.confidence)]
    return Comparison(
        schema_version=COMPARISON_VERSION,
        systems={system.name: [seed.predictions.provenance() for seed in system.seeds] for system in systems},
        left_out=matched.left_out,
        units={name: part.unit for part in measured for name in part.metrics},
        standings=standings,
        differences=found,
        signature=_sign(systems, reader, settings, matched_only),
    )


def _by_labels(matched: Matched, reader: str | LabelReader) -> Iterator[_Measured]:
    labelled = [[label_rows(rows, reader) for rows in seeds] for seeds in matched.rows]
    first = labelled[0][0]
    datasets = [name for name in TASKS if any(row.dataset == name for row in first)]
    for name in datasets:
        chosen = [[[row for row in rows if row.dataset == name] for rows in seeds] for seeds in labelled]
        yield _of_labels(name, chosen, TASKS[name].labels)
    if len(datasets) > 1:
        classes = [f"{name}: {label}" for name in datasets for label in TASKS[name].labels]
        yield _of_labels(POOLED, [[separate_labels(rows) for rows in seeds] for seeds in labelled], classes)


def _of_labels(dataset: str, rows: list[list[list[LabelledRow]]], classes: Sequence[str]) -> _Measured:
    right = [np.array([[row.gold == row.predicted for row in seed] for seed in seeds], float) for seeds in rows]
    return _Measured(
        dataset=dataset,
        metrics=LABEL_METRICS,
        sums=[[tally_rows(seed, classes) for seed in seeds] for seeds in rows],
        by_row=[each.mean(axis=0) for each in right],
        posts=[row.post for row in rows[0][0]],
    )


def _by_rows(systems: Sequence[System], matched: Matched) -> Iterator[_Measured]:
    """Metrics of explanations that all systems have, each of the response and of the explanation alone."""
    scored = [[seed.scored for seed in system.seeds] for system in systems]
    known = [table for seeds in scored for table in seeds if table is not None]
    if len(known) < sum(len(seeds) for seeds in scored):
        return
    figures, tables = known[0].figures, [table.scores for table in known]
    shared = [name for name in tables[0] if all(name in table for table in tables)]
    _refuse_other_signatures(systems, shared)
    rows = matched.rows[0][0]
    datasets = list(dict.fromkeys(row.dataset for row in sorted(rows, key=lambda row: list(TASKS).index(row.dataset))))
    for name in shared:
        for part in dict.fromkeys(part for part, _ in tables[0][name]):
            having = [row for row in rows if all((part, row.id) in table[name] for table in tables)]
            for dataset in [*datasets, *([POOLED] if len(datasets) > 1 else [])]:
                chosen = [row for row in having if dataset in (row.dataset, POOLED)]
                if chosen:
                    figure = replace(figures[name], name=f"{name} ({part})")
                    yield _of_rows(figure, dataset, chosen, [_values(seeds, name, part, chosen) for seeds in scored])


def _refuse_other_signatures(systems: Sequence[System], metrics: Sequence[str]) -> None:
    answers = [seed for system in systems for seed in system.seeds if seed.scored]
    for seed in answers[1:]:
        for name in metrics:
            ours, theirs = (each.scored.figures[name].signature for each in (answers[0], seed) if each.scored)
            if ours != theirs:
                what = f"{name} of {answers[0].file} and of {seed.file} was computed in different ways"
                raise UserError(f"{what}: {shown(ours)} and {shown(theirs)}; compute both with --metrics {name}")


def _values(seeds: Sequence[Any], name: str, part: str, rows: Sequence[Prediction]) -> list[list[float]]:
    return [[table.scores[name][part, row.id] for row in rows] for table in seeds]


def _of_rows(figure: Figure, dataset: str, rows: Sequence[Prediction], values: list[list[list[float]]]) -> _Measured:
    posts = [row.post_id for row in rows]
    return _Measured(
        dataset=dataset,
        metrics={figure.name: mean_score},
        sums=[[row_scores(seed, posts, figure.bounds) for seed in seeds] for seeds in values],
        by_row=[np.array(seeds).mean(axis=0) for seeds in values],
        posts=posts,
        span=figure.bounds[1] - figure.bounds[0],
        unit=figure.unit,
    )


def _pairs(names: Sequence[str], measured: _Measured, settings: ExchangeSettings) -> Iterator[PairedFigures]:
    posts = measured.sums[0][0].groups
    for first, second in combinations(range(len(names)), 2):
        ours, theirs = measured.sums[first], measured.sums[second]
        tests = {}
        if len(ours) == len(theirs) == 1:
            tests = exchange_tests(ours[0], theirs[0], measured.metrics, settings.draws, settings.seed)
            if "accuracy" in tests and posts == len(measured.posts):
                only = measured.by_row[first] - measured.by_row[second]
                tests["accuracy"] = mcnemar(int((only > 0).sum()), int((only < 0).sum()))
        icc = intraclass_correlation((measured.by_row[first] - measured.by_row[second]).tolist(), measured.posts)
        for metric, function in measured.metrics.items():
            found = paired_difference(ours, theirs, function, settings, measured.span)
            test = tests.get(metric) or _over_seeds(found)
            yield PairedFigures(
                metric=metric,
                dataset=measured.dataset,
                first=names[first],
                second=names[second],
                rows=len(measured.posts),
                posts=posts,
                first_value=_mean(ours, function),
                second_value=_mean(theirs, function),
                difference=found.difference,
                interval=finite_ends(found.interval),
                test=test.test,
                p=test.p,
                p_holm=test.p,
                icc=icc,
                design_effect=None if icc is None else design_effect(icc, len(measured.posts), posts),
                post_variance=found.post_variance,
                seed_variance=found.seed_variance,
                **_power(found, posts, settings.confidence),
                warning=found.warning,
            )


def _over_seeds(found: Difference) -> PairedTest:
    from scipy.special import stdtr

    if not found.error:
        return PairedTest(1.0, "t over posts and seeds")
    return PairedTest(2 * float(stdtr(found.freedom, -abs(found.difference) / found.error)), "t over posts and seeds")


def _power(found: Difference, posts: int, confidence: float) -> dict[str, Any]:
    if not found.error:
        return {"minimum_detectable": None, "posts_needed": None}
    return {
        "minimum_detectable": minimum_detectable(found.error, found.freedom, confidence),
        "posts_needed": posts_needed(
            found.difference,
            math.sqrt(found.post_variance),
            posts,
            confidence,
            found.seed_variance,
            found.seed_freedom,
        ),
    }


def _mean(seeds: Sequence[Any], metric: Callable[[Any], Any]) -> float:
    return float(np.mean([float(metric(sums.total())) for sums in seeds]))


def _corrected(found: list[PairedFigures]) -> list[PairedFigures]:
    """The same with Holm's correction, of each metric over data sets and pairs, and of its pool over pairs."""
    families: dict[tuple[str, bool], list[int]] = {}
    for place, each in enumerate(found):
        families.setdefault((each.metric, each.dataset == POOLED), []).append(place)
    for places in families.values():
        for place, p in zip(places, holm([found[place].p for place in places]), strict=True):
            found[place] = replace(found[place], p_holm=p)
    return found


def _standings(
    names: Sequence[str], measured: _Measured, found: Sequence[PairedFigures], level: float
) -> Iterator[Standing]:
    for metric, function in measured.metrics.items():
        values = {
            name: [float(function(sums.total())) for sums in seeds]
            for name, seeds in zip(names, measured.sums, strict=True)
        }
        best = max(names, key=lambda name: float(np.mean(values[name])))
        beaten = {
            each.first if each.second == best else each.second
            for each in found
            if (each.metric, each.dataset) == (metric, measured.dataset)
            and best in (each.first, each.second)
            and each.p_holm <= level
        }
        yield Standing(metric, measured.dataset, values, best, [name for name in names if name not in beaten])


def _sign(
    systems: Sequence[System], reader: str | LabelReader, settings: ExchangeSettings, matched_only: bool
) -> dict[str, Any]:
    tables = [seed.scored.figures for system in systems for seed in system.seeds if seed.scored]
    return {
        "reader": label_reader(reader)[0],
        "settings": asdict(settings),
        "power": POWER,
        "matched_only": matched_only,
        "metrics": {name: figure.signature for table in tables for name, figure in table.items()},
        "definitions": _DEFINITIONS,
        "versions": {
            "mentallama_jax": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
