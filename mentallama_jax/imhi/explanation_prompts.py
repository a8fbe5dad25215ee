"""What asks a model for an explanation of a known label: an instruction, expert examples of each label, the question.

This is how the benchmark's explanations came about: a model is shown a post, the question, the annotators' label and
explanations by experts for other posts, and writes why the label fits.
"""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import islice

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.labels.gold_response import REASONING
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.shots import shares_post
from mentallama_jax.imhi.tasks import Task
from mentallama_jax.imhi.wording import instruction_response, need_label

EXAMPLES_OF_A_LABEL = 2
"""As in the paper."""

INSTRUCTION = (
    "Below are posts from social media, a question about each, and the answer that trained annotators gave. Explain in "
    "a few sentences why the answer fits the post: name or quote what in the post speaks for it. Do not add anything "
    "that is not in the post, give no advice, and address nobody. Begin with the answer, word for word, followed by "
    f'"{REASONING}".'
)

Experts = Mapping[tuple[str, str, str], Sequence[Record]]
"""(data set, aspect, label) -> records with explanations by experts, the ones to show first in front."""


def expert_examples(experts: Sequence[Record], asked: Sequence[Record], count: int, seed: int) -> Experts:
    """Order the experts' records for showing.

    Args:
        experts: records with labels and explanations; others among them are not used.
        asked: what is to be explained; for each of its questions every label needs examples.
        count: of each label.
        seed: of the order.

    Raises:
        UserError: a label of a question has fewer than `count`.
    """
    found: dict[tuple[str, str, str], list[Record]] = {}
    ordered = sorted(experts, key=lambda record: hashlib.sha256(f"{seed} {record.id}".encode()).digest())
    for record in ordered:
        if record.label and record.explanation.strip():
            found.setdefault((record.dataset, record.aspect, record.label), []).append(record)
    for dataset, aspect in dict.fromkeys((record.dataset, record.aspect) for record in asked):
        task = next(record.task for record in asked if record.dataset == dataset)
        for label in task.labels:
            there = len(found.get((dataset, aspect, label), ()))
            if there < count:
                about = f" about {aspect}" if aspect else ""
                raise UserError(
                    f"--examples: {there} explanations of the label {label} of {dataset}{about}, and {count} are shown "
                    "(--examples-per-label); add some, or show fewer"
                )
    return found


def examples_for(record: Record, experts: Experts, count: int) -> list[Record]:
    """The examples for one question: `count` of each label in turns, none of its own post or a near-copy of that.

    Where the own post takes one away, the next of its label stands in; where there is none, a label has one fewer.
    """
    shown = {
        label: list(
            islice(
                (
                    example
                    for example in experts.get((record.dataset, record.aspect, label), ())
                    if not shares_post(example, record)
                ),
                count,
            )
        )
        for label in record.task.labels
    }
    return [examples[place] for place in range(count) for examples in shown.values() if place < len(examples)]


def explanation_question(record: Record, examples: Sequence[Record], instruction: str = INSTRUCTION) -> str:
    """The text that asks why the label of a record fits.

    Raises:
        UserError: the record has no label.
    """
    need_label(record)
    blocks = [f"{_block(example)} {instruction_response(example)}" for example in examples]
    return "\n\n".join([instruction, *blocks, _block(record)])


def _block(record: Record) -> str:
    task: Task = record.task
    return (
        f"Post: {record.post}\nQuestion: {task.question.format(aspect=record.aspect)}\n"
        f"Answer of the annotators: {task.sentences[record.label]}\nExplanation:"
    )
