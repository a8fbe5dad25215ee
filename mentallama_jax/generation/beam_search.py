"""Targets of an encoder-decoder: beam search by the scoring rule of Hugging Face transformers, greedy, and sampling.

The rule (transformers 5, `_beam_search`): log-softmax in fp32, then the rules on targets, then the sum so far is added.
Of max(2, 1 + end tokens) * J candidates, those among the first J that end a target are finished with the score
sum / (tokens after the start)^length_penalty; the J best of the others go on.

Shape suffixes: B sources, S source tokens, J beams, C candidates kept, R = B * J, T places of a target, V vocabulary.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from mentallama_jax.errors import UserError
from mentallama_jax.generation.key_value_cache import KeyValueCache
from mentallama_jax.generation.sampling import Sampling, next_tokens
from mentallama_jax.generation.sequence_decoder import ReadSource, SequenceDecoder, of_beams
from mentallama_jax.generation.target_rules import TargetRules
from mentallama_jax.models.module import Params

_NEVER = -1e9  # of what must not win; transformers' number, as its sums round like this


@dataclass(frozen=True, slots=True)
class BeamSearch:
    """How beams are compared.

    Attributes:
        beams: hypotheses of each source.
        length_penalty: exponent of the length that a score is divided by.
        early_stopping: True ends with `beams` finished targets; False where the best running beam, at its present
            length, cannot win; "never" where it cannot win at any length.
    """

    beams: int
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False

    def __post_init__(self) -> None:
        if self.beams < 1:
            raise UserError(f"beams {self.beams}: give a number from 1")
        if self.early_stopping not in (True, False, "never"):
            raise UserError(f"early_stopping {self.early_stopping!r}: give true, false or never")


class Targets(NamedTuple):
    """What was written.

    Attributes:
        tokens_BJT: int32, the start token first, the end token included; padding behind it. The best beam comes first.
        lengths_BJ: int32 tokens of each.
        scores_BJ: fp32, sum of log-probabilities over length^penalty; below -1e8 where a beam never ended. Without
            beams: the sum alone.
    """

    tokens_BJT: jax.Array
    lengths_BJ: jax.Array
    scores_BJ: jax.Array


class _Beams(NamedTuple):
    length: jax.Array
    running: jax.Array  # [B, J, T]
    running_scores_BJ: jax.Array
    cache: KeyValueCache
    finished: jax.Array  # [B, J, T]
    finished_scores_BJ: jax.Array
    finished_lengths_BJ: jax.Array
    is_finished_BJ: jax.Array
    may_improve_B: jax.Array
    goes_on: jax.Array


@partial(jax.jit, static_argnames=("config", "search", "rules", "dtype"))
def search_beams(
    params: Params,
    tokens_BS: jax.Array,
    lengths_B: jax.Array,
    *,
    config: Any,
    search: BeamSearch,
    rules: TargetRules,
    dtype: Any = jnp.float32,
) -> Targets:
    """Write targets by beam search.

    Args:
        params: of the model.
        tokens_BS: int32 sources, padded on the right.
        lengths_B: int32 real tokens of each, from 1.
        config: of the model, with `start_id` and `pad_id`.
        search: how beams are compared.
        rules: on targets.
        dtype: of the computation.
    """
    B, J, T = tokens_BS.shape[0], search.beams, rules.max_length
    C = max(2, 1 + len(rules.end_ids)) * J
    decoder = SequenceDecoder.of(config, params, dtype)
    source = decoder.read(tokens_BS, lengths_B)
    ends = jnp.asarray(rules.end_ids, jnp.int32)

    def step(beams: _Beams) -> _Beams:
        length = beams.length
        last_BJ = jax.lax.dynamic_index_in_dim(beams.running, length - 1, axis=2, keepdims=False)
        logits_RV, cache = decoder.extend(source, beams.cache, last_BJ, length - 1)
        logs_RV = rules(jax.nn.log_softmax(logits_RV), beams.running.reshape(B * J, T), length)
        V = logs_RV.shape[1]
        sums_BJV = logs_RV.reshape(B, J, V) + beams.running_scores_BJ[:, :, None]
        sums_BC, places_BC = jax.lax.top_k(sums_BJV.reshape(B, J * V), C)
        from_BC, tokens_BC = places_BC // V, (places_BC % V).astype(jnp.int32)
        candidates_BCT = _put(_picked(beams.running, from_BC), tokens_BC, length)
        ends_BC = jnp.isin(tokens_BC, ends) | (length + 1 >= T)

        going_BC = sums_BC + ends_BC * _NEVER
        scores_BJ, chosen_BJ = jax.lax.top_k(going_BC, J)
        running = _picked(candidates_BCT, chosen_BJ)

        ended_BC = ends_BC & (jnp.arange(C) < J)
        full_B = jnp.all(beams.is_finished_BJ, axis=1) & (search.early_stopping is True)
        closed_BC = sums_BC / _power(length, search)
        closed_BC += (full_B * _NEVER)[:, None] + (~beams.may_improve_B * _NEVER)[:, None] + ~ended_BC * _NEVER
        merged_scores = jnp.concatenate([beams.finished_scores_BJ, closed_BC], axis=1)
        finished_scores_BJ, kept_BJ = jax.lax.top_k(merged_scores, J)

        def merged(old: jax.Array, new: jax.Array) -> jax.Array:
            return _picked(jnp.concatenate([old, new], axis=1), kept_BJ)

        is_finished_BJ = merged(beams.is_finished_BJ, ended_BC)
        by_max = search.early_stopping == "never" and search.length_penalty > 0
        best_B = scores_BJ[:, 0] / _power(T - 1 if by_max else length, search)
        worst_BJ = jnp.where(is_finished_BJ, jnp.min(finished_scores_BJ, axis=1, keepdims=True), _NEVER)
        may_improve_B = beams.may_improve_B & jnp.any(best_B[:, None] > worst_BJ, axis=1)
        full = jnp.all(is_finished_BJ) & (search.early_stopping is True)
        return _Beams(
            length + 1,
            running,
            scores_BJ,
            of_beams(cache, _picked(from_BC, chosen_BJ)),
            merged(beams.finished, candidates_BCT),
            finished_scores_BJ,
            merged(beams.finished_lengths_BJ, jnp.full((B, C), length + 1)),
            is_finished_BJ,
            may_improve_B,
            jnp.any(may_improve_B) & ~full & ~jnp.all(ends_BC),
        )

    targets = jnp.full((B, J, T), config.pad_id, jnp.int32).at[:, :, 0].set(config.start_id)
    lowest = jnp.full((B, J), _NEVER, jnp.float32)
    first = _Beams(
        jnp.int32(1),
        targets,
        lowest.at[:, 0].set(0),  # all beams are alike, so the candidates come from the first alone
        decoder.empty_cache(source, J, T),
        targets,
        lowest,
        jnp.ones((B, J), jnp.int32),
        jnp.zeros((B, J), bool),
        jnp.ones(B, bool),
        jnp.bool_(True),
    )
    last = jax.lax.while_loop(lambda beams: beams.goes_on, step, first)
    return Targets(last.finished, last.finished_lengths_BJ, last.finished_scores_BJ)


def _power(tokens: jax.Array | int, search: BeamSearch) -> jax.Array:
    return jnp.asarray(tokens, jnp.float32) ** search.length_penalty


def _picked(x_BC: jax.Array, chosen_BJ: jax.Array) -> jax.Array:
    """Take the entries at these places of the second axis, for each source."""
    return jnp.take_along_axis(x_BC, chosen_BJ.reshape(*chosen_BJ.shape, *(1,) * (x_BC.ndim - 2)), axis=1)


def _put(targets_BCT: jax.Array, tokens_BC: jax.Array, place: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(targets_BCT, tokens_BC[:, :, None], place, axis=2)


class _Writing(NamedTuple):
    length: jax.Array
    targets_BT: jax.Array
    cache: KeyValueCache
    lengths_B: jax.Array
    sums_B: jax.Array
    ended_B: jax.Array


@partial(jax.jit, static_argnames=("config", "sampling", "rules", "dtype"))
def write_targets(
    params: Params,
    tokens_BS: jax.Array,
    lengths_B: jax.Array,
    keys_B: jax.Array,
    *,
    config: Any,
    sampling: Sampling,
    rules: TargetRules,
    dtype: Any = jnp.float32,
) -> Targets:
    """Write one target for each source, token by token, greedily or at random.

    Args:
        params: of the model.
        tokens_BS: int32 sources, padded on the right.
        lengths_B: int32 real tokens of each, from 1.
        keys_B: a random key for each, see `sampling.row_keys`.
        config: of the model, with `start_id` and `pad_id`.
        sampling: how tokens are chosen.
        rules: on targets; they apply before temperature and filters.
        dtype: of the computation.
    """
    B, T = tokens_BS.shape[0], rules.max_length
    decoder = SequenceDecoder.of(config, params, dtype)
    source: ReadSource = decoder.read(tokens_BS, lengths_B)
    ends = jnp.asarray(rules.end_ids, jnp.int32)

    def step(writing: _Writing) -> _Writing:
        length = writing.length
        last_B1 = jax.lax.dynamic_slice_in_dim(writing.targets_BT, length - 1, 1, axis=1)
        logits_BV, cache = decoder.extend(source, writing.cache, last_B1, length - 1)
        token_B = next_tokens(rules(logits_BV, writing.targets_BT, length), keys_B, length - 1, sampling)
        log_B = jnp.take_along_axis(jax.nn.log_softmax(logits_BV), token_B[:, None], axis=1)[:, 0]
        token_B = jnp.where(writing.ended_B, config.pad_id, token_B)
        return _Writing(
            length + 1,
            jax.lax.dynamic_update_slice_in_dim(writing.targets_BT, token_B[:, None], length, axis=1),
            cache,
            writing.lengths_B + ~writing.ended_B,
            writing.sums_B + jnp.where(writing.ended_B, 0, log_B),
            writing.ended_B | jnp.isin(token_B, ends),
        )

    first = _Writing(
        jnp.int32(1),
        jnp.full((B, T), config.pad_id, jnp.int32).at[:, 0].set(config.start_id),
        decoder.empty_cache(source, 1, T),
        jnp.ones(B, jnp.int32),
        jnp.zeros(B, jnp.float32),
        jnp.zeros(B, bool),
    )
    last = jax.lax.while_loop(lambda w: (w.length < T) & ~jnp.all(w.ended_B), step, first)
    return Targets(last.targets_BT[:, None], last.lengths_B[:, None], last.sums_B[:, None])
