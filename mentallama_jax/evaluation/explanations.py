"""How near outputs are to gold responses: the whole response, as the paper compares it, and the explanation alone.

A row without a reference is counted and not scored. An empty output has the lowest score there is, and is counted.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.pair_metrics import PARTS, Figure, Pair, PairMetric, ResponsePart, Score
from mentallama_jax.evaluation.score_store import ScoreStore
from mentallama_jax.evaluation.statistics.intervals import (
    IntervalSettings,
    few_posts,
    finite_ends,
    mean_score,
    row_scores,
    score_intervals,
)
from mentallama_jax.foreign import shown
from mentallama_jax.imhi.labels.gold_response import explanation_in
from mentallama_jax.imhi.labels.unwrapping import visible
from mentallama_jax.imhi.predictions import Prediction

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""(title, pairs) -> a context whose value is told how many more pairs were scored."""


@contextmanager
def no_progress(title: str, pairs: int) -> Iterator[Callable[[int], None]]:
    """Show nothing."""
    yield lambda count: None


@dataclass(frozen=True, slots=True)
class MetricFigure:
    """The mean of a metric over rows.

    Attributes:
        mean: over rows.
        interval: its lower and upper end, over posts; None where nothing varies and scores have no bounds.
        method: "wilson", "t" (scores without bounds) or "exact".
        corpus: of all rows together, where the metric has such a figure; else None.
        unit: "share" of 1, or "nats".
    """

    mean: float
    interval: tuple[float, float] | None
    method: str
    corpus: float | None
    unit: str


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


def pairs_of(rows: Iterable[Prediction], part: ResponsePart) -> list[Pair]:
    """The texts to compare, without reasoning traces: whole responses, or what stands besides the label sentence."""
    found = []
    for row in rows:
        if part == "response":
            output, reference = visible(row.generated_text).strip(), row.goldens.strip()
        else:
            output, reference = explanation_in(row.generated_text, row.task), row.explanation
        found.append(Pair(row.id, row.dataset, row.post_id, output, reference))
    return found


def score_explanations(
    rows: Sequence[Prediction],
    metrics: Sequence[PairMetric],
    settings: IntervalSettings,
    by_row: Path | None = None,
    progress: Progress = no_progress,
) -> ExplanationScores:
    """Compare outputs with gold responses by each metric.

    Args:
        rows: predictions.
        metrics: what is computed of each output and its reference.
        settings: of the intervals, which are over posts.
        by_row: a table of the scores of rows, which is written while they are made (`score_store`); scores that it has
            already are not computed again. None keeps it in memory.
        progress: shows how far it is.

    Raises:
        UserError: a score that is not finite; it names the row.
    """
    figures = [figure for metric in metrics for figure in metric.figures]
    parts = {part: pairs_of(rows, part) for part in PARTS}
    store = ScoreStore(by_row, figures, parts)
    try:
        for metric in metrics:
            for part in PARTS:
                fill_scores(store, metric, part, parts[part], progress)
    finally:
        store.write()

    def summaries(dataset: str | None) -> dict[ResponsePart, PartScores]:
        chosen = {
            part: [(place, pair) for place, pair in enumerate(pairs) if dataset in (None, pair.dataset)]
            for part, pairs in parts.items()
        }
        return {part: _part_scores(store, part, pairs, figures, settings) for part, pairs in chosen.items()}

    return ExplanationScores(
        {name: summaries(name) for name in dict.fromkeys(row.dataset for row in rows)},
        summaries(None),
        {figure.name: figure.signature for figure in figures},
    )


def fill_scores(
    store: ScoreStore, metric: PairMetric, part: ResponsePart, pairs: Sequence[Pair], progress: Progress
) -> None:
    """Compute the scores of a part that are missing in the store.

    Raises:
        UserError: a score that is not finite; it names the row.
    """
    missing = store.missing(part, metric.figures)
    if metric.empty_score is not None:
        for place in (place for place in missing if not pairs[place].output):
            for figure in metric.figures:
                store.add(part, place, figure, Score(metric.empty_score))
        missing = [place for place in missing if pairs[place].output]
    if not missing:
        return
    title = f"{', '.join(figure.name for figure in metric.figures)} ({part})"
    with progress(title, len(missing)) as advance:
        for batch in metric.scores([pairs[place] for place in missing]):
            for number, scores in batch.items():
                for figure, score in zip(metric.figures, scores, strict=True):
                    if not math.isfinite(score.value):
                        raise UserError(f"row {shown(pairs[missing[number]].id)}: its {figure.name} is {score.value}")
                    store.add(part, missing[number], figure, score)
            advance(len(batch))


def _part_scores(
    store: ScoreStore,
    part: ResponsePart,
    pairs: Sequence[tuple[int, Pair]],
    figures: Sequence[Figure],
    settings: IntervalSettings,
) -> PartScores:
    scored = [(place, pair) for place, pair in pairs if pair.reference]
    posts = [pair.post for _, pair in scored]
    own = {figure: [store.score(part, place, figure) for place, _ in scored] for figure in figures if scored}
    by_post = {
        figure.name: row_scores([score.value for score in scores], posts, figure.bounds)
        for figure, scores in own.items()
    }
    intervals = score_intervals(by_post, settings) if own else {}
    found: dict[str, MetricFigure] = {}
    for figure, scores in own.items():
        found[figure.name] = MetricFigure(
            mean=float(mean_score(by_post[figure.name].total())),
            interval=finite_ends(intervals[figure.name].ends),
            method=intervals[figure.name].method,
            corpus=figure.corpus([score.counts for score in scores]) if figure.corpus else None,
            unit=figure.unit,
        )
    return PartScores(
        rows=len(scored),
        posts=len(set(posts)),
        without_reference=len(pairs) - len(scored),
        empty=sum(not pair.output for _, pair in scored),
        warning=few_posts(len(set(posts))) if scored else None,
        metrics=found,
    )
