"""Do explanations point at what decided the label? Parts of the post that they point at are deleted, or kept alone.

The definitions are those of ERASER (DeYoung et al. 2020, https://aclanthology.org/2020.acl-main.408), with p the
probability of the label that the output states, see `label_scores`:

- comprehensiveness: p of the whole post less p without the parts. High where the parts were needed.
- sufficiency: p of the whole post less p of the parts alone. Low where the parts were enough.

Any deletion moves p a little. So both are set beside those of random parts, as many runs of words of the same lengths
in the same post, the mean over several draws. An explanation is faithful where comprehensiveness is above that of
random parts, and sufficiency below.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mentallama_jax.evaluation.probes.explained_parts import ExplainedParts, explained_parts
from mentallama_jax.evaluation.probes.label_scores import LabelScores, Scorer
from mentallama_jax.evaluation.probes.post_figures import MeanFigure, difference_figures, mean_figures
from mentallama_jax.evaluation.probes.post_words import Run, alone, random_runs, without, words_of
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings, few_posts
from mentallama_jax.imhi.labels import read_label
from mentallama_jax.imhi.labels.gold_response import explanation_in
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.records import Record

DEFINITIONS = {
    "p": "probability of the label that the output states: softmax over the labels of the sums of log-probabilities of "
    "their sentences",
    "parts": "of the post: quotations of the explanation that occur in it; else runs of 4 words that the explanation "
    "repeats, and clauses of which a sentence of it holds at least half of the content words, at least two",
    "comprehensiveness": "p of the whole post less p without the parts (DeYoung et al. 2020)",
    "sufficiency": "p of the whole post less p of the parts alone (DeYoung et al. 2020); lower is more faithful",
    "random": "as many runs of words of the same lengths at random places of the same post, mean over draws",
    "difference": "of the parts less that of random parts, row by row; interval over posts",
}

Outcome = Literal["measured", "unparsed", "without_explanation", "without_parts", "whole_post"]


@dataclass(frozen=True, slots=True)
class ExplainedRow:
    """A row with what its output states and points at.

    Attributes:
        record: the post and the question.
        label: that the output states; "" where it states none.
        explanation: of the output, without its label sentence.
        parts: of the post that the explanation points at.
        outcome: "measured", or why it is not.
    """

    record: Record
    label: str
    explanation: str
    parts: ExplainedParts
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Erasure:
    """The probabilities of the stated label of one measured row.

    Attributes:
        whole: of the whole post.
        deleted: without the parts.
        kept: of the parts alone.
        random_deleted: without random parts, mean over draws.
        random_kept: of random parts alone, mean over draws.
        scores: of the labels of the whole post.
    """

    whole: float
    deleted: float
    kept: float
    random_deleted: float
    random_kept: float
    scores: LabelScores


@dataclass(frozen=True, slots=True)
class FaithfulnessScores:
    """Figures of a set of rows, fractions of 1; `probe_schema.PROBE_FIELDS` documents each."""

    rows: int
    unparsed: int
    without_explanation: int
    without_parts: int
    whole_post: int
    measured: int
    posts: int
    by_quotes: int
    by_overlap: int
    cut_posts: int
    label_agrees: MeanFigure | None
    share_of_words: MeanFigure | None
    p: MeanFigure | None
    comprehensiveness: MeanFigure | None
    random_comprehensiveness: MeanFigure | None
    comprehensiveness_difference: MeanFigure | None
    sufficiency: MeanFigure | None
    random_sufficiency: MeanFigure | None
    sufficiency_difference: MeanFigure | None
    warning: str | None


def explained_row(record: Record, output: Prediction) -> ExplainedRow:
    """Read what an output states, and find what its explanation points at."""
    label = read_label(output.generated_text, record.task, record.aspect) or ""
    explanation = explanation_in(output.generated_text, record.task)
    parts = explained_parts(record.post, explanation)
    outcome: Outcome = "measured"
    if not label:
        outcome = "unparsed"
    elif not explanation:
        outcome = "without_explanation"
    elif not parts.runs:
        outcome = "without_parts"
    elif sum(stop - start for start, stop in parts.runs) == len(words_of(record.post)):
        outcome = "whole_post"
    return ExplainedRow(record, label, explanation, parts, outcome)


def erasure_variants(row: ExplainedRow, *, draws: int, seed: int) -> list[Record]:
    """A row as it is; where it is measured, then without the parts, the parts alone, and both for each draw."""
    if row.outcome != "measured":
        return [row.record]
    words = words_of(row.record.post)
    digest = hashlib.sha256(f"{seed}\0{row.record.id}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    chosen: list[Sequence[Run]] = [row.parts.runs]
    chosen += [random_runs(len(words), row.parts.runs, generator) for _ in range(draws)]
    posts = [text for runs in chosen for text in (without(words, runs), alone(words, runs))]
    return [row.record, *(replace(row.record, post=post) for post in posts)]


def erase(
    rows: Sequence[ExplainedRow], scorer: Scorer, *, draws: int, seed: int
) -> tuple[dict[str, LabelScores], dict[str, Erasure]]:
    """Score the variants of rows.

    Args:
        rows: with unique ids; those without a label or an explanation are passed over.
        scorer: scores records; all variants are given at once.
        draws: random parts for each row.
        seed: of these draws.

    Returns:
        Id -> the scores of the labels of the whole post; id of each measured row -> its probabilities.
    """
    variants = {
        row.record.id: (row, erasure_variants(row, draws=draws, seed=seed))
        for row in rows
        if row.outcome not in ("unparsed", "without_explanation")
    }
    scored = iter(scorer([record for _, records in variants.values() for record in records]))
    whole: dict[str, LabelScores] = {}
    erasures: dict[str, Erasure] = {}
    for row_id, (row, records) in variants.items():
        scores = [next(scored) for _ in records]
        whole[row_id] = scores[0]
        if row.outcome == "measured":
            p, deleted, kept, *random = [each.probabilities[row.label] for each in scores]
            erasures[row_id] = Erasure(
                p, deleted, kept, float(np.mean(random[::2])), float(np.mean(random[1::2])), scores[0]
            )
    return whole, erasures


def faithfulness(
    rows: Sequence[ExplainedRow], erasures: dict[str, Erasure], settings: IntervalSettings
) -> FaithfulnessScores:
    """The figures of rows, from the probabilities of those that were measured."""
    measured = [row for row in rows if row.outcome == "measured"]
    found = [erasures[row.record.id] for row in measured]
    posts = [row.record.post_id for row in measured]
    whole, deleted, kept = ([getattr(each, name) for each in found] for name in ("whole", "deleted", "kept"))
    random_deleted, random_kept = [each.random_deleted for each in found], [each.random_kept for each in found]
    agrees = [float(each.scores.predicted == row.label) for row, each in zip(measured, found, strict=True)]
    shares = [_share_of_words(row) for row in measured]
    figures = mean_figures({"label_agrees": agrees, "share_of_words": shares, "p": whole}, posts, settings)
    figures |= difference_figures(
        {
            "comprehensiveness": (whole, deleted),
            "random_comprehensiveness": (whole, random_deleted),
            "comprehensiveness_difference": (random_deleted, deleted),
            "sufficiency": (whole, kept),
            "random_sufficiency": (whole, random_kept),
            "sufficiency_difference": (random_kept, kept),
        },
        posts,
        settings,
    )

    def count(outcome: Outcome) -> int:
        return sum(row.outcome == outcome for row in rows)

    return FaithfulnessScores(
        rows=len(rows),
        unparsed=count("unparsed"),
        without_explanation=count("without_explanation"),
        without_parts=count("without_parts"),
        whole_post=count("whole_post"),
        measured=len(measured),
        posts=len(set(posts)),
        by_quotes=sum(row.parts.how == "quotes" for row in measured),
        by_overlap=sum(row.parts.how == "overlap" for row in measured),
        cut_posts=sum(each.scores.truncated > 0 for each in found),
        **{name: figures.get(name) for name in _FIGURES},
        warning=few_posts(len(set(posts))) if posts else None,
    )


def _share_of_words(row: ExplainedRow) -> float:
    return sum(stop - start for start, stop in row.parts.runs) / len(words_of(row.record.post))


_FIGURES = (
    "label_agrees",
    "share_of_words",
    "p",
    "comprehensiveness",
    "random_comprehensiveness",
    "comprehensiveness_difference",
    "sufficiency",
    "random_sufficiency",
    "sufficiency_difference",
)
