"""How near outputs are to gold responses: the whole response, as the paper compares it, and the explanation alone.

A row without a reference is counted and not scored. An empty output has the lowest score there is, and is counted.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.bootstrap import Bootstrap, few_posts, mean_score, row_scores, score_intervals
from mentallama_jax.evaluation.overlap import OverlapMetric, RowResult, overlap_metrics, score_in_processes
from mentallama_jax.foreign import shown
from mentallama_jax.imhi.labels.gold_response import explanation_in
from mentallama_jax.imhi.predictions import Prediction

ResponsePart = Literal["response", "explanation"]
PARTS: tuple[ResponsePart, ...] = ("response", "explanation")


@dataclass(frozen=True, slots=True)
class MetricFigure:
    """The mean of a metric over rows.

    Attributes:
        mean: over rows.
        interval: its lower and upper end, over posts.
        method: "bootstrap" or "exact".
        corpus: of all rows together, where the metric has such a figure; else None.
    """

    mean: float
    interval: tuple[float, float]
    method: str
    corpus: float | None


@dataclass(frozen=True, slots=True)
class PartScores:
    """What was scored of one part of the responses.

    Attributes:
        rows: that were scored.
        posts: different posts among them.
        without_reference: rows that were not, as nothing stands on the gold side.
        empty: scored rows whose output has nothing of this part.
        warning: what to mind of the intervals; None where there is nothing.
        metrics: name -> figure.
    """

    rows: int
    posts: int
    without_reference: int
    empty: int
    warning: str | None
    metrics: dict[str, MetricFigure]


@dataclass(frozen=True, slots=True)
class ExplanationScores:
    """Scores of explanations: `response` and `explanation` of each data set and of all rows.

    Attributes:
        datasets: data set -> part -> scores.
        pooled: part -> scores of all rows.
        signatures: metric -> how it is computed.
    """

    datasets: dict[str, dict[ResponsePart, PartScores]]
    pooled: dict[ResponsePart, PartScores]
    signatures: dict[str, str]


@dataclass(frozen=True, slots=True)
class Pair:
    """An output beside its reference; both may be empty."""

    id: str
    dataset: str
    post: str
    output: str
    reference: str


def pairs_of(rows: Iterable[Prediction], part: ResponsePart) -> list[Pair]:
    """The texts to compare: whole responses, or what stands in them besides the label sentence."""
    found = []
    for row in rows:
        if part == "response":
            output, reference = row.generated_text.strip(), row.goldens.strip()
        else:
            output, reference = explanation_in(row.generated_text, row.task), row.explanation
        found.append(Pair(row.id, row.dataset, row.post_id, output, reference))
    return found


def score_explanations(
    rows: Sequence[Prediction],
    families: Sequence[str],
    bootstrap: Bootstrap,
    processes: int = 1,
    track: Callable[[Sequence[Pair]], Iterable[Pair]] = lambda pairs: pairs,
) -> tuple[ExplanationScores, list[dict[str, str | float | None]]]:
    """Compare outputs with gold responses by each metric.

    Args:
        rows: predictions.
        families: of metrics, see `overlap.FAMILIES`.
        bootstrap: how intervals are drawn, over posts.
        processes: that score rows side by side, where there are many.
        track: is handed pairs and gives them back one by one, to show progress.

    Returns:
        The scores, and those of each row and part: `id`, `dataset`, `part` and the metrics; None without a reference.

    Raises:
        UserError: an unknown family, a missing extra, or a score that is not finite; it names the row.
    """
    metrics = overlap_metrics(families)
    table: list[dict[str, str | float | None]] = []
    by_part: dict[ResponsePart, tuple[list[Pair], list[RowResult]]] = {}
    for part in PARTS:
        pairs = pairs_of(rows, part)
        scored = [pair for pair in pairs if pair.reference]
        results: list[RowResult] = []
        texts = [(pair.output, pair.reference) for pair in scored]
        found = score_in_processes(families, texts, processes)
        for pair in track(pairs):
            own: dict[str, float | None] = dict.fromkeys(metric.name for metric in metrics)
            if pair.reference:
                results.append(next(found))
                own = {name: _finite(score, name, pair) for name, score in results[-1].scores.items()}
            table.append({"id": pair.id, "dataset": pair.dataset, "part": part, **own})
        by_part[part] = scored, results
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    counts = {(part, name): len([row for row in rows if row.dataset == name]) for part in PARTS for name in datasets}
    of_datasets = {
        name: {
            part: _summary(
                [(place, pair) for place, pair in enumerate(by_part[part][0]) if pair.dataset == name],
                by_part[part][1],
                metrics,
                counts[part, name],
                bootstrap,
            )
            for part in PARTS
        }
        for name in datasets
    }
    pooled = {
        part: _summary(list(enumerate(by_part[part][0])), by_part[part][1], metrics, len(rows), bootstrap)
        for part in PARTS
    }
    signatures = {metric.name: metric.signature for metric in metrics}
    return ExplanationScores(of_datasets, pooled, signatures), table


def _finite(score: float | None, name: str, pair: Pair) -> float:
    if score is None or not np.isfinite(score):
        raise UserError(f"row {shown(pair.id)}: its {name} is {score}")
    return score


def _summary(
    scored: Sequence[tuple[int, Pair]],
    results: Sequence[RowResult],
    metrics: Sequence[OverlapMetric],
    rows: int,
    bootstrap: Bootstrap,
) -> PartScores:
    posts = [pair.post for _, pair in scored]
    figures: dict[str, MetricFigure] = {}
    if scored:
        own = [results[place] for place, _ in scored]
        scores = {metric.name: row_scores([row.scores[metric.name] for row in own], posts) for metric in metrics}
        intervals = score_intervals(scores, bootstrap)
        for metric in metrics:
            mean = float(mean_score(scores[metric.name].total()))
            corpus = metric.corpus([row.statistics[metric.name] for row in own]) if metric.corpus else None
            interval = intervals[metric.name]
            figures[metric.name] = MetricFigure(mean, interval.ends, interval.method, corpus)
    return PartScores(
        rows=len(scored),
        posts=len(set(posts)),
        without_reference=rows - len(scored),
        empty=sum(not pair.output for _, pair in scored),
        warning=few_posts(len(set(posts))) if scored else None,
        metrics=figures,
    )
