"""From a record to the messages of a conversation: the one place that knows how endpoints are prompted."""

from collections.abc import Callable

from mentallama_jax.baselines.endpoints.spending import Message
from mentallama_jax.imhi.prompting import Prompting
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.shots import shown_order
from mentallama_jax.imhi.wording import instruction_response

Disguise = Callable[[Record], Record]
"""From a record to what may be shown of it to others."""


def as_it_is(record: Record) -> Record:
    """The disguise that hides nothing."""
    return record


def messages_of(record: Record, prompting: Prompting, disguise: Disguise = as_it_is) -> list[Message]:
    """The examples with their gold answers in turns, then the question, in the wording of `prompting`.

    How much an endpoint reads is not known here, so that no example is left out. The record and its examples are shown
    as `disguise` makes them.
    """
    messages: list[Message] = []
    for example in map(disguise, examples_of(record, prompting)):
        messages.append({"role": "user", "content": prompting.query(example)})
        messages.append({"role": "assistant", "content": instruction_response(example)})
    return [*messages, {"role": "user", "content": prompting.query(disguise(record))}]


def examples_of(record: Record, prompting: Prompting) -> list[Record]:
    """The few-shot examples of a question in the order shown; none where there are none."""
    return list(shown_order(prompting.examples.get(record.id, ()), prompting.choice))
