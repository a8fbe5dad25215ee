"""Records to texts with a class each, tokenised for an encoder."""

import hashlib
import json
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.class_inputs import ClassInput, record_text
from mentallama_jax.imhi.learnt_classes import LearntClasses
from mentallama_jax.imhi.records import Record
from mentallama_jax.training.data.tokens import TokenStore

_WHOLE = 2**30


class TextTokenizer(Protocol):
    """What reading texts asks of a tokenizer."""

    @property
    def fingerprint(self) -> str:
        """Digest of all that decides ids."""

    @property
    def vocab_size(self) -> int:
        """One above the largest id."""

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Return the ids of each text, special tokens around it, at most `max_length` of them."""


def text_store(texts: Sequence[str], ids: Sequence[str], tokenizer: TextTokenizer, max_length: int) -> TokenStore:
    """Tokenise texts without classes; a longer one loses its end.

    Raises:
        ValueError: `max_length` has no room for a word.
    """
    cut = tokenizer.encode(texts, max_length)
    long = [place for place, tokens in enumerate(cut) if len(tokens) == max_length]
    whole = tokenizer.encode([texts[place] for place in long], _WHOLE)
    truncated = np.zeros(len(cut), np.int32)
    truncated[long] = [len(tokens) - max_length for tokens in whole]
    lengths = np.array([len(tokens) for tokens in cut], np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = np.fromiter((token for text in cut for token in text), np.int32, int(offsets[-1]))
    targets = np.zeros(len(tokens), np.bool_)
    targets[offsets[:-1]] = True
    digest = hashlib.sha256(json.dumps([tokenizer.fingerprint, max_length, list(ids)]).encode())
    for values in (tokens, offsets):
        digest.update(values.data)
    return TokenStore(digest.hexdigest(), tuple(ids), tokens, offsets, targets, truncated, np.zeros(len(cut), np.int32))


def class_store(
    records: Sequence[Record], classes: LearntClasses, what: ClassInput, tokenizer: TextTokenizer, max_length: int
) -> tuple[TokenStore, int]:
    """Tokenise records with their classes.

    Args:
        records: with labels, of the data sets of `classes`.
        classes: what is learnt.
        what: the text of a record to read; a record without one is left out.
        tokenizer: of the encoder.
        max_length: most tokens of a text; a longer one loses its end.

    Returns:
        The store, and how many records were left out.

    Raises:
        UserError: no record has such a text, or `max_length` has no room for a word.
    """
    texts = {
        place: text for place, record in enumerate(records) if (text := record_text(record, what, ask=classes.asks))
    }
    if not texts:
        raise UserError(f"objective.input {what}: none of the {len(records)} rows has one; choose another input")
    kept = [records[place] for place in texts]
    try:
        store = text_store(list(texts.values()), [record.id for record in kept], tokenizer, max_length)
    except ValueError as error:
        raise UserError(f"data.max_length: {error}; raise it") from None
    assert store.labels is not None
    store.labels[:] = [classes.number(record) for record in kept]
    return store, len(records) - len(kept)
