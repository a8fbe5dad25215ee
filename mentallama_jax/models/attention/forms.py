"""The forms that attention takes, and how an implementation says which of them it can do.

Shape suffixes of all files here: B batch, T queries, S keys (the same tokens in self-attention), N query heads,
K key/value heads, G = N / K, H head width. A 1 in a suffix is a dimension of size 1, which is broadcast.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

MASKED = -0.7 * float(jnp.finfo(jnp.float32).max)
"""A finite minus infinity: a fully masked row must give numbers, not NaN."""
BIDIRECTIONAL = "bidirectional"
"""The scope of kernels without causality in a compiled text: they compute the whole square of scores."""


class Places(NamedTuple):
    """Where each token stands: int32 position within its segment, and int32 segment id (0 is padding), [B, T]."""

    positions_BT: jax.Array
    segment_ids_BT: jax.Array


@dataclass(frozen=True, slots=True)
class Form:
    """What a call asks for, beside segments and grouped heads, which every implementation honours.

    Attributes:
        causal: a query sees no later position.
        cross: the keys belong to another sequence, with places and a length that differ from those of the queries.
        biased: numbers are added to the scores.
        unpacked: the caller promises that each row holds one segment at most, from its first token on.
    """

    causal: bool = True
    cross: bool = False
    biased: bool = False
    unpacked: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether this is causal self-attention without a bias, which is what every fused kernel computes."""
        return self.causal and not self.cross and not self.biased

    @property
    def is_by_segments(self) -> bool:
        """Whether segments alone say what a query sees and how much: no order of positions, no bias."""
        return not self.causal and not self.biased

    def __str__(self) -> str:
        words = "causal" if self.causal else "bidirectional", "cross-attention" if self.cross else "self-attention"
        return " ".join(words) + (" with a bias" if self.biased else "")


PLAIN = Form()


def require(supported: bool, name: str, form: Form, q_BTNH: jax.Array, k_BSKH: jax.Array) -> None:
    """Refuse a call that an implementation cannot do, rather than compute something else.

    Args:
        supported: what the implementation says of the form.
        name: of the implementation.
        form: of the call.
        q_BTNH: queries.
        k_BSKH: keys.

    Raises:
        ValueError: the form is not supported, or self-attention is asked for between two lengths.
    """
    if not supported:
        raise ValueError(f"{name} attention cannot do {form} with queries {q_BTNH.shape} of {q_BTNH.dtype}")
    if not form.cross and q_BTNH.shape[1] != k_BSKH.shape[1]:
        raise ValueError(f"{q_BTNH.shape[1]} queries and {k_BSKH.shape[1]} keys: say where the keys stand (key_places)")


def key_segments(form: Form, segment_ids_BT: jax.Array, key_segment_ids_BS: jax.Array | None) -> jax.Array:
    """Return the segments of the keys: those of the queries in self-attention, their own in cross-attention.

    Raises:
        ValueError: cross-attention without segments of its keys, or self-attention with some.
    """
    if form.cross != (key_segment_ids_BS is not None):
        raise ValueError(f"{form} {'needs' if form.cross else 'takes no'} segments of its keys (key_segment_ids_BS)")
    return segment_ids_BT if key_segment_ids_BS is None else key_segment_ids_BS
