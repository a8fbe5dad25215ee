"""What a sample cannot show of macro F1: how classes vary of which all rows are right, or none, or hardly one is there.

Macro F1 gives a class of three posts the weight of one of three hundred. Where nothing varies among the rows of a class
the sample says that its F1 is certain, which it is not.
"""

import numpy as np

from mentallama_jax.evaluation.statistics.exact import effective_number
from mentallama_jax.evaluation.statistics.f1 import Tally, f1_by_class

FEW_POSTS_OF_A_CLASS = 2
"""A class in so few posts, or in fewer, says next to nothing of its F1."""


def macro_f1_unseen_variance(counts: Tally) -> float:
    """The variance to add to that of macro F1 of counts by post [G, C].

    A class of n posts that are all right has, for this purpose, a recall of (n + 1/2) / (n + 1), and one of which none
    is right 1/2 / (n + 1); its F1 may differ by a standard deviation of such a recall. Of a class of no
    post, one or two the standard deviation is 1/1, 1/2 or 1/3 of how far F1 may be from what it is here.
    """
    total = counts.total()
    occurs_C = total.predicted + total.support > 0
    f1_C = f1_by_class(total)
    variance = 0.0
    for place in np.flatnonzero(occurs_C):
        f1, support, predicted = float(f1_C[place]), total.support[place], total.predicted[place]
        posts = np.count_nonzero(counts.support[:, place])
        if posts <= FEW_POSTS_OF_A_CLASS:
            variance += (max(f1, 1 - f1) / (posts + 1)) ** 2
        elif f1 in (0.0, 1.0):
            number = effective_number(counts.support[:, place])
            error = support * np.sqrt((number + 0.5) * 0.5 / (number + 1) ** 3)
            hits = total.hits[place] + (-error if f1 else error)
            shifted = 2 * hits / (predicted + support + (hits - total.hits[place]))
            variance += float(shifted - f1) ** 2
    return float(variance / np.count_nonzero(occurs_C) ** 2)
