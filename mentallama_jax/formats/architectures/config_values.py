"""Values of a `config.json`, checked: numbers in their ranges, and equality of a kind."""

from collections.abc import Mapping, Set
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.formats.notices import notice

# Far above every model there is. What is larger would be allocated, or looped over, before a file shows it to be wrong.
_LARGEST: dict[str, int] = {
    "vocab_size": 2**27,
    "hidden_size": 2**20,
    "intermediate_size": 2**24,
    "num_hidden_layers": 2**14,
    "num_attention_heads": 2**13,
    "num_key_value_heads": 2**13,
    "head_dim": 2**13,
    "max_position_embeddings": 2**31,
    "original_max_position_embeddings": 2**31,
    "type_vocab_size": 2**16,
    "pad_token_id": 2**27,
    "d_model": 2**20,
    "d_kv": 2**13,
    "d_ff": 2**24,
    "encoder_layers": 2**14,
    "decoder_layers": 2**14,
    "encoder_attention_heads": 2**13,
    "decoder_attention_heads": 2**13,
    "encoder_ffn_dim": 2**24,
    "decoder_ffn_dim": 2**24,
    "num_layers": 2**14,
    "num_decoder_layers": 2**14,
    "num_heads": 2**13,
    "relative_attention_num_buckets": 2**16,
    "relative_attention_max_distance": 2**20,
}
# Numbers that float32, in which the model uses them, holds with all digits.
_SMALLEST_NUMBER, _LARGEST_NUMBER = 1.2e-38, 3.4e38


def same(value: Any, harmless: Any) -> bool:
    """Equal, and of a kind: 0.0 is 0, but neither 0 nor "false" is False."""
    return isinstance(value, bool) == isinstance(harmless, bool) and bool(value == harmless)


def number(values: dict[str, Any], key: str, origin: str) -> float:
    """A positive number of a size that float32 holds.

    Raises:
        UserError: it is absent or something else.
    """
    value = values.get(key)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not _SMALLEST_NUMBER <= value <= _LARGEST_NUMBER
    ):
        found = "is absent" if value is None else f"is {short(value)}"
        raise UserError(f"{origin}: {key} {found}; a positive number is needed")
    return float(value)


def whole(values: dict[str, Any], key: str, origin: str) -> int:
    """A positive whole number that is not absurd.

    Raises:
        UserError: it is absent or something else.
    """
    value = number(values, key, origin)
    if value != int(value):
        raise UserError(f"{origin}: {key} is {value}; a whole number is needed")
    if value > _LARGEST[key]:
        raise UserError(f"{origin}: {key} is {short(values[key])}; at most {_LARGEST[key]:,} can be read")
    return int(value)


def refuse_other_maths(values: dict[str, Any], refused_unless: Mapping[str, tuple[Any, ...]], origin: str) -> None:
    """Refuse keys that would change the maths.

    Args:
        values: of a `config.json`.
        refused_unless: key -> the values under which it changes nothing; null is always fine.
        origin: the name of that file.

    Raises:
        UserError: a key has another value.
    """
    for key, allowed in refused_unless.items():
        value = values.get(key)
        if value is not None and not any(same(value, harmless) for harmless in allowed):
            raise UserError(f"{origin}: {key} is {short(value)}, which this model does not have")


def note_unknown_keys(values: dict[str, Any], known: Set[str], origin: str) -> None:
    """Say which keys are passed over, as nothing is known of them."""
    if unknown := sorted(values.keys() - known):
        named = ", ".join(shown(key, 40) for key in unknown[:5])
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        notice(f"{origin}: keys that are not known here are passed over, as transformers does: {named}{more}")


def share(values: dict[str, Any], key: str, default: float, origin: str) -> float:
    """A number from 0, below 1.

    Raises:
        UserError: it is something else.
    """
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise UserError(f"{origin}: {key} is {short(value)}; a number from 0, below 1, is needed")
    return float(value)


def short(value: Any) -> str:
    """A value for a message."""
    return shown(value) if isinstance(value, str) else shown(value).strip("'\"")
