"""What a model thinks of a post: the probability of each label of the question, from its label sentences.

The probabilities are the softmax over the labels of the sums of log-probabilities of their sentences, which is what
`mentallama generate --score-labels` chooses by.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mentallama_jax.imhi.records import Record


@dataclass(frozen=True, slots=True)
class LabelScores:
    """How likely a model finds the label sentences of a question.

    Attributes:
        sums: label -> log-probability of its sentence, in nats.
        truncated: tokens that the post lost to fit.
    """

    sums: Mapping[str, float]
    truncated: int = 0

    @property
    def predicted(self) -> str:
        """The likeliest label; the first of several."""
        return max(self.sums, key=lambda label: self.sums[label])

    @property
    def probabilities(self) -> dict[str, float]:
        """Label -> its share of 1."""
        sums = np.array(list(self.sums.values()))
        shares = np.exp(sums - sums.max())
        return dict(zip(self.sums, (shares / shares.sum()).tolist(), strict=True))

    def runner_up(self, label: str) -> str:
        """The likeliest label besides `label`."""
        return max((other for other in self.sums if other != label), key=lambda other: self.sums[other])


Scorer = Callable[[Sequence[Record]], Sequence[LabelScores]]
"""Records -> the scores of each, in their order."""
