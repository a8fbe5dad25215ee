"""The kinds of the pieces of a SentencePiece model, which its library tells only in part.

Read from the wire format by hand: the generated protobuf classes of sentencepiece and of transformers register the same
file name and cannot be loaded into one process.
"""

import re
from collections.abc import Iterator

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import reading, shown

_PIECES, _KIND = 1, 3  # fields of ModelProto and of its SentencePiece
_NORMAL, _USER_DEFINED, _UNUSED = 1, 4, 5
_MARKER = re.compile(r"<[^<>\s]+>|\[[A-Z0-9_/]+\]")


def marker_ids(model: bytes, pieces: list[str], origin: str) -> list[int]:
    """Ids of the pieces that no text may become: what a model's maker defined or left unused, such as `<|im_end|>`.

    Args:
        model: contents of a `tokenizer.model` that the library has read.
        pieces: of the model, by id.
        origin: names the model in errors.

    Raises:
        UserError: one of them looks like ordinary text. The library finds those that are defined inside words before it
            joins pieces, and joins through those that are unused, so other ids would come out.
    """
    with reading(origin, "SentencePiece model"):
        kinds = [_kind(value) for field, value in _fields(model) if field == _PIECES and isinstance(value, bytes)]
    if len(kinds) != len(pieces):
        raise UserError(f"{origin} is not a SentencePiece model ({len(kinds)} kinds of {len(pieces)} pieces)")
    special = [id_ for id_, kind in enumerate(kinds) if kind in (_USER_DEFINED, _UNUSED)]
    for id_ in special:
        if not is_marker(pieces[id_]):
            what = "unused" if kinds[id_] == _UNUSED else "user-defined"
            raise UserError(
                f"{origin}: piece {shown(pieces[id_])} is {what}, but no marker like <pad>; "
                "give the tokenizer.json that belongs to this model"
            )
    return special


def is_marker(piece: str) -> bool:
    """Whether a piece looks like `<|im_end|>` or `[INST]`, not like text."""
    return _MARKER.fullmatch(piece) is not None


def _kind(piece: bytes) -> int:
    return next((value for field, value in _fields(piece) if field == _KIND and isinstance(value, int)), _NORMAL)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        field, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _varint(message, place)
            yield field, value
            continue
        if wire == 2:
            size, place = _varint(message, place)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if place + size > len(message):
            raise ValueError("a field is longer than the file")
        yield field, message[place : place + size]
        place += size


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number is too long")
