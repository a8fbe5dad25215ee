"""The check of a task's labels: reading an answer has to be able to distinguish them."""

from collections.abc import Iterator

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.imhi.task_files.plain_text import even, is_letter, loose, sentences_of
from mentallama_jax.imhi.task_files.task import Task

_REASONING = "reasoning:"
_ENDS_BEHIND = ".!?;:()。।॥؟۔"


def check_labels(task: Task, place: object) -> None:
    """Refuse labels that reading an answer, or a table, could not distinguish.

    Raises:
        UserError: begins with `place`: a wording that is empty, no single statement, or that of another label, or a
            sentence that is a part of another label's sentence. It names both.
    """
    owners: dict[str, tuple[str, str]] = {}
    for label, key, text in _wordings(task):
        named = f"{key} of {shown(label)}"
        if key != "raw cell":
            _check_wording(text, named, task, place)
        other, other_key = owners.setdefault(loose(text), (label, key))
        if other != label:
            raise UserError(
                f"{place}: labels: the {named} reads as the {other_key} of {shown(other)}, so that they cannot be "
                "distinguished; word one of them otherwise"
            )
    for label, sentence in task.sentences.items():
        for other, longer in task.sentences.items():
            if other != label and _holds(even(longer), even(sentence).rstrip(_ENDS_BEHIND + " ")):
                raise UserError(
                    f"{place}: labels: the sentence of {shown(label)} is a part of that of {shown(other)}, with "
                    "nothing behind it, so that they cannot be distinguished; word one of them otherwise"
                )


def _wordings(task: Task) -> Iterator[tuple[str, str, str]]:
    """Each wording as (label, what it is, text)."""
    for label in task.labels:
        yield label, "name", label
        yield label, "sentence", task.sentences[label]
        yield label, "completion", task.completion_words[label]
        yield from ((label, "alias", alias) for alias in task.label_aliases.get(label, ()))
    yield from ((label, "raw cell", cell) for cell, label in task.raw_labels.items())


def _check_wording(text: str, named: str, task: Task, place: object) -> None:
    if not any(character.isalpha() for character in text):
        raise UserError(
            f"{place}: labels: the {named} holds no letter; numbers and signs are not read as labels (cells of tables "
            "go under raw_table.labels)"
        )
    if _REASONING in even(text):
        raise UserError(f"{place}: labels: the {named} holds `Reasoning:`, which stands between label and explanation")
    found = sentences_of(text, task.language)
    if len(found) != 1:
        raise UserError(f"{place}: labels: the {named} reads as {len(found)} sentences; write it as one")
    if found[0].asks or found[0].goes_on:
        raise UserError(f"{place}: labels: the {named} ends as a question or with a colon; write a statement")


def _holds(text: str, part: str) -> bool:
    """Whether `part` stands in `text` as whole words, and a sentence or the text ends behind it."""
    start = text.find(part)
    while start >= 0:
        behind = text[start + len(part) :].lstrip(" ")
        if (not start or not is_letter(text[start - 1])) and (not behind or behind[0] in _ENDS_BEHIND):
            return True
        start = text.find(part, start + 1)
    return False
