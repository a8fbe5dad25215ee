"""The n-grams that two texts share, of all orders by one sort of numbers."""

import numpy as np

_BITS = 10


def character_ngrams(output: str, reference: str, orders: int = 6) -> tuple[int, ...] | None:
    """Count character n-grams without white space: of `output`, of `reference` and shared, for each order up to 6.

    An n-gram of the highest order is one number with the first character in its highest bits, so that one sort puts
    equal n-grams of every order side by side. None where the texts have too many different characters for that.
    As in sacrebleu, the n-grams of an output count as none where the reference has none of the order.
    """
    texts = ["".join(text.split()) for text in (output, reference)]
    points = [np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32) for text in texts]
    known, codes = np.unique(np.concatenate(points), return_inverse=True)
    if len(known) >= 1 << _BITS or orders > 6:
        return None
    cut = len(points[0])
    keys = []
    for side, code in enumerate((codes[:cut], codes[cut:])):
        padded = np.concatenate([code.astype(np.int64) + 1, np.zeros(orders, dtype=np.int64)])
        key = np.zeros(len(code), dtype=np.int64)
        for place in range(orders):
            key = (key << _BITS) | padded[place : place + len(code)]
        keys.append((key << 1) | side)
    ordered = np.sort(np.concatenate(keys))
    counts: list[int] = []
    for order in range(1, orders + 1):
        ngram = ordered >> (1 + _BITS * (orders - order))
        whole = (ngram & ((1 << _BITS) - 1)) != 0
        ngram, of_reference = ngram[whole], ordered[whole] & 1
        if not len(ngram):
            counts += [0, 0, 0]
            continue
        starts = np.flatnonzero(np.concatenate([[True], ngram[1:] != ngram[:-1]]))
        wanted = np.add.reduceat(of_reference, starts)
        found = np.diff(np.append(starts, len(ngram))) - wanted
        total = int(wanted.sum())
        counts += [int(found.sum()) if total else 0, total, int(np.minimum(wanted, found).sum())]
    return tuple(counts)
