"""Does the explanation follow the label, or the post? The other label is forced, and what is then explained is read.

The answer is made to begin with the sentence of another label, the likeliest besides the one that the output states,
and with `Reasoning:`. The model writes on. Rules read the label from the explanation without its label sentence. An
explanation that argues for whatever label stands before it tells nothing of why the model chose its own.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mentallama_jax.evaluation.probes.explained_parts import content_stems
from mentallama_jax.evaluation.probes.faithfulness import ExplainedRow
from mentallama_jax.evaluation.probes.post_figures import MeanFigure, mean_figures
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings, few_posts
from mentallama_jax.imhi.labels import read_label
from mentallama_jax.imhi.labels.gold_response import REASONING

COUNTERFACTUAL_DEFINITIONS = {
    "forced": "the likeliest label besides the one that the output states; the answer begins with its sentence and "
    "`Reasoning:`",
    "states": "the label that the rules read from the explanation without its label sentence, where they read one",
    "similarity": "F1 of the content words, with their counts, of the forced and the original explanation",
}


@dataclass(frozen=True, slots=True)
class Forced:
    """An explanation that was written behind another label.

    Attributes:
        row: with the original explanation.
        label: that was forced.
        explanation: that was then written.
    """

    row: ExplainedRow
    label: str
    explanation: str


@dataclass(frozen=True, slots=True)
class CounterfactualScores:
    """Figures of forced labels, fractions of 1; `probe_schema.PROBE_FIELDS` documents each."""

    rows: int
    posts: int
    empty: int
    states_forced: int
    states_original: int
    states_another: int
    states_none: int
    follows: MeanFigure | None
    follows_where_stated: MeanFigure | None
    original_states_own: MeanFigure | None
    similarity: MeanFigure | None
    warning: str | None


def stated(explanation: str, row: ExplainedRow) -> str | None:
    """The label that an explanation states in so many words, without its label sentence."""
    return read_label(f"{REASONING} {explanation}", row.record.task, row.record.aspect)


def word_overlap(first: str, second: str) -> float:
    """F1 of the content words of two texts, with their counts; 0 where one has none."""
    one, other = Counter(content_stems(first)), Counter(content_stems(second))
    shared = (one & other).total()
    return 2 * shared / (one.total() + other.total()) if shared else 0.0


def counterfactual(rows: Sequence[Forced], settings: IntervalSettings) -> CounterfactualScores:
    """The figures of rows whose label was forced."""
    states = [stated(each.explanation, each.row) for each in rows]
    posts = [each.row.record.post_id for each in rows]
    follows = [state == each.label for state, each in zip(states, rows, strict=True)]
    own = [stated(each.row.explanation, each.row) == each.row.label for each in rows]
    some = [place for place, state in enumerate(states) if state]
    figures: Mapping[str, MeanFigure] = mean_figures(
        {
            "follows": [float(value) for value in follows],
            "own": [float(value) for value in own],
            "similarity": [word_overlap(each.explanation, each.row.explanation) for each in rows],
        },
        posts,
        settings,
    )
    where_stated = mean_figures(
        {"follows": [float(follows[place]) for place in some]}, [posts[place] for place in some], settings
    )
    original = sum(state == each.row.label for state, each in zip(states, rows, strict=True))
    return CounterfactualScores(
        rows=len(rows),
        posts=len(set(posts)),
        empty=sum(not each.explanation for each in rows),
        states_forced=sum(follows),
        states_original=original,
        states_another=len(some) - sum(follows) - original,
        states_none=len(rows) - len(some),
        follows=figures.get("follows"),
        follows_where_stated=where_stated.get("follows"),
        original_states_own=figures.get("own"),
        similarity=figures.get("similarity"),
        warning=few_posts(len(set(posts))) if posts else None,
    )
