"""Reading a released gold response back into a label and an explanation, strictly and in both formats."""

from functools import cache

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.tasks import TASKS, Task

REASONING = "Reasoning:"

_LONGEST_SHOWN = 60


def read_gold(text: str, task: Task) -> tuple[str, str]:
    """Split a gold response of the instruction or the completion format into (canonical label, explanation).

    The text before the first `Reasoning:` must be a label sentence (`Yes, the poster suffers from stress.`)
    or a completion word (`yes.`) of `task`, whole; only case, the full stop and white space around it are
    free. White space around the explanation is dropped; an absent explanation is "".

    Raises:
        UserError: no label of `task` stands there. The message never quotes an explanation.
    """
    head, separator, explanation = text.partition(REASONING)
    label = _wordings(task.name).get(_fold(head))
    if label is None:
        shown = repr(head.strip()) if separator and len(head) <= _LONGEST_SHOWN else "what it begins with"
        raise UserError(f"the response does not begin with a label of {task.name}: {shown} is unknown")
    return label, explanation.strip()


def _fold(wording: str) -> str:
    return wording.strip().removesuffix(".").casefold()


@cache
def _wordings(name: str) -> dict[str, str]:
    task = TASKS[name]
    return {_fold(text): label for table in (task.sentences, task.completion_words) for label, text in table.items()}
