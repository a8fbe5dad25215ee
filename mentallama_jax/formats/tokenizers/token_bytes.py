"""The bytes that each token of a vocabulary stands for, by the two alphabets that LLaMA's tokenizers are spelt in."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_WORD_MARK = "▁"


def is_byte_level(spec: Mapping[str, Any]) -> bool:
    """Whether a `tokenizer.json` spells bytes as printable letters, as GPT-2's does; else it does as SentencePiece."""
    return any(part.get("type") == "ByteLevel" for part in _parts([spec.get("decoder"), spec.get("pre_tokenizer")]))


def bytes_of(spelling: str, *, byte_level: bool) -> bytes:
    """The bytes of a token that is not special.

    Args:
        spelling: in the vocabulary.
        byte_level: see `is_byte_level`.
    """
    if byte_level:
        alphabet = _alphabet()
        return b"".join(bytes([alphabet[letter]]) if letter in alphabet else letter.encode() for letter in spelling)
    found = _BYTE.fullmatch(spelling)
    return bytes([int(found[1], 16)]) if found else spelling.replace(_WORD_MARK, " ").encode("utf-8", "replace")


@cache
def _alphabet() -> dict[str, int]:
    """GPT-2's letter of each byte: itself where it can be printed, else one beyond Latin-1."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


def _parts(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every object within a value."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _parts(one)
