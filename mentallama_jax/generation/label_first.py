"""Answers that state a label first, in the words of their task, and then explain it freely; see `label_trie`.

The label is the one whose sentence the answer was made to begin with, so every answer has one.
"""

from collections.abc import Sequence

from mentallama_jax.config import Style
from mentallama_jax.errors import UserError
from mentallama_jax.generation.label_trie import constraint_of, label_begun, opening_tree
from mentallama_jax.imhi.labels.gold_response import REASONING
from mentallama_jax.imhi.prompts import PromptTokenizer, answer_opening, encode_answer, label_answers
from mentallama_jax.imhi.records import Record


class LabelFirst:
    """The openings that answers to some records may have.

    Attributes:
        constraint: for the engine.
        roots: the root of each record's tree.
        longest: tokens of the longest opening.
    """

    def __init__(self, records: Sequence[Record], style: Style, tokenizer: PromptTokenizer) -> None:
        """Tokenise the openings of the records' tasks, as they follow a prompt of `style`.

        Raises:
            UserError: labels of a task that cannot be told apart by what an answer begins with.
        """
        blank = answer_opening(style, tokenizer)
        tasks = {record.dataset: record.task for record in records}
        self._openings = {
            name: {
                label: encode_answer(f"{text} {REASONING}", style, tokenizer)
                for label, text in label_answers(task, style, blank).items()
            }
            for name, task in tasks.items()
        }
        trees = [opening_tree(openings, name) for name, openings in self._openings.items()]
        self.constraint, roots = constraint_of(trees)
        root_of = dict(zip(self._openings, roots, strict=True))
        self.roots = [root_of[record.dataset] for record in records]
        self.longest = max(len(tokens) for openings in self._openings.values() for tokens in openings.values())

    def check(self, max_new_tokens: int) -> None:
        """Refuse a limit that would cut an answer before its label is complete.

        Raises:
            UserError: too few tokens.
        """
        if max_new_tokens <= self.longest:
            raise UserError(
                f"max-new-tokens {max_new_tokens}: with --label-first up to {self.longest} tokens of an answer are "
                "its label; give more"
            )

    def label(self, record: Record, tokens: Sequence[int]) -> str:
        """The label that the answer to a record begins with."""
        label = label_begun(tokens, self._openings[record.dataset])
        if label is None:
            raise RuntimeError(f"{record.id}: an answer left the tree of labels")
        return label
