"""The tree of allowed openings: each way through it is one label's opening, and nothing else."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallama_jax.errors import UserError
from mentallama_jax.generation.label_trie import FREE, Constraint, constraint_of, label_begun, opening_tree

words = st.lists(st.sampled_from(["yes", "no", "it", "shows", "joy", "joy of", "Schlaf", "眠"]), min_size=1, max_size=5)
sentences = st.lists(words.map(" ".join), min_size=1, max_size=6, unique=True)
vocabularies = st.lists(
    st.sampled_from(["yes no", "it sh", "joy", " joy", "of.", ". Rea", "s.", " R", "ows"]), unique=True
)


def encode(text: str, pieces: list[str]) -> list[int]:
    """Longest piece first, a character where none fits: the token is a piece's place or a character's own number."""
    ids = []
    while text:
        piece = max((p for p in pieces if text.startswith(p)), key=len, default=None)
        ids.append(pieces.index(piece) if piece else ord(text[0]) + 1000)
        text = text[len(piece or text[0]) :]
    return ids


def decode(ids: list[int], pieces: list[str]) -> str:
    return "".join(pieces[i] if i < 1000 else chr(i - 1000) for i in ids)


def paths(constraint: Constraint, node: int) -> Iterator[list[int]]:
    """Every sequence of tokens from a node to where answers are free."""
    steps = [(t, c) for t, c in zip(constraint.tokens_NC[node], constraint.children_NC[node], strict=True) if t != FREE]
    if not steps:
        yield []
    for token, child in steps:
        for rest in paths(constraint, int(child)):
            yield [int(token), *rest]


@given(st.lists(sentences, min_size=1, max_size=3), vocabularies)
def test_every_path_decodes_to_exactly_one_opening(tasks: list[list[str]], pieces: list[str]) -> None:
    texts = [{sentence: f" {sentence}. Reasoning:" for sentence in task} for task in tasks]
    openings = [{label: encode(text, pieces) for label, text in task.items()} for task in texts]
    constraint, roots = constraint_of([opening_tree(task, "task") for task in openings])
    assert roots[0] == 0
    for root, task, tokens in zip(roots, texts, openings, strict=True):
        found = list(paths(constraint, root))
        assert sorted(decode(path, pieces) for path in found) == sorted(task.values())
        for path in found:
            assert task[label_begun([*path, 7, 8], tokens)] == decode(path, pieces)
            assert label_begun(path[:-1], tokens) is None


def test_a_sentence_that_begins_another_keeps_its_own_end() -> None:
    texts = {"a": " It shows joy. Reasoning:", "b": " It shows joy. Of all. Reasoning:"}
    openings = {label: encode(text, []) for label, text in texts.items()}
    constraint, _ = constraint_of([opening_tree(openings, "task")])
    assert len(list(paths(constraint, 0))) == 2
    shared = len(" It shows joy. ")
    assert (constraint.tokens_NC != FREE).sum() == len(texts["a"]) + len(texts["b"]) - shared


def test_openings_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(UserError, match=r"^task: an answer of label 'b' begins as one of label 'a'"):
        opening_tree({"a": [1, 2], "b": [1, 2, 3]}, "task")
    with pytest.raises(UserError, match=r"^task: label 'a' has no tokens"):
        opening_tree({"a": []}, "task")
