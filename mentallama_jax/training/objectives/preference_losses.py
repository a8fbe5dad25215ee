"""Losses of direct preference optimisation by the names and formulas of TRL 1.16, over log-probabilities of pairs."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import log_sigmoid, sigmoid

DISCOPOP_TEMPERATURE = 0.05


class PairFigures(NamedTuple):
    """Log-probabilities (nats, fp32, any one shape) of the answers of pairs, summed over their tokens.

    Attributes:
        chosen: under the model that is tuned.
        rejected: likewise.
        reference_chosen: under the model that tuning began with.
        reference_rejected: likewise.
        chosen_tokens: how many tokens the answer has, at least 1.
        rejected_tokens: likewise.
    """

    chosen: jax.Array
    rejected: jax.Array
    reference_chosen: jax.Array
    reference_rejected: jax.Array
    chosen_tokens: jax.Array
    rejected_tokens: jax.Array

    @property
    def chosen_gain(self) -> jax.Array:
        """The log-ratio of the chosen answer to the reference."""
        return self.chosen - self.reference_chosen

    @property
    def rejected_gain(self) -> jax.Array:
        """The log-ratio of the rejected answer to the reference."""
        return self.rejected - self.reference_rejected

    @property
    def margin(self) -> jax.Array:
        """How much more the chosen answer gained."""
        return self.chosen_gain - self.rejected_gain

    def per_token(self) -> "PairFigures":
        """The same divided by the tokens of each answer."""
        return PairFigures(
            self.chosen / self.chosen_tokens,
            self.rejected / self.rejected_tokens,
            self.reference_chosen / self.chosen_tokens,
            self.reference_rejected / self.rejected_tokens,
            self.chosen_tokens,
            self.rejected_tokens,
        )


PairLoss = Callable[[PairFigures, float, float], jax.Array]
"""(figures, beta, label smoothing) -> the loss of each pair."""


def _sigmoid(pairs: PairFigures, beta: float, smoothing: float) -> jax.Array:
    return -log_sigmoid(beta * pairs.margin)


def _hinge(pairs: PairFigures, beta: float, smoothing: float) -> jax.Array:
    return jax.nn.relu(1 - beta * pairs.margin)


def _ipo(pairs: PairFigures, beta: float, smoothing: float) -> jax.Array:
    return (pairs.per_token().margin - 1 / (2 * beta)) ** 2


def _exo_pair(pairs: PairFigures, beta: float, smoothing: float) -> jax.Array:
    logits = beta * pairs.margin
    chosen = sigmoid(logits) * (log_sigmoid(logits) - jnp.log1p(-smoothing))
    return chosen + sigmoid(-logits) * (log_sigmoid(-logits) - jnp.log(smoothing))


def _nca_pair(pairs: PairFigures, beta: float, smoothing: float) -> jax.Array:
    chosen, rejected = beta * pairs.chosen_gain, beta * pairs.rejected_gain
    return -log_sigmoid(chosen) - 0.5 * log_sigmoid(-chosen) - 0.5 * log_sigmoid(-rejected)


def _robust(pairs: PairFigures, beta: float, smoothing: float) -> jax.Array:
    logits = beta * pairs.margin
    flipped = smoothing * log_sigmoid(-logits)
    return (-(1 - smoothing) * log_sigmoid(logits) + flipped) / (1 - 2 * smoothing)


def _bco_pair(pairs: PairFigures, beta: float, smoothing: float) -> jax.Array:
    return -log_sigmoid(beta * pairs.chosen_gain) - log_sigmoid(-beta * pairs.rejected_gain)


def _sppo_hard(pairs: PairFigures, beta: float, smoothing: float) -> jax.Array:
    return (pairs.chosen_gain - 0.5 / beta) ** 2 + (pairs.rejected_gain + 0.5 / beta) ** 2


def _apo_zero(pairs: PairFigures, beta: float, smoothing: float) -> jax.Array:
    return 1 - sigmoid(beta * pairs.chosen_gain) + sigmoid(beta * pairs.rejected_gain)


def _apo_down(pairs: PairFigures, beta: float, smoothing: float) -> jax.Array:
    return sigmoid(beta * pairs.chosen_gain) + 1 - sigmoid(beta * pairs.margin)


def _discopop(pairs: PairFigures, beta: float, smoothing: float) -> jax.Array:
    logits = beta * pairs.margin
    share = sigmoid(logits / DISCOPOP_TEMPERATURE)
    return -log_sigmoid(logits) * (1 - share) + jnp.exp(-logits) * share


def _sigmoid_norm(pairs: PairFigures, beta: float, smoothing: float) -> jax.Array:
    return -log_sigmoid(beta * pairs.per_token().margin)


PAIR_LOSSES: Mapping[str, PairLoss] = MappingProxyType(
    {
        "sigmoid": _sigmoid,
        "hinge": _hinge,
        "ipo": _ipo,
        "exo_pair": _exo_pair,
        "nca_pair": _nca_pair,
        "robust": _robust,
        "bco_pair": _bco_pair,
        "sppo_hard": _sppo_hard,
        "apo_zero": _apo_zero,
        "apo_down": _apo_down,
        "discopop": _discopop,
        "sigmoid_norm": _sigmoid_norm,
    }
)
"""Name -> loss. `sft`, a mean over the tokens of all chosen answers, is no loss of a pair; see `Preference`."""
