"""Reading a released gold response back into a label and an explanation, in both formats."""

from functools import cache

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown_cell
from mentallama_jax.imhi.labels import read_label
from mentallama_jax.imhi.tasks import TASKS, Task

REASONING = "Reasoning:"


def read_gold(text: str, task: Task, aspect: str = "") -> tuple[str, str]:
    """Split a gold response of the instruction or the completion format into (canonical label, explanation).

    The text before the first `Reasoning:` is a label sentence (`Yes, the poster suffers from stress.`) or a completion
    word (`yes.`) of `task`; only case, the full stop and white space around it are free. White space around the
    explanation is dropped; an absent explanation is "".

    A few released golds are odd: the label sentence goes on, stands behind `Reasoning:`, or the marker is missing.
    There `read_label` reads the label: before the marker where one stands there, else in the whole response.
    Without the marker, the explanation is what stands after the label's own sentence or line.

    Raises:
        UserError: no label of `task` stands there. The message quotes no more than a short cell.
    """
    head, separator, explanation = text.partition(REASONING)
    label = _wordings(task.name).get(_fold(head))
    if label is None:
        label = read_label(head, task, aspect) if separator else None
        label = label or read_label(text, task, aspect)
    if label is None:
        begins = shown_cell(head.strip(), _wordings(task.name)) if separator else "what it begins with"
        raise UserError(f"the response does not begin with a label of {task.name}: {begins} is unknown")
    if not separator and _fold(head) not in _wordings(task.name):
        explanation = _after_label(text, task)
    return label, explanation.strip()


def explanation_in(text: str, task: Task) -> str:
    """What an output gives as its reasons: what stands behind `Reasoning:`, or behind its label sentence; "" for none.

    Where it has neither, all of it is taken for the explanation.
    """
    _, separator, explanation = text.partition(REASONING)
    return explanation.strip() if separator else _after_label(text, task).strip()


def _after_label(text: str, task: Task) -> str:
    """What stands after the label sentence or word that `text` begins with; all of it where it begins with neither."""
    begun = text.strip()
    for wording in sorted(_wordings(task.name), key=len, reverse=True):
        rest = begun[len(wording) :]
        # A word alone may begin any sentence, such as "No joy is left": it is a label where it is set off.
        ends = not rest[:1].isalnum() if " " in wording else not rest or rest[0] in ".,:;!\n"
        if begun[: len(wording)].casefold() == wording and ends:
            return rest.lstrip(".,: \n")
    return begun


def _fold(wording: str) -> str:
    return wording.strip().removesuffix(".").casefold()


@cache
def _wordings(name: str) -> dict[str, str]:
    task = TASKS[name]
    return {_fold(text): label for table in (task.sentences, task.completion_words) for label, text in table.items()}
