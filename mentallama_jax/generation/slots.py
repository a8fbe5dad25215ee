"""Rows that are decoded side by side, each with a length of its own, in one cache of keys and values.

A slot holds one answer in the making. What it has read and written lies in the cache by its position, so that a slot
knows nothing of its neighbours. A loop of steps writes the keys and values of all slots at one place of a small block
(`recent`), which is a single update for each layer; when the loop ends, each slot's part of the block is appended at
the slot's own length. The cache itself is not changed within the loop, so that nothing copies it. With drafts slots
advance unevenly: each then writes at a place of its own, over what the step before drafted in vain.

Shape suffixes: B slots, S places of the cache, R places of a block, T tokens of a step, V vocabulary, K key/value
heads, G query heads a key/value head, H head width, E end tokens, C tokens before, P parts of the mesh that slots are
shared among, M prompts of a pack.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mentallama_jax.generation.cache_moves import STEPS, copied, on_each_part
from mentallama_jax.generation.constrained import allowed_logits, next_nodes, unpacked
from mentallama_jax.generation.decoder import UnrolledLlama, embed_tokens, logits
from mentallama_jax.generation.drafts import CONTEXT, DraftTable, drafted
from mentallama_jax.generation.key_value_cache import (
    KeyValueCache,
    LayerCache,
    empty,
    joint_attention,
    rows_of,
    slots_of,
    write,
    write_each,
)
from mentallama_jax.generation.label_trie import FREE, Constraint
from mentallama_jax.generation.sampling import Sampling, SamplingRows, Uses, choose, penalised
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.rotary import rotary_tables
from mentallama_jax.parallel.rules import constrain

ALTERNATIVES = 5
"""The likeliest tokens whose log-probabilities are given where they are asked for."""


class Slots(NamedTuple):
    """What stays on the device.

    Attributes:
        cache: keys and values by position.
        logits_BV: fp32 scores of each slot's next token.
        seen_BV: bool, tokens that a slot's prompt or answer holds; None where no row asks for a penalty.
    """

    cache: KeyValueCache
    logits_BV: Any
    seen_BV: Any


class Rows(NamedTuple):
    """What the host says of each slot, as arrays of numpy; within a program they are jax's.

    Attributes:
        lengths_B: int32, places of the cache that are in use.
        counts_B: int32, tokens of the answer so far.
        limits_B: int32, tokens of the longest answer.
        running_B: bool, whether the slot's answer goes on.
        keys_B2: uint32, see `sampling.key_words`.
        ends_BE: int32 end tokens, -1 for none.
        nodes_B: int32, the node of the constraint, or -1.
        before_BC: int32, the last tokens of the prompt and the answer, -1 for none.
        sampling: see `SamplingRows`.
    """

    lengths_B: Any
    counts_B: Any
    limits_B: Any
    running_B: Any
    keys_B2: Any
    ends_BE: Any
    nodes_B: Any
    before_BC: Any
    sampling: SamplingRows


def idle_rows(slots: int, ends: int = 4) -> Rows:
    """Rows of slots that hold nothing."""
    return Rows(
        lengths_B=np.zeros(slots, np.int32),
        counts_B=np.zeros(slots, np.int32),
        limits_B=np.ones(slots, np.int32),
        running_B=np.zeros(slots, bool),
        keys_B2=np.zeros((slots, 2), np.uint32),
        ends_BE=np.full((slots, ends), -1, np.int32),
        nodes_B=np.full(slots, FREE, np.int32),
        before_BC=np.full((slots, CONTEXT), -1, np.int32),
        sampling=SamplingRows.of([Sampling()] * slots),
    )


class WrittenSteps(NamedTuple):
    """What a loop of steps wrote.

    Attributes:
        tokens_BR: int32; of a slot its first `taken_B`.
        log_probabilities_BR: fp32, nats, of each token under the model itself, before penalty, temperature, filters
            and constraint.
        taken_B: int32.
        steps_B: int32, in how many steps they were written.
        ended_B: bool, whether the last one is an end token.
        nodes_B: int32, where each slot stands in the constraint now.
        likeliest_BRA: int32, the `ALTERNATIVES` likeliest tokens; None where they are not asked for.
        likeliest_logs_BRA: fp32, their log-probabilities.
    """

    tokens_BR: jax.Array
    log_probabilities_BR: jax.Array
    taken_B: jax.Array
    steps_B: jax.Array
    ended_B: jax.Array
    nodes_B: jax.Array
    likeliest_BRA: jax.Array | None = None
    likeliest_logs_BRA: jax.Array | None = None


class Move(NamedTuple):
    """Places of a cache that are copied into a slot; int32, one for each part of the mesh.

    Attributes:
        slot_P: of the part's own slots.
        start_P: first place in the slot.
        source_P: first place in the source.
        count_P: how many; 0 for a part that copies nothing.
        prompt_P: of the part's pack, whose logits become the slot's.
    """

    slot_P: Any
    start_P: Any
    source_P: Any
    count_P: Any
    prompt_P: Any


class _Loop(NamedTuple):
    step: jax.Array
    recent: KeyValueCache
    logits_BV: jax.Array
    seen_BV: jax.Array | None
    running_B: jax.Array
    before_BC: jax.Array
    written: WrittenSteps


@partial(jax.jit, static_argnames=("config", "slots", "places", "dtype", "penalty"))
def empty_slots(*, config: LlamaConfig, slots: int, places: int, dtype: Any, penalty: bool) -> Slots:
    """Slots that hold nothing."""
    scores_BV = constrain(jnp.zeros((slots, config.vocab_size), jnp.float32), "batch", "vocabulary")
    seen_BV = jnp.zeros((slots, config.vocab_size), bool) if penalty else None
    return Slots(empty(config, slots, places, dtype), scores_BV, seen_BV)


@jax.jit
def rearranged(slots: Slots, sources_PQ: Any) -> Slots:
    """More slots or fewer, each with what one of the old ones holds.

    Args:
        slots: the old ones.
        sources_PQ: int32; for each new slot of each part of the mesh, the old one among those of the part.
    """
    sources_PQ = jnp.asarray(sources_PQ)
    P, Q = sources_PQ.shape

    def moved(x_BV: jax.Array) -> jax.Array:
        x_PQV = x_BV.reshape(P, -1, x_BV.shape[1])
        return jnp.take_along_axis(x_PQV, sources_PQ[..., None], axis=1).reshape(P * Q, -1)

    cache = on_each_part(rows_of, (slots.cache, sources_PQ.reshape(-1)))
    logits_BV = constrain(moved(slots.logits_BV), "batch", "vocabulary")
    return Slots(cache, logits_BV, None if slots.seen_BV is None else moved(slots.seen_BV))


@partial(
    jax.jit, static_argnames=("config", "uses", "alternatives", "drafts"), donate_argnames=("logits_BV", "seen_BV")
)
def decode(
    model: UnrolledLlama,
    cache: KeyValueCache,
    logits_BV: jax.Array,
    seen_BV: jax.Array | None,
    rows: Rows,
    constraint: Constraint | None,
    at_most: int,
    enough: int,
    *,
    config: LlamaConfig,
    uses: Uses,
    alternatives: bool,
    allowed_BW: Any = None,
    drafts: int = 0,
    table: DraftTable | None = None,
) -> tuple[KeyValueCache, jax.Array, jax.Array | None, WrittenSteps]:
    """Write tokens in all running slots until enough of them have ended, or for a number of steps.

    Args:
        model: the parameters.
        cache: see `Slots`, as for `logits_BV` and `seen_BV`, which are given up; it is only read.
        rows: what the host says of them.
        constraint: trees of the tokens that answers may begin with; None where all are free.
        at_most: tokens of a slot, not above `STEPS`; with drafts the loop stops where a slot has about as many.
        enough: the number of answers that end; the loop stops after the step in which it is reached.
        config: of the model.
        uses: what any row's sampling asks for.
        alternatives: whether the likeliest tokens are given too.
        allowed_BW: int32, the tokens that may be written, 32 bits a word; None where all may. Goes with one step.
        drafts: tokens that each step guesses and computes besides the chosen one; without `allowed_BW`.
        table: what they are guessed from.

    Returns:
        The block of keys and values, for `append`; the other arrays of the slots; and what was written.
    """
    rows = jax.tree.map(jnp.asarray, rows)
    B = logits_BV.shape[0]
    begun = jnp.sum(rows.running_B)

    def unfinished(loop: _Loop) -> jax.Array:
        most = jnp.max(loop.written.taken_B) if drafts else loop.step  # equal, without asking other devices
        goes_on = (most < at_most) & (most + drafts < STEPS) & jnp.any(loop.running_B)
        return goes_on & (begun - jnp.sum(loop.running_B) < enough)

    def advance(loop: _Loop) -> _Loop:
        offsets_B = loop.written.taken_B if drafts else jnp.full(B, loop.step)  # alike, while a slot runs
        loop, token_B, going_B = _choose(loop, rows, constraint, uses, allowed_BW)
        tokens = [token_B]
        before_BC = loop.before_BC
        if table is not None:
            for _ in range(drafts):
                tokens.append(drafted(table, before_BC))
                before_BC = jnp.concatenate([before_BC[:, 1:], tokens[-1][:, None]], axis=1)
        tokens_BT = jnp.stack(tokens, axis=1)
        hidden_BTD, recent = _step(model, config, cache, loop.recent, tokens_BT, rows.lengths_B, offsets_B)
        scores_BTV = logits(model, hidden_BTD.reshape(B * len(tokens), -1)).reshape(B, len(tokens), -1)
        scores_BTV = constrain(scores_BTV, "batch", None, "vocabulary")
        loop = loop._replace(step=loop.step + 1, recent=recent, logits_BV=scores_BTV[:, 0])
        for place, draft_B in enumerate(tokens[1:], start=1):
            wanted_B = jnp.where(going_B & (loop.written.taken_B < at_most), draft_B, -1)
            loop, _, going_B = _choose(loop, rows, constraint, uses, None, wanted_B)
            loop = loop._replace(logits_BV=jnp.where(going_B[:, None], scores_BTV[:, place], loop.logits_BV))
        return loop

    def noted(*shape: int, dtype: Any = jnp.int32) -> jax.Array:
        return jnp.zeros((B, STEPS, *shape), dtype)

    nothing = WrittenSteps(
        noted(),
        noted(dtype=jnp.float32),
        jnp.zeros(B, jnp.int32),
        jnp.zeros(B, jnp.int32),
        jnp.zeros(B, bool),
        jnp.asarray(rows.nodes_B),
        noted(ALTERNATIVES) if alternatives else None,
        noted(ALTERNATIVES, dtype=jnp.float32) if alternatives else None,
    )
    recent = empty(config, B, STEPS, cache[0].keys_BKHS.dtype)
    start = _Loop(jnp.int32(0), recent, logits_BV, seen_BV, rows.running_B, rows.before_BC, nothing)
    end = jax.lax.while_loop(unfinished, advance, start)
    written = jax.tree.map(lambda x: constrain(x, *(None,) * x.ndim), end.written)  # whole: each host reads all
    return end.recent, end.logits_BV, end.seen_BV, written


def _choose(
    loop: _Loop,
    rows: Rows,
    constraint: Constraint | None,
    uses: Uses,
    allowed_BW: Any,
    wanted_B: jax.Array | None = None,
) -> tuple[_Loop, jax.Array, jax.Array]:
    """Choose each slot's next token, and write it where the slot runs; with `wanted_B` only where it is that one.

    Returns:
        The loop, the tokens, and which slots have written theirs and still run.
    """
    written = loop.written
    counts_B = rows.counts_B + written.taken_B
    scores_BV = loop.logits_BV
    if loop.seen_BV is not None:
        scores_BV = penalised(scores_BV, loop.seen_BV, rows.sampling.penalty_B)
    if constraint is not None:
        scores_BV = allowed_logits(scores_BV, constraint, written.nodes_B)
    if allowed_BW is not None:
        scores_BV = jnp.where(unpacked(jnp.asarray(allowed_BW), scores_BV.shape[1]), scores_BV, -jnp.inf)
    keys_B = jax.random.wrap_key_data(jnp.asarray(rows.keys_B2), impl="threefry2x32")
    token_B = choose(scores_BV, keys_B, counts_B, rows.sampling, uses)
    writes_B = loop.running_B if wanted_B is None else loop.running_B & (token_B == wanted_B)
    total_B = jax.nn.logsumexp(loop.logits_BV, axis=1)
    log_B = jnp.take_along_axis(loop.logits_BV, token_B[:, None], axis=1)[:, 0] - total_B
    here_BR = (jnp.arange(STEPS) == written.taken_B[:, None]) & writes_B[:, None]

    def note(all_BR: jax.Array, now_B: jax.Array) -> jax.Array:
        return jnp.where(here_BR.reshape(*here_BR.shape, *(1,) * (all_BR.ndim - 2)), now_B[:, None], all_BR)

    ended_B = writes_B & jnp.any(token_B[:, None] == rows.ends_BE, axis=1)
    written = written._replace(
        tokens_BR=note(written.tokens_BR, token_B),
        log_probabilities_BR=note(written.log_probabilities_BR, log_B),
        taken_B=written.taken_B + writes_B,
        steps_B=written.steps_B + (writes_B if wanted_B is None else 0),
        ended_B=written.ended_B | ended_B,
    )
    if constraint is not None:
        nodes_B = next_nodes(constraint, written.nodes_B, token_B)
        written = written._replace(nodes_B=jnp.where(writes_B, nodes_B, written.nodes_B))
    if written.likeliest_BRA is not None and written.likeliest_logs_BRA is not None:
        best_BA, ids_BA = jax.lax.top_k(loop.logits_BV, ALTERNATIVES)
        written = written._replace(
            likeliest_BRA=note(written.likeliest_BRA, ids_BA),
            likeliest_logs_BRA=note(written.likeliest_logs_BRA, best_BA - total_B[:, None]),
        )
    seen_BV = loop.seen_BV
    if seen_BV is not None:
        seen_BV = seen_BV.at[jnp.arange(len(token_B)), token_B].max(writes_B)
    is_last_B = writes_B & (ended_B | (counts_B + 1 >= rows.limits_B))
    running_B = loop.running_B & ~is_last_B
    before_BC = jnp.concatenate([loop.before_BC[:, 1:], token_B[:, None]], axis=1)
    before_BC = jnp.where(writes_B[:, None], before_BC, loop.before_BC)
    loop = loop._replace(seen_BV=seen_BV, running_B=running_B, before_BC=before_BC, written=written)
    return loop, token_B, writes_B & running_B


def _step(
    model: UnrolledLlama,
    config: LlamaConfig,
    cache: KeyValueCache,
    recent: KeyValueCache,
    tokens_BT: jax.Array,
    lengths_B: jax.Array,
    offsets_B: jax.Array,
) -> tuple[jax.Array, KeyValueCache]:
    """A few tokens of each slot through the decoder: their hidden states [B, T, D], and the block with them in it.

    Of one token, `offsets_B` are alike; of several, each slot has its own.
    """
    T = tokens_BT.shape[1]
    places_BT = offsets_B[:, None] + jnp.arange(T)
    rotary = rotary_tables(lengths_B[:, None] + places_BT, config.head_dim, config.rope_theta, config.rope_scaling)
    before_B1S = jnp.arange(slots_of(cache)) < lengths_B[:, None, None]
    now_BTR = jnp.arange(STEPS) <= (places_BT if T > 1 else places_BT[:1])[:, :, None]
    x_BTD = embed_tokens(model, jnp.maximum(tokens_BT, 0))  # any token where nothing was guessed
    blocks = []
    for layer, own, block in zip(model.layers, cache, recent, strict=True):

        def attend(
            q_BTNH: jax.Array,
            k_BTKH: jax.Array,
            v_BTKH: jax.Array,
            own: LayerCache = own,
            block: LayerCache = block,
        ) -> jax.Array:
            put = write(block, k_BTKH, v_BTKH, offsets_B[0]) if T == 1 else write_each(block, k_BTKH, v_BTKH, offsets_B)
            blocks.append(put)
            return joint_attention(q_BTNH, (own, put), (before_B1S, now_BTR))

        x_BTD = constrain(layer(x_BTD, rotary, attend), "batch", None, None)
    return model.final_norm(x_BTD), tuple(blocks)


@partial(jax.jit, donate_argnames="slots")
def insert(
    slots: Slots, source: KeyValueCache, move: Move, logits_PMV: jax.Array | None, seen_PV: jax.Array | None
) -> Slots:
    """Copy what was read into slots, one for each part of the mesh at most.

    Args:
        slots: to copy into.
        source: one row for each part, or one for all of them.
        move: what goes where.
        logits_PMV: of the next tokens of the prompts of a pack; None where more of the prompt follows.
        seen_PV: bool, the tokens of the prompts, where `slots` holds them.
    """
    cache = on_each_part(_copy_to_slot, (slots.cache, source, jax.tree.map(jnp.asarray, move)))
    if logits_PMV is None:
        return slots._replace(cache=cache)
    P = len(move.count_P)

    def replaced(old_BV: jax.Array, new_PV: jax.Array) -> jax.Array:
        """By comparison, as an update of a dimension that is cut would gather it."""
        old_PQV = old_BV.reshape(P, -1, old_BV.shape[1])
        mine_PQ = (jnp.arange(old_PQV.shape[1]) == jnp.asarray(move.slot_P)[:, None]) & (jnp.asarray(move.count_P) > 0)[
            :, None
        ]
        return jnp.where(mine_PQ[..., None], new_PV[:, None], old_PQV).reshape(old_BV.shape)

    chosen_PM = jnp.arange(logits_PMV.shape[1]) == jnp.asarray(move.prompt_P)[:, None]
    new_PV = jnp.sum(jnp.where(chosen_PM[..., None], logits_PMV, 0), axis=1)
    logits_BV = constrain(replaced(slots.logits_BV, new_PV), "batch", "vocabulary")
    seen_BV = slots.seen_BV
    if seen_BV is not None and seen_PV is not None:
        seen_BV = replaced(seen_BV, seen_PV)
    return Slots(cache, logits_BV, seen_BV)


def _copy_to_slot(cache: KeyValueCache, source: KeyValueCache, move: Move) -> KeyValueCache:
    """The part of `insert` that one part of the mesh does with its own slots."""
    return copied(cache, source, move.slot_P[0], move.start_P[0], move.source_P[0], move.count_P[0])
