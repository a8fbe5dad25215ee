"""Self-consistency: several samples of an answer vote for its label (Wang et al. 2023).

Each sample votes for the label that it states; one that states none does not vote. The label with most votes wins. Of
labels with equally many, the one that was voted for first wins, in the order of the samples: that is as random as the
samples are, and favours no label. The answer that is kept is the first sample of the winning label. Where no sample
votes, it is the first of all, and nothing is decided.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.labels import read_label
from mentallama_jax.imhi.predictions import LabelLogProbabilities, Prediction

_BESIDES = 0.5
"""Votes that each label is given besides, so that the share of a label that nobody voted for has a logarithm."""

_MORE_FOR_THE_WINNER = 1e-9
"""Votes that make the winner the likeliest label also where others have as many."""


@dataclass(frozen=True, slots=True)
class Votes:
    """How many samples vote.

    Attributes:
        count: samples of each row; 1 for no vote.
        keep: keep the texts of all of them.
    """

    count: int = 1
    keep: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UserError(f"--votes {self.count}: give a number of samples from 1")

    def check(self, temperature: float) -> None:
        """Refuse votes of samples that are all the same.

        Raises:
            UserError: several samples at temperature 0.
        """
        if self.count > 1 and temperature == 0:
            raise UserError("--votes: samples differ only at a --temperature above 0; give one, such as 0.7")


def voted(samples: Sequence[Prediction], *, keep: bool = False) -> Prediction:
    """The answer of a row by the votes of its samples, which are in their order."""
    task = samples[0].task
    labels = [row.decided_label or read_label(row.generated_text, task, row.aspect) for row in samples]
    counts = Counter(label for label in labels if label)
    winner = max(counts, key=lambda label: (counts[label], -labels.index(label)), default="")
    return replace(
        samples[labels.index(winner)] if winner else samples[0],
        new_tokens=sum(row.new_tokens for row in samples),
        decided_label=winner,
        votes={label: counts[label] for label in task.labels if counts[label]},
        label_log_probabilities=_shares(counts, winner, task.labels) if winner else None,
        samples=tuple(row.generated_text for row in samples) if keep else (),
        samples_finish=tuple(row.finish for row in samples) if keep else (),
    )


def _shares(counts: Counter[str], winner: str, labels: Sequence[str]) -> LabelLogProbabilities:
    weights = {label: counts[label] + _BESIDES + _MORE_FOR_THE_WINNER * (label == winner) for label in labels}
    logs = {label: math.log(weight / sum(weights.values())) for label, weight in weights.items()}
    return {label: {"sum": value, "mean": value} for label, value in logs.items()}
