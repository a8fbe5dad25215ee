"""Whether an analysis points to danger for the person who wrote the post, so that help is shown with it.

A miss is worse than a false alarm: a label of high risk counts although another one is likelier.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mentallama_jax.imhi.tasks import Task

LIKELY_ENOUGH = 0.25
"""The labels of high risk count where they have at least this probability together, whatever label is likeliest."""


@dataclass(frozen=True, slots=True)
class Risk:
    """Signs of danger.

    Attributes:
        because: `label` where a label of high risk is likely enough, `words` where the post's own words say so.
    """

    because: tuple[str, ...] = ()

    @property
    def high(self) -> bool:
        """Whether there is any sign."""
        return bool(self.because)


def signs_of_risk(task: Task, label: str, probabilities: Mapping[str, float], *, by_words: bool = False) -> Risk:
    """The signs of one analysis.

    Args:
        task: that was asked about; it says which labels are of high risk.
        label: the likeliest one.
        probabilities: label -> probability.
        by_words: whether the words of the post point to danger.
    """
    together = sum(probabilities.get(name, 0.0) for name in task.high_risk)
    by_label = label in task.high_risk or together >= LIKELY_ENOUGH
    return Risk((*(("label",) if by_label else ()), *(("words",) if by_words else ())))
