"""Prompts of like length together, in few shapes, so that little is padding and little is compiled."""

from collections.abc import Iterator, Sequence

import numpy as np

_STEP = 512
PROMPT_SLOTS = (64, 128, 256, 384, 512, 768, 1024)
"""Prompt lengths that programs are compiled for; above them every multiple of 512."""


def prompt_slots(length: int) -> int:
    """The smallest compiled prompt length that `length` tokens fit into."""
    for slots in PROMPT_SLOTS:
        if length <= slots:
            return slots
    return -(-length // _STEP) * _STEP


def batches_by_length(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Indices of the rows of each batch, the longest first: what does not fit in memory shows at once."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def pad_left(rows: Sequence[Sequence[int]], batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of tokens as one array.

    Returns:
        int32 [batch_size, P] with each row at the right end, P from `prompt_slots`; int32 [batch_size]: real tokens
        of each row, 0 for the rows that only fill up the batch.
    """
    lengths_B = np.zeros(batch_size, np.int32)
    lengths_B[: len(rows)] = [len(row) for row in rows]
    P = prompt_slots(int(lengths_B.max()))
    tokens_BP = np.zeros((batch_size, P), np.int32)
    for target, row in zip(tokens_BP, rows, strict=False):
        target[P - len(row) :] = row
    return tokens_BP, lengths_B
