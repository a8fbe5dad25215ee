"""The probability of each label, from the log-probabilities that predictions carry.

The probability of a label is exp(`sum`) over the total of all labels of the task. A `sum` is the log-probability of a
whole label sentence after its prompt, so this is the chance of a label given that the model answers with one of the
sentences. `generate --score-labels` chooses by the sum as well, so the likeliest label is the one that it wrote. The
`mean` over tokens is no log-probability of anything, and is not used. A classifier's sum and mean are the same, and so
are those of votes (`generate --votes`): the logarithm of a label's share of the votes, half a vote added to each label,
as a share of 0 has no logarithm.

Shape suffixes: R rows, C labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.statistics.f1 import Counts
from mentallama_jax.foreign import shown_cell
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import TASKS


@dataclass(frozen=True, slots=True)
class LabelProbabilities:
    """Log-probabilities of the labels of a data set.

    Attributes:
        labels: of the task, in the order of C.
        posts: of each row.
        log_RC: float64, nats; exp of a row adds up to 1.
        gold_R: the place of the gold label of each row.
        without: rows besides these that carry no log-probabilities.
    """

    labels: tuple[str, ...]
    posts: tuple[str, ...]
    log_RC: Counts
    gold_R: NDArray[np.int64]
    without: int

    @property
    def rows(self) -> int:
        """The number of rows R."""
        return len(self.posts)

    @property
    def likeliest_R(self) -> NDArray[np.int64]:
        """The place of the likeliest label; of equal ones the first."""
        return np.asarray(self.log_RC.argmax(axis=1))

    def tempered(self, temperature: float) -> "LabelProbabilities":
        """The probabilities with all log-probabilities divided by a temperature, and made to add up to 1 again."""
        log_RC = log_softmax(self.log_RC / temperature, axis=1)
        return LabelProbabilities(self.labels, self.posts, log_RC, self.gold_R, self.without)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What figures of calibration are computed of, a value a row.

    Attributes:
        posts: the post of each row.
        confidence_R: the probability of the likeliest label.
        right_R: 1 where that is the gold label, else 0.
        brier_R: sum over labels of the squared difference of probability and gold (1 or 0); 0 to 2.
        log_loss_R: -log of the probability of the gold label, in nats.
    """

    posts: tuple[str, ...]
    confidence_R: Counts
    right_R: Counts
    brier_R: Counts
    log_loss_R: Counts


def label_probabilities(name: str, rows: Sequence[Prediction]) -> LabelProbabilities:
    """The probabilities of the rows of one data set that carry log-probabilities; the others are counted.

    Raises:
        UserError: names the row: a label of the data set is missing, one is none of its labels, or a log-probability
            is not finite.
    """
    labels = TASKS[name].labels
    scored = [row for row in rows if row.label_log_probabilities is not None]
    sums_RC = np.array([_sums(row, labels) for row in scored], dtype=np.float64).reshape(len(scored), len(labels))
    return LabelProbabilities(
        labels=labels,
        posts=tuple(row.post_id for row in scored),
        log_RC=log_softmax(sums_RC, axis=1),
        gold_R=np.array([labels.index(row.label) for row in scored], dtype=np.int64),
        without=len(rows) - len(scored),
    )


def outcomes(found: LabelProbabilities) -> Outcomes:
    """The figures of each row."""
    every_R = np.arange(found.rows)
    probability_RC = np.exp(found.log_RC)
    gold_RC = np.zeros_like(probability_RC)
    gold_RC[every_R, found.gold_R] = 1
    return Outcomes(
        posts=found.posts,
        confidence_R=probability_RC[every_R, found.likeliest_R],
        right_R=(found.likeliest_R == found.gold_R).astype(np.float64),
        brier_R=((probability_RC - gold_RC) ** 2).sum(axis=1),
        log_loss_R=-found.log_RC[every_R, found.gold_R],
    )


def joined(parts: Sequence[Outcomes]) -> Outcomes:
    """The rows of several data sets as one."""
    return Outcomes(
        tuple(post for part in parts for post in part.posts),
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("confidence_R", "right_R", "brier_R", "log_loss_R")
        ),
    )


def _sums(row: Prediction, labels: Sequence[str]) -> list[float]:
    scores = row.label_log_probabilities or {}
    place = f"prediction {shown_cell(row.id)}: label_log_probabilities"
    lacking = [label for label in labels if "sum" not in scores.get(label, {})]
    if lacking:
        raise UserError(f"{place} has no `sum` of {lacking[0]}; every label of {row.dataset} needs one")
    unknown = sorted(scores.keys() - set(labels))
    if unknown:
        known = ", ".join(labels)
        raise UserError(f"{place} names {shown_cell(unknown[0], labels)}, no label of {row.dataset} ({known})")
    try:
        sums = [float(scores[label]["sum"]) for label in labels]
    except OverflowError:
        sums = [float("inf")]
    if not np.isfinite(sums).all():
        raise UserError(f"{place} holds a value that is not finite; make the predictions again")
    return sums
