"""From a batch of prompts to a batch of answers in one compiled program."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mentallama_jax.generation.constrained import allowed_logits, next_nodes
from mentallama_jax.generation.decoder import UnrolledLlama, extend, logits, prefill
from mentallama_jax.generation.key_value_cache import KeyValueCache
from mentallama_jax.generation.label_trie import Constraint
from mentallama_jax.generation.sampling import Sampling, next_tokens
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.parallel.rules import constrain


class Generated(NamedTuple):
    """Answers of a batch.

    Attributes:
        tokens_BT: int32 [B, max_new_tokens]; the end token included where there is one, 0 after it.
        log_probabilities_BT: fp32 [B, max_new_tokens], nats, of each token under the model itself, before temperature
            and filters; 0 after the last token.
        counts_B: int32, how many of them are real.
        ended_B: whether the row reached an end token.
    """

    tokens_BT: jax.Array
    log_probabilities_BT: jax.Array
    counts_B: jax.Array
    ended_B: jax.Array


class _Loop(NamedTuple):
    step: jax.Array
    last_B: jax.Array
    cache: KeyValueCache
    generated: Generated
    nodes_B: jax.Array | None
    """Where each row stands in the trees of a constraint; None without one."""


@partial(jax.jit, static_argnames=("config", "sampling", "end_ids", "max_new_tokens"))
def generate(
    model: UnrolledLlama,
    tokens_BP: jax.Array,
    lengths_B: jax.Array,
    keys_B: jax.Array,
    constraint: Constraint | None = None,
    nodes_B: jax.Array | None = None,
    *,
    config: LlamaConfig,
    sampling: Sampling,
    end_ids: tuple[int, ...],
    max_new_tokens: int,
) -> Generated:
    """Answer prompts; stops early once every row has ended.

    Args:
        model: the parameters.
        tokens_BP: int32 prompts, padded on the left.
        lengths_B: int32 real tokens of each row; 0 for a row that only fills up the batch.
        keys_B: a random key for each row, see `sampling.row_keys`.
        constraint: trees of the tokens that answers may begin with; None where all are free.
        nodes_B: with a constraint: int32, the root of each row's tree, or -1 for a row that is free.
        config: of the model.
        sampling: how tokens are chosen.
        end_ids: tokens that end an answer.
        max_new_tokens: longest answer, end token included.
    """
    B, P = tokens_BP.shape
    slots = P + max_new_tokens
    padding_B = P - lengths_B
    ends = jnp.asarray(end_ids, jnp.int32)

    def choose(
        hidden_BD: jax.Array, step: jax.Array | int, generated: Generated, nodes_B: jax.Array | None
    ) -> tuple[jax.Array, Generated, jax.Array | None]:
        logits_BV = logits(model, hidden_BD)
        if constraint is None or nodes_B is None:
            token_B = next_tokens(logits_BV, keys_B, step, sampling)
        else:
            token_B = next_tokens(allowed_logits(logits_BV, constraint, nodes_B), keys_B, step, sampling)
            nodes_B = next_nodes(constraint, nodes_B, token_B)
        chosen_B = jnp.take_along_axis(logits_BV, token_B[:, None], axis=1)[:, 0]
        log_probability_B = chosen_B - jax.nn.logsumexp(logits_BV, axis=1)
        running_B = ~generated.ended_B

        def note(row_BT: jax.Array, value_B: jax.Array) -> jax.Array:
            return jax.lax.dynamic_update_slice(row_BT, jnp.where(running_B, value_B, 0)[:, None], (0, step))

        noted = Generated(
            note(generated.tokens_BT, token_B),
            note(generated.log_probabilities_BT, log_probability_B),
            generated.counts_B + running_B,
            generated.ended_B | jnp.any(token_B[:, None] == ends, axis=1),
        )
        return token_B, noted, nodes_B

    def advance(loop: _Loop) -> _Loop:
        slot = P + loop.step - 1
        slots_S = jnp.arange(slots)
        visible_BTS = ((slots_S >= padding_B[:, None]) & (slots_S <= slot))[:, None]
        positions_BT = (slot - padding_B)[:, None]
        hidden_BTD, cache = extend(model, config, loop.cache, loop.last_B[:, None], positions_BT, slot, visible_BTS)
        token_B, generated, nodes_B = choose(hidden_BTD[:, 0], loop.step, loop.generated, loop.nodes_B)
        return _Loop(loop.step + 1, token_B, cache, generated, nodes_B)

    def unfinished(loop: _Loop) -> jax.Array:
        return (loop.step < max_new_tokens) & ~jnp.all(loop.generated.ended_B)

    hidden_BD, cache = prefill(model, config, tokens_BP, lengths_B, slots)
    nothing = Generated(
        jnp.zeros((B, max_new_tokens), jnp.int32),
        jnp.zeros((B, max_new_tokens), jnp.float32),
        jnp.zeros(B, jnp.int32),
        lengths_B == 0,
    )
    token_B, generated, nodes_B = choose(hidden_BD, 0, nothing, nodes_B)
    start = _Loop(jnp.int32(1), token_B, cache, generated, nodes_B)
    answers = jax.lax.while_loop(unfinished, advance, start).generated
    # Whole on every device: each host reads all answers.
    return Generated(*(constrain(x, *(None,) * x.ndim) for x in answers))
