"""From a record to the messages of a conversation: the one place that knows how endpoints are prompted."""

from collections.abc import Mapping, Sequence
from typing import Any

from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.wording import instruction_query, instruction_response


def messages_of(record: Record, examples: Sequence[Record] = ()) -> list[dict[str, str]]:
    """The instruction of the benchmark as a conversation: examples with their gold answers in turns, then the question.

    Args:
        record: what is asked.
        examples: with labels, shown before it.
    """
    turns = [
        message
        for example in examples
        for message in (
            {"role": "user", "content": instruction_query(example)},
            {"role": "assistant", "content": instruction_response(example)},
        )
    ]
    return [*turns, {"role": "user", "content": instruction_query(record)}]


def prompt_signature() -> Mapping[str, Any]:
    """What a predictions file says of its prompts."""
    return {"prompt": "instruction", "examples": 0}
