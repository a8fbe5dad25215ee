"""Records to pairs of a source and a target, tokenised for an encoder-decoder."""

import hashlib
import json
from collections.abc import Sequence
from itertools import chain

import numpy as np

from mentallama_jax.config import Style
from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.imhi.pair_texts import WHOLE, encode_sources, target_text
from mentallama_jax.imhi.records import Record
from mentallama_jax.training.data.classified import TextTokenizer
from mentallama_jax.training.data.tokens import TokenStore


def pair_store(
    records: Sequence[Record], style: Style, tokenizer: TextTokenizer, max_length: int, target_length: int
) -> TokenStore:
    """Tokenise records as pairs: the question about the post, and the gold answer.

    Args:
        records: with labels.
        style: plain or completion.
        tokenizer: of the model.
        max_length: most tokens of a source; a longer post loses its end.
        target_length: most tokens of a target, none of which is ever cut.

    Raises:
        UserError: no records; one without a label; a question that is too long even with an empty post, or an answer
            that is too long.
    """
    if not records:
        raise UserError("no examples to tokenise: the data paths and the choice of data sets leave no row")
    targets = tokenizer.encode([target_text(record, style) for record in records], WHOLE)
    for record, target in zip(records, targets, strict=True):
        if len(target) > target_length:
            raise UserError(
                f"{shown(record.id)}: its answer has {len(target)} tokens and objective.target_length allows "
                f"{target_length}; raise it, or leave the row out"
            )
    sources = encode_sources(records, style, tokenizer, max_length)
    counts = np.array([(len(source.tokens), len(target)) for source, target in zip(sources, targets, strict=True)])
    offsets = np.concatenate([[0], np.cumsum(counts.sum(axis=1))]).astype(np.int64)
    pairs = zip((source.tokens for source in sources), targets, strict=True)
    tokens = np.fromiter(chain.from_iterable(chain.from_iterable(pairs)), np.int32, int(offsets[-1]))
    is_target = np.repeat(np.tile(np.array([False, True]), len(records)), counts.reshape(-1))
    ids = tuple(record.id for record in records)
    sides = (max_length, target_length)
    digest = hashlib.sha256(json.dumps([tokenizer.fingerprint, sides, ids]).encode())
    for values in (tokens, offsets, is_target):
        digest.update(values.data)
    truncated = np.array([source.truncated for source in sources], np.int32)
    return TokenStore(digest.hexdigest(), ids, tokens, offsets, is_target, truncated, sides=sides)
