"""Pairs of answers as tokens: the prompt with the chosen answer, and behind it the prompt with the rejected one."""

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from mentallama_jax.config import Style
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.data_files.preference_pairs import AnswerPair
from mentallama_jax.imhi.data_files.readers import split_query
from mentallama_jax.imhi.prompts import encode_question, encode_reply
from mentallama_jax.training.data.tokens import FingerprintedTokenizer, TokenStore


def preference_store(
    pairs: Sequence[AnswerPair], style: Style, tokenizer: FingerprintedTokenizer, max_length: int
) -> tuple[TokenStore, int]:
    """Tokenise pairs; prompt and answer are tokenised apart, as everywhere.

    A pair fills at most a row. The post of a prompt in the benchmark's wording loses its end to fit; a pair with
    another prompt that is too long is left out.

    Returns:
        The store, and how many pairs were left out.

    Raises:
        UserError: none fits.
    """
    tokens: list[int] = []
    targets: list[bool] = []
    offsets, middles, truncated, ids = [0], [], [], []
    for pair in pairs:
        answers = [encode_reply(pair.prompt, text, style, tokenizer) for text in (pair.chosen, pair.rejected)]
        found = _prompt(pair.prompt, style, tokenizer, (max_length - sum(map(len, answers))) // 2)
        if found is None:
            continue
        prompt, cut = found
        for answer in answers:
            tokens += [*prompt, *answer]
            targets += [False] * len(prompt) + [True] * len(answer)
        middles.append(len(prompt) + len(answers[0]))
        offsets.append(len(tokens))
        truncated.append(cut)
        ids.append(pair.id)
    if not ids:
        raise UserError(
            f"data.max_length {max_length}: a row holds both answers of a pair, each behind the prompt, and no pair "
            "fits; raise it"
        )
    digest = hashlib.sha256(json.dumps([style, max_length, tokenizer.fingerprint, ids]).encode())
    arrays = np.array(tokens, np.int32), np.array(offsets, np.int64), np.array(targets, np.bool_)
    middles_E = np.array(middles, np.int64)
    for values in (*arrays, middles_E):
        digest.update(values.data)
    store = TokenStore(digest.hexdigest(), tuple(ids), *arrays, np.array(truncated, np.int32), middles=middles_E)
    return store, len(pairs) - len(ids)


def _prompt(text: str, style: Style, tokenizer: FingerprintedTokenizer, room: int) -> tuple[list[int], int] | None:
    """The tokens of a prompt in at most `room`, and how many its post lost; None where it cannot be cut so far."""
    whole = encode_question(text, style, tokenizer)
    if len(whole) <= room:
        return whole, 0
    try:
        post, question = split_query(text)
    except UserError:
        return None
    start = text.index(post)
    before, behind = text[:start], text[start + len(post) :]
    assert question in behind
    fits, too_long, best = -1, len(post), None
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        tokens = encode_question(before + post[:middle] + behind, style, tokenizer)
        if len(tokens) <= room:
            fits, best = middle, tokens
        else:
            too_long = middle
    return None if best is None else (best, len(whole) - len(best))
