"""Which tokens an answer may begin with, so that it states a label first: a tree over the tokens of allowed openings.

An opening is a label sentence as a response gives it, followed by ` Reasoning:`. The whole opening is tokenised at
once, behind the prompt: so its tokens are those that training has seen, the leading blank included, and its end is a
border of tokens whatever the explanation begins with. No opening is the beginning of another, even where one sentence
is the beginning of another sentence: ` Reasoning:` ends the shorter one.

Decoding starts at the root of a row's tree. It follows children only, and is free once it stands on a node without
any. This choice is greedy, token by token. The opening that it takes need not be the one that is likeliest as a whole,
which `score_batches` finds: of two sentences, the first may begin with the likelier token and go on with unlikely ones.

Shape suffixes: N nodes, C children of a node.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown

FREE = -1
"""In place of a node: any token may follow. In a table of children: none."""

Tree = dict[int, "Tree"]
"""Token -> what may follow it; empty where anything may."""


class Constraint(NamedTuple):
    """Trees of allowed tokens as two tables; rows of a batch may stand in different trees.

    Attributes:
        tokens_NC: int32, the token that leads to each child of a node; `FREE` beyond its last child.
        children_NC: int32, the node that it leads to. A node without children leaves an answer free.
    """

    tokens_NC: NDArray[np.int32]
    children_NC: NDArray[np.int32]


def opening_tree(openings: Mapping[str, Sequence[int]], what: str) -> Tree:
    """The tree of openings.

    Args:
        openings: label -> token ids of the opening that states it.
        what: names the openings in errors.

    Raises:
        UserError: an opening is empty, or one is the beginning of another, so that it cannot be known which is meant.
    """
    for label, tokens in openings.items():
        if not tokens:
            raise UserError(f"{what}: label {shown(label)} has no tokens to begin an answer with")
        for other, longer in openings.items():
            if other != label and list(longer[: len(tokens)]) == list(tokens):
                raise UserError(
                    f"{what}: an answer of label {shown(other)} begins as one of label {shown(label)}; word them apart"
                )
    root: Tree = {}
    for tokens in openings.values():
        node = root
        for token in tokens:
            node = node.setdefault(token, {})
    return root


def constraint_of(trees: Sequence[Tree]) -> tuple[Constraint, list[int]]:
    """Several trees as the tables of one constraint, and the root of each; node 0 is the root of the first."""
    nodes: list[Tree] = []
    roots: list[int] = []
    places: dict[int, int] = {}
    for tree in trees:
        roots.append(len(nodes))
        for node in _nodes(tree):
            places[id(node)] = len(nodes)
            nodes.append(node)
    shape = (len(nodes), max([1, *map(len, nodes)]))
    tokens_NC, children_NC = np.full(shape, FREE, np.int32), np.full(shape, FREE, np.int32)
    for row, node in enumerate(nodes):
        tokens_NC[row, : len(node)] = list(node)
        children_NC[row, : len(node)] = [places[id(child)] for child in node.values()]
    return Constraint(tokens_NC, children_NC), roots


def _nodes(tree: Tree) -> Iterator[Tree]:
    left = [tree]
    while left:
        node = left.pop()
        yield node
        left.extend(node.values())


def label_begun(tokens: Sequence[int], openings: Mapping[str, Sequence[int]]) -> str | None:
    """The label whose opening `tokens` begin with; None where they begin with none."""
    for label, opening in openings.items():
        if list(tokens[: len(opening)]) == list(opening):
            return label
    return None
