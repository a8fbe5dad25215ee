"""Follows the trees of `label_trie` while tokens are chosen, and unpacks masks of tokens.

Shape suffixes: B rows, C children of a node, V vocabulary, W words of a mask.
"""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mentallama_jax.generation.label_trie import FREE, Constraint


def allowed_logits(logits_BV: jax.Array, constraint: Constraint, nodes_B: jax.Array) -> jax.Array:
    """Set the tokens that do not lead to a child of a row's node to minus infinity; all stay where the row is free.

    Args:
        logits_BV: fp32.
        constraint: see `Constraint`.
        nodes_B: int32, the node that each row stands on, or `FREE`.
    """
    B, V = logits_BV.shape
    tokens_BC = _of_nodes(constraint.tokens_NC, nodes_B)
    rows_B1 = jnp.arange(B)[:, None]
    # What is no child is written beyond the vocabulary, which drops it.
    places_BC = jnp.where(tokens_BC == FREE, V, tokens_BC)
    allowed_BV = jnp.zeros((B, V), bool).at[rows_B1, places_BC].set(True, mode="drop")
    free_B1 = jnp.all(tokens_BC == FREE, axis=1, keepdims=True)
    return jnp.where(allowed_BV | free_B1, logits_BV, -jnp.inf)


def next_nodes(constraint: Constraint, nodes_B: jax.Array, tokens_B: jax.Array) -> jax.Array:
    """[B] int32: the child that each row's token leads to; `FREE` where the row was free."""
    tokens_BC = _of_nodes(constraint.tokens_NC, nodes_B)
    children_BC = _of_nodes(constraint.children_NC, nodes_B)
    return jnp.max(jnp.where(tokens_BC == tokens_B[:, None], children_BC, FREE), axis=1)


def unpacked(bits_BW: jax.Array, tokens: int) -> jax.Array:
    """[B, tokens] bool of int32 words that hold 32 bits each, the lowest first."""
    each_BW32 = (bits_BW[..., None] >> jnp.arange(32)) & 1
    return each_BW32.reshape(len(bits_BW), -1)[:, :tokens].astype(bool)


def _of_nodes(table_NC: NDArray[np.int32], nodes_B: jax.Array) -> jax.Array:
    return jnp.where(nodes_B[:, None] == FREE, FREE, jnp.asarray(table_NC)[nodes_B])
