"""How long outputs are, and whether long ones are right as often as short ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mentallama_jax.evaluation.correctness import label_rows
from mentallama_jax.evaluation.label_readers import LabelReader
from mentallama_jax.evaluation.statistics.intervals import (
    IntervalSettings,
    few_posts,
    mean_score,
    metric_interval,
    row_scores,
)
from mentallama_jax.imhi.predictions import Prediction

_GROUPS = 4


@dataclass(frozen=True, slots=True)
class LengthGroup:
    """Rows of similar length.

    Attributes:
        shortest: output of the group, in words.
        longest: output of the group, in words.
        rows: in the group.
        posts: different posts among them.
        accuracy: share of right rows.
        interval: its lower and upper end, over posts.
        warning: what to mind of the interval; None where there is nothing.
    """

    shortest: int
    longest: int
    rows: int
    posts: int
    accuracy: float
    interval: tuple[float, float]
    warning: str | None


@dataclass(frozen=True, slots=True)
class OutputLengths:
    """Lengths of the outputs of one data set, or of all.

    Attributes:
        rows: all of them.
        median: words of an output.
        quartiles: the first and the third, in words.
        cut_posts: rows whose post lost its end to fit.
        by_length: rows in four groups by rising length, fewer where many are equally long.
    """

    rows: int
    median: float
    quartiles: tuple[float, float]
    cut_posts: int
    by_length: list[LengthGroup]


@dataclass(frozen=True, slots=True)
class Lengths:
    """What `scores.json` holds under `lengths`: of each data set, and of all rows."""

    datasets: dict[str, OutputLengths]
    pooled: OutputLengths


def output_lengths(rows: Sequence[Prediction], reader: str | LabelReader, settings: IntervalSettings) -> Lengths:
    """Words of outputs, and accuracy by length.

    Args:
        rows: predictions, at least one.
        reader: what reads labels.
        settings: of the intervals, which are over posts.
    """
    right = [float(row.gold == row.predicted) for row in label_rows(rows, reader)]
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row.dataset, []).append(place)

    def of(chosen: Sequence[int]) -> OutputLengths:
        return _lengths([rows[place] for place in chosen], [right[place] for place in chosen], settings)

    return Lengths({name: of(chosen) for name, chosen in places.items()}, of(range(len(rows))))


def _lengths(rows: Sequence[Prediction], right: Sequence[float], settings: IntervalSettings) -> OutputLengths:
    words_R = np.array([len(row.generated_text.split()) for row in rows])
    first, median, third = (float(value) for value in np.quantile(words_R, (0.25, 0.5, 0.75)))
    edges = np.unique(np.quantile(words_R, np.linspace(0, 1, _GROUPS + 1)[1:], method="inverted_cdf"))
    group_R = np.searchsorted(edges, words_R)
    groups = []
    for number in np.unique(group_R):
        chosen = np.flatnonzero(group_R == number).tolist()
        sums = row_scores([right[place] for place in chosen], [rows[place].post_id for place in chosen])
        groups.append(
            LengthGroup(
                shortest=int(words_R[chosen].min()),
                longest=int(words_R[chosen].max()),
                rows=len(chosen),
                posts=sums.groups,
                accuracy=float(mean_score(sums.total())),
                interval=metric_interval(sums, mean_score, settings).ends,
                warning=few_posts(sums.groups),
            )
        )
    cut_posts = sum(row.prompt_truncated > 0 for row in rows)
    return OutputLengths(len(rows), median, (first, third), cut_posts, groups)
