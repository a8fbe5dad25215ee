"""Answers that state a label first, in the words of their task, and then explain it freely; see `label_trie`.

The label is the one whose sentence the answer was made to begin with, so every answer has one.
"""

from collections.abc import Sequence

from mentallama_jax.config import Style
from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.generation.label_trie import constraint_of, label_begun, opening_tree
from mentallama_jax.imhi.labels.gold_response import REASONING
from mentallama_jax.imhi.prompts import PromptTokenizer, answer_opening, encode_answer, label_answers
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import Task


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
        texts = _openings(records, style, answer_opening(style, tokenizer))
        self._texts = [text for of_task in texts.values() for text in of_task.values()]
        self._openings = {
            name: {label: encode_answer(text, style, tokenizer) for label, text in of_task.items()}
            for name, of_task in texts.items()
        }
        trees = [opening_tree(openings, name) for name, openings in self._openings.items()]
        self.constraint, roots = constraint_of(trees)
        root_of = dict(zip(self._openings, roots, strict=True))
        self.roots = [root_of[record.dataset] for record in records]
        self.longest = max(len(tokens) for openings in self._openings.values() for tokens in openings.values())

    def check(self, max_new_tokens: int, stops: Sequence[str] = ()) -> None:
        """Refuse what would cut an answer before its label is complete.

        Raises:
            UserError: too few tokens, or a stop string that stands in an opening.
        """
        _check_stops(self._texts, stops)
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


def check_stops(records: Sequence[Record], style: Style, stops: Sequence[str]) -> None:
    """Refuse stop strings that would cut the label with which answers to records begin; it takes no model.

    Raises:
        UserError: names the label sentence and the stop string.
    """
    _check_stops([text for of_task in _openings(records, style).values() for text in of_task.values()], stops)


def _openings(records: Sequence[Record], style: Style, blank: str = "") -> dict[str, dict[str, str]]:
    """Data set -> label -> the text that an answer begins with."""
    tasks: dict[str, Task] = {record.dataset: record.task for record in records}
    return {
        name: {label: f"{text} {REASONING}" for label, text in label_answers(task, style, blank).items()}
        for name, task in tasks.items()
    }


def _check_stops(openings: Sequence[str], stops: Sequence[str]) -> None:
    for opening in openings:
        for stop in stops:
            if stop in opening:
                begin = shown(opening.strip(), 200)
                raise UserError(
                    f"stop {shown(stop)} stands in {begin}, with which --label-first makes answers begin; give another"
                )
