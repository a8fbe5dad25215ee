"""Which pairs of labels to keep, so that preference tuning learns when to say a label and not to say it more often.

Answers with a wrong label seldom err evenly: where a model misses `yes` more often than `no`, pairs of its faults
prefer `yes` to `no` most of the time, and tuning on them moves all answers towards `yes`.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linprog


def balanced(preferences: Sequence[tuple[str, str]]) -> list[bool]:
    """Whether each preference is kept: as many as there can be with each label preferred as often as it is rejected.

    That is a circulation of greatest size in the graph whose edges lead from the preferred to the rejected label. Its
    linear programme has whole numbers at its corners. Of equal preferences the first ones are kept.

    Args:
        preferences: (label preferred, label rejected), which differ.
    """
    counts = Counter(preferences)
    edges = sorted(counts)
    if not edges:
        return []
    labels = sorted({label for edge in edges for label in edge})
    balance_LE = np.zeros((len(labels), len(edges)))
    for column, (preferred, rejected) in enumerate(edges):
        balance_LE[labels.index(preferred), column] += 1
        balance_LE[labels.index(rejected), column] -= 1
    bounds = [(0, counts[edge]) for edge in edges]
    solved = linprog(
        -np.ones(len(edges)), A_eq=balance_LE, b_eq=np.zeros(len(labels)), bounds=bounds, method="highs-ds"
    )
    if solved.x is None:
        raise RuntimeError(f"the balance of {len(preferences)} preferences was not solved: {solved.message}")
    left = {edge: round(size) for edge, size in zip(edges, solved.x, strict=True)}
    kept = []
    for edge in preferences:
        kept.append(left[edge] > 0)
        left[edge] -= 1
    return kept
