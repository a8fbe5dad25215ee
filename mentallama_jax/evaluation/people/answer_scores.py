"""Scores of answers that are compared with people's marks: by metrics of explanations, and without any reference."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mentallama_jax.evaluation.explanations import Progress, fill_scores, pairs_of
from mentallama_jax.evaluation.label_readers import RULES, label_of
from mentallama_jax.evaluation.pair_metrics import PARTS, Pair, PairMetric, ResponsePart
from mentallama_jax.evaluation.score_store import ScoreStore
from mentallama_jax.imhi.predictions import Prediction

Against = Literal["gold", "post"]
"""What metrics compare an answer with."""

WORDS = "words"
LABEL_CORRECT = "label_correct"
AGAINST_POST = ":post"
"""Ends the name of a metric that compares answers with posts."""


@dataclass(frozen=True, slots=True)
class ScoredAnswers:
    """Scores of answers, by metric.

    Attributes:
        scores: metric -> score of each answer; None where it has none.
        signatures: metric -> how it is computed.
        without_reference: metric -> answers that it could not score, as there is nothing to compare them with.
    """

    scores: dict[str, list[float | None]]
    signatures: dict[str, str]
    without_reference: dict[str, int]


def plain_scores(answers: Sequence[Prediction]) -> ScoredAnswers:
    """Length in words, and whether the label that rules read from the answer is the gold label (1 or 0)."""
    right: list[float | None] = [float(label_of(row, RULES) == row.label) if row.label else None for row in answers]
    return ScoredAnswers(
        {WORDS: [float(len(row.generated_text.split())) for row in answers], LABEL_CORRECT: right},
        {WORDS: "words of the answer, cut at white space", LABEL_CORRECT: f"1 where the label read by {RULES} is gold"},
        {LABEL_CORRECT: sum(score is None for score in right)},
    )


def reference_pairs(
    answers: Sequence[Prediction], posts: Sequence[str], part: ResponsePart, against: Against
) -> list[Pair]:
    """Each answer, or the explanation in it, beside its gold or beside the post."""
    pairs = pairs_of(answers, part)
    if against == "gold":
        return pairs
    return [replace(pair, reference=post.strip()) for pair, post in zip(pairs, posts, strict=True)]


def metric_scores(
    pairs: Sequence[Pair],
    metrics: Sequence[PairMetric],
    part: ResponsePart,
    against: Against,
    by_row: Path | None,
    progress: Progress,
) -> ScoredAnswers:
    """Score pairs by metrics; scores in the table `by_row` are not computed again.

    Raises:
        UserError: a score that is not finite; it names the row.
    """
    figures = [figure for metric in metrics for figure in metric.figures]
    parts: dict[ResponsePart, list[Pair]] = {each: list(pairs) if each == part else [] for each in PARTS}
    store = ScoreStore(by_row, figures, parts)
    try:
        for metric in metrics:
            fill_scores(store, metric, part, pairs, progress)
    finally:
        store.write()
    ending = AGAINST_POST if against == "post" else ""
    scores: dict[str, list[float | None]] = {
        figure.name + ending: [
            store.score(part, place, figure).value if pair.reference else None for place, pair in enumerate(pairs)
        ]
        for figure in figures
    }
    without = sum(not pair.reference for pair in pairs)
    signatures = {figure.name + ending: f"{figure.signature}; {part} against {against}" for figure in figures}
    return ScoredAnswers(scores, signatures, dict.fromkeys(scores, without))
