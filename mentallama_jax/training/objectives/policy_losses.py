"""Losses of GRPO by the names and formulas of TRL 1.16, over log-probabilities of the tokens of sampled answers."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mentallama_jax.config import GrpoSection
from mentallama_jax.training.log_probabilities import of_segments, segment_sums


class TokenFigures(NamedTuple):
    """What the loss of a token is made of, [B, T] fp32 each; log-probabilities in nats.

    Attributes:
        now: log-probabilities under the weights that are trained.
        old: under those that sampled the answers.
        reference: under those that the run starts from.
        advantages: of the answer that the token belongs to.
        mask: 1 on tokens that are learnt from, else 0.
    """

    now: jax.Array
    old: jax.Array
    reference: jax.Array
    advantages: jax.Array
    mask: jax.Array


class TokenLosses(NamedTuple):
    """The loss of each token and what is logged of it, [B, T] fp32 each.

    Attributes:
        losses: to be weighed and summed.
        ratios: of new to old probability.
        divergences: from the reference; 0 where `beta` is 0.
        clipped: 1 where the ratio is outside of its bounds in the direction that the advantage wants.
    """

    losses: jax.Array
    ratios: jax.Array
    divergences: jax.Array
    clipped: jax.Array


def token_losses(figures: TokenFigures, members_BTS: jax.Array, section: GrpoSection) -> TokenLosses:
    """The clipped loss of each token.

    Args:
        figures: see `TokenFigures`.
        members_BTS: which answer each token belongs to, see `log_probabilities.members_of`.
        section: the keys of the objective.
    """
    logs_BT = figures.now - figures.old
    if section.importance_sampling_level == "sequence":
        counts_BS = jnp.maximum(segment_sums(figures.mask, members_BTS), 1)
        logs_BT = of_segments(segment_sums(logs_BT * figures.mask, members_BTS) / counts_BS, members_BTS)
    ratios_BT = jnp.exp(logs_BT)
    high = section.epsilon if section.epsilon_high is None else section.epsilon_high
    bounded_BT = jnp.clip(ratios_BT, 1 - section.epsilon, 1 + high)
    advantages_BT = figures.advantages
    losses_BT = -jnp.minimum(ratios_BT * advantages_BT, bounded_BT * advantages_BT)
    divergences_BT = jnp.zeros_like(losses_BT)
    if section.beta:
        gap_BT = figures.reference - figures.now
        divergences_BT = jnp.exp(gap_BT) - gap_BT - 1
        if section.use_bias_correction_kl:
            divergences_BT = divergences_BT * ratios_BT
        losses_BT = losses_BT + section.beta * divergences_BT
    too_low_BT = (ratios_BT < 1 - section.epsilon) & (advantages_BT < 0)
    too_high_BT = (ratios_BT > 1 + high) & (advantages_BT > 0)
    return TokenLosses(losses_BT, ratios_BT, divergences_BT, (too_low_BT | too_high_BT).astype(jnp.float32))


def answer_weights(loss_type: str, lengths: Sequence[int], longest: int) -> list[float]:
    """What each token of an answer weighs in a sum over all answers of an update that is divided by their tokens.

    Args:
        loss_type: see `GrpoSection`.
        lengths: tokens of each answer that are learnt from; 0 where it is left out.
        longest: tokens that an answer can have.
    """
    total, count = sum(lengths), len(lengths)
    if loss_type == "grpo":
        return [total / (max(length, 1) * count) for length in lengths]
    if loss_type == "dr_grpo":
        return [total / (count * longest)] * count
    return [1.0] * count
