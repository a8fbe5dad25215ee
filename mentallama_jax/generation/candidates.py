"""How likely a model finds each of a closed set of answers: no sampling, and nothing to parse.

Shape suffixes: B rows, P prompt slots, C candidates, U tokens of a candidate, S cache slots, D hidden, V vocabulary.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mentallama_jax.generation.decoder import UnrolledLlama, extend, logits, prefill
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.parallel.rules import constrain


@partial(jax.jit, static_argnames=("config", "cache_dtype"))
def score_candidates(
    model: UnrolledLlama,
    tokens_BP: jax.Array,
    lengths_B: jax.Array,
    candidates_BCU: jax.Array,
    candidate_lengths_BC: jax.Array,
    *,
    config: LlamaConfig,
    cache_dtype: Any = None,
) -> jax.Array:
    """Log-probability (nats, fp32) of each candidate as the continuation of its row's prompt; [B, C].

    The prompt is computed once. The candidates then go through the decoder side by side as one row of tokens, each
    token seeing the prompt and the earlier tokens of its own candidate.

    Args:
        model: the parameters.
        tokens_BP: int32 prompts, padded on the left.
        lengths_B: int32 real tokens of each prompt.
        candidates_BCU: int32 candidates, padded on the right.
        candidate_lengths_BC: int32 real tokens of each candidate; one with none scores 0.
        config: of the model.
        cache_dtype: int8, or None for that of the activations.
    """
    P = tokens_BP.shape[1]
    B, C, U = candidates_BCU.shape
    last_BD, cache = prefill(model, config, tokens_BP, lengths_B, P + C * U, cache_dtype)

    prompt_BP = jnp.arange(P) >= P - lengths_B[:, None]
    candidate, place = jnp.divmod(jnp.arange(C * U), U)
    own = (candidate[:, None] == candidate) & (place[:, None] >= place)
    visible_BTS = jnp.concatenate(
        [
            jnp.broadcast_to(prompt_BP[:, None], (B, C * U, P)),
            jnp.broadcast_to(own, (B, C * U, C * U)),
        ],
        axis=-1,
    )
    positions_BT = lengths_B[:, None] + place
    tokens_BT = candidates_BCU.reshape(B, C * U)
    hidden_BTD, _ = extend(model, config, cache, tokens_BT, positions_BT, P, visible_BTS)

    # The hidden state before each token predicts it: the prompt's last one, then the candidate's own.
    D = last_BD.shape[-1]
    hidden_BCUD = hidden_BTD.reshape(B, C, U, D)
    first_BC1D = jnp.broadcast_to(last_BD[:, None, None], (B, C, 1, D))
    before_CBUD = jnp.concatenate([first_BC1D, hidden_BCUD[:, :, :-1]], axis=2).swapaxes(0, 1)

    def score(inputs: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        before_BUD, candidate_BU, length_B = inputs
        log_probabilities_BUV = jax.nn.log_softmax(logits(model, before_BUD.reshape(B * U, D))).reshape(B, U, -1)
        chosen_BU = jnp.take_along_axis(log_probabilities_BUV, candidate_BU[..., None], axis=-1)[..., 0]
        return jnp.sum(jnp.where(jnp.arange(U) < length_B[:, None], chosen_BU, 0), axis=1)

    # One candidate at a time: logits of all would be C times as large.
    scores_CB = jax.lax.map(score, (before_CBUD, candidates_BCU.swapaxes(0, 1), candidate_lengths_BC.T))
    return constrain(scores_CB.T, None, None)  # whole on every device: each host reads all scores


def pad_candidates(
    rows: Sequence[Sequence[Sequence[int]]], shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Each row's candidates as int32 [B, C, U], padded on the right, and their int32 lengths [B, C]."""
    candidates_BCU = np.zeros(shape, np.int32)
    lengths_BC = np.zeros(shape[:2], np.int32)
    for row, candidates in enumerate(rows):
        for column, tokens in enumerate(candidates):
            candidates_BCU[row, column, : len(tokens)] = tokens
            lengths_BC[row, column] = len(tokens)
    return candidates_BCU, lengths_BC
