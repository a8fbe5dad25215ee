"""The bytes that each token of a vocabulary stands for, by the two alphabets that LLaMA's tokenizers are spelt in."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_WORD_MARK = "▁"
_NO_CHARACTER = "\ufffd"


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


def byte_ids(spec: Mapping[str, Any], vocabulary: Mapping[str, int]) -> frozenset[int]:
    """The tokens that a `tokenizer.json` decodes as one byte each, as SentencePiece does where it knows no better."""
    if not any(part.get("type") == "ByteFallback" for part in _parts(spec.get("decoder"))):
        return frozenset()
    return frozenset(id_ for spelling, id_ in vocabulary.items() if _BYTE.fullmatch(spelling))


def broken_bytes_shown(spellings: Sequence[str]) -> list[str]:
    """Spellings of tokens, each byte that is part of no character replaced by U+FFFD.

    It is SentencePiece's rule. A `tokenizer.json` by itself shows every byte of a run so if one of them is broken, even
    a line break in front, so that a later token could change the text of earlier ones.
    """
    shown: list[str] = []
    for is_byte, run in groupby(spellings, lambda spelling: bool(_BYTE.fullmatch(spelling))):
        if not is_byte:
            shown += run
            continue
        text = b"".join(bytes_of(spelling, byte_level=False) for spelling in run).decode("utf-8", "surrogateescape")
        for character in text:
            broken = "\udc80" <= character <= "\udcff"
            shown += [_NO_CHARACTER] if broken else [f"<0x{byte:02X}>" for byte in character.encode()]
    return shown


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
