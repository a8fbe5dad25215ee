"""The probabilities of labels, from the log-probabilities of an answer's first tokens and their alternatives.

An endpoint gives no log-probability of a text that it did not write, but the most likely alternatives of each token.
Along the answer, the token at which one label alone remains possible decides; what stands there instead, times the
probability of the tokens before, is the probability of the other labels. A label that does not stand among the
alternatives gets the most that it can have. Where that is more than a thousandth of all, where alternatives leave two
labels possible, or where the answer does not begin with a label, there is no result.
"""

import math
from collections.abc import Mapping, Sequence

from mentallama_jax.baselines.endpoints.kept_answers import TokenChoice
from mentallama_jax.imhi.predictions import LabelLogProbabilities
from mentallama_jax.imhi.tasks import Task

UNKNOWN_SHARE = 1e-3
"""The most that may be unknown, as a share of the probability of all labels."""
_LEAST = 1e-12


def label_log_probabilities(
    tokens: Sequence[TokenChoice], task: Task, stated: str | None
) -> LabelLogProbabilities | None:
    """The log-probability of each label of a task, in the form of a prediction; None where it is not known.

    Args:
        tokens: of the answer, the first ones.
        task: whose labels are looked for.
        stated: the label that the whole answer states, by the reader of labels. It must be the one that decides here.
    """
    if stated is None:
        return None
    wordings = _wordings(task)
    mass = dict.fromkeys(task.labels, 0.0)
    before, reached, unknown = "", 0.0, 0.0  # text so far, its log-probability, what nobody knows
    for text, log, alternatives in tokens:
        others = {other: value for other, value in alternatives.items() if other != text}
        for other, value in others.items():
            labels = _possible(before + other, wordings)
            if len(labels) == 1:
                mass[labels[0]] += math.exp(reached + value)
            elif labels and _goes_on(before, other):
                unknown += math.exp(reached + value)
        if others:
            unknown += math.exp(reached + min(others.values()))
        before, reached = before + text, reached + log
        labels = _possible(before, wordings)
        if len(labels) == 1:
            return _result(mass, labels[0], math.exp(reached), unknown) if labels[0] == stated else None
        if not labels or not alternatives:
            return None
    return None


def _result(mass: Mapping[str, float], label: str, reached: float, unknown: float) -> LabelLogProbabilities | None:
    found = dict(mass)
    found[label] += reached
    if unknown > UNKNOWN_SHARE * sum(found.values()):
        return None
    logs = {name: math.log(max(share, unknown, _LEAST)) for name, share in found.items()}
    return {name: {"sum": value, "mean": value} for name, value in logs.items()}


def _wordings(task: Task) -> dict[str, tuple[str, ...]]:
    return {label: (task.sentences[label].casefold(), task.completion_words[label].casefold()) for label in task.labels}


def _possible(text: str, wordings: Mapping[str, Sequence[str]]) -> list[str]:
    """The labels with a wording that a text begins, or that begins a text."""
    begun = text.lstrip().casefold()
    return [
        label
        for label, forms in wordings.items()
        if any(form.startswith(begun) or (begun.startswith(form) and not begun[len(form)].isalnum()) for form in forms)
    ]


def _goes_on(before: str, other: str) -> bool:
    """Whether an alternative brings an answer further; white space before it begins does not."""
    return bool((before + other).strip())
