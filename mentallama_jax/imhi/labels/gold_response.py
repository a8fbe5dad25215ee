"""Reading a released gold response back into a label and an explanation, in both formats."""

from functools import lru_cache

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown_cell
from mentallama_jax.imhi.labels import read_label
from mentallama_jax.imhi.labels.unwrapping import visible
from mentallama_jax.imhi.tasks import TASKS, Task

REASONING = "Reasoning:"
_FULL_STOPS = ".。।۔"
_FULL_STOPS_EACH = tuple(_FULL_STOPS)
_SETS_OFF = f"{_FULL_STOPS},:;!\n，、：；！،؛"


def read_gold(text: str, task: Task, aspect: str = "") -> tuple[str, str]:
    """Split a gold response of the instruction or the completion format into (canonical label, explanation).

    The text before the first `Reasoning:` is a label sentence (`Yes, the poster suffers from stress.`) or a completion
    word (`yes.`) of `task`; only case, the full stop and white space around it are free. White space around the
    explanation is dropped; an absent explanation is "".

    A whole label sentence of another data set is refused: its yes is none of this one.

    A few released golds are odd: the label sentence goes on, stands behind `Reasoning:`, or the marker is missing.
    There `read_label` reads the label: before the marker where one stands there, else in the whole response.
    Without the marker, the explanation is what stands after the label's own sentence or line.

    Raises:
        UserError: no label of `task` stands there. The message quotes no more than a short cell.
    """
    head, separator, explanation = text.partition(REASONING)
    label = _wordings(task).get(_fold(head))
    if label is None and (other := _of_others(TASKS.all).get(_fold(head))):
        raise UserError(f"the response begins with a label sentence of {other}, not of {task.name}")
    if label is None:
        label = read_label(head, task, aspect) if separator else None
        label = label or read_label(text, task, aspect)
    if label is None:
        begins = shown_cell(head.strip(), _wordings(task)) if separator else "what it begins with"
        raise UserError(f"the response does not begin with a label of {task.name}: {begins} is unknown")
    if not separator and _fold(head) not in _wordings(task):
        explanation = _after_label(text, task)
    return label, explanation.strip()


def explanation_in(text: str, task: Task) -> str:
    """What an output gives as its reasons: what stands behind `Reasoning:`, or behind its label sentence; "" for none.

    Where it has neither, all of it is taken for the explanation. Reasoning traces (<think> ... </think>) are no part of
    it; where one is not closed there is no explanation.
    """
    text = visible(text)
    _, separator, explanation = text.partition(REASONING)
    return explanation.strip() if separator else _after_label(text, task).strip()


def _after_label(text: str, task: Task) -> str:
    """What stands after the label sentence or word that `text` begins with; all of it where it begins with neither."""
    begun = text.strip()
    for wording in _bare_wordings(task):
        # The length is that of the wording as it is spelt: folding may change it ("ß").
        rest = begun[len(wording) :]
        # A word alone may begin any sentence, such as "No joy is left": it is a label where it is set off.
        ends = not rest[:1].isalnum() if " " in wording else not rest or rest[0] in _SETS_OFF
        if begun[: len(wording)].casefold() == wording.casefold() and ends:
            return rest.lstrip(f"{_FULL_STOPS},: \n")
    return begun


def _fold(wording: str) -> str:
    return _bare(wording).casefold()


def _bare(wording: str) -> str:
    wording = wording.strip()
    return wording[:-1] if wording.endswith(_FULL_STOPS_EACH) else wording


@lru_cache(64)
def _wordings(task: Task) -> dict[str, str]:
    return {_fold(text): label for table in (task.sentences, task.completion_words) for label, text in table.items()}


@lru_cache(8)
def _of_others(tasks: tuple[Task, ...]) -> dict[str, str]:
    """The label sentences of all data sets, each with the first that has it."""
    return {_fold(text): task.name for task in reversed(tasks) for text in task.sentences.values()}


@lru_cache(64)
def _bare_wordings(task: Task) -> list[str]:
    """The wordings as they are spelt, without their full stop, longest first."""
    wordings = {_bare(text) for table in (task.sentences, task.completion_words) for text in table.values()}
    return sorted(wordings, key=lambda wording: (-len(wording), wording))
