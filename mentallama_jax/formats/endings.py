"""Finds which tokens end an answer: a model may name several, in several files, and each of them counts."""

from collections.abc import Iterable, Mapping
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.formats.notices import notice


def end_ids(eos_id: int, files: Mapping[str, Mapping[str, Any]], rows: int, origin: str) -> tuple[int, ...]:
    """The ids that end an answer, by the tokenizer and by every file that names some; `eos_id` comes first.

    Args:
        eos_id: the token that ends a text by the tokenizer's own files.
        files: name -> contents of the JSON files that may have an `eos_token_id`, a number or a list of them.
        rows: of the model's embedding. An id beyond them can never be an answer's token; it is said and left out.
        origin: names the model in messages.

    Raises:
        UserError: an `eos_token_id` is no id and no list of ids.
    """
    found = [eos_id]
    for name, values in files.items():
        for id_ in _as_list(values.get("eos_token_id")):
            if type(id_) is not int or id_ < 0:
                raise UserError(
                    f"{origin}: {name} has eos_token_id {shown(values['eos_token_id'])}; expected an id or ids"
                )
            if id_ >= rows:
                notice(f"{origin}: {name} names {id_} as an end, but the model has {rows:,} embeddings; it is left out")
            elif id_ not in found:
                found.append(id_)
    return tuple(found)


def one_or_list(ids: Iterable[int]) -> int | list[int]:
    """How a config file holds ids: a single one as a number."""
    values = list(ids)
    return values[0] if len(values) == 1 else values


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
