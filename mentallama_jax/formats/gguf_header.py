"""Reads the header of a GGUF file: its metadata, and where each tensor lies. Every count is checked before it is used.

A header comes from strangers and says how long its parts are: a length is compared with the bytes that the file has
before anything is allocated or looped over, and the tensors must fill the rest of the file exactly, as llama.cpp asks.
"""

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown, shown_tensor
from mentallama_jax.formats.folder import file_size

_LONGEST_TEXT = 2**24
_LONGEST_LIST = 2**22
_LONGEST_HEADER = 2**29
_MOST_DIMENSIONS = 4
_DEFAULT_ALIGNMENT = 32
_BOOL, _TEXT, _LIST = 7, 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """Where a tensor lies in the file.

    Attributes:
        shape: slowest axis first, as in Hugging Face files.
        kind: number of its type, see `gguf.GGMLQuantizationType`.
        start: its first byte in the file.
        size: its bytes.
    """

    shape: tuple[int, ...]
    kind: int
    start: int
    size: int


class GgufHeaderError(ValueError):
    """The header is not that of a whole file; the text says why."""


def read_gguf_header(path: Path) -> tuple[dict[str, Any], dict[str, TensorPlace]]:
    """The metadata, and the place of each tensor.

    Raises:
        UserError: not a regular file, or not a whole GGUF file; the tensor or key is named where there is one.
    """
    size = file_size(path)
    try:
        if size < 24:
            raise GgufHeaderError("it is shorter than a header")
        return _Header(np.memmap(path, np.uint8, "r")).read()
    except (GgufHeaderError, UnicodeDecodeError) as error:
        why = "a text is not UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise UserError(f"{path}: not a whole GGUF file ({why}); fetch it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


class _Header:
    def __init__(self, content: np.ndarray[Any, Any]) -> None:
        buffer: Any = content  # numpy's older stubs do not say that an array is a buffer
        self._content = memoryview(buffer)
        self._size = len(self._content)
        self._place = 0

    def read(self) -> tuple[dict[str, Any], dict[str, TensorPlace]]:
        if bytes(self._take(4)) != b"GGUF":
            raise GgufHeaderError("it does not begin with GGUF")
        version = self._number("I")
        if version not in (2, 3):
            raise GgufHeaderError(
                "it is of the byte order of other machines" if version & 0xFFFF == 0 else f"version {version}"
            )
        tensors, keys = self._number("Q"), self._number("Q")
        metadata: dict[str, Any] = {}
        for _ in range(self._counted(keys, 8 + 4 + 1, "keys")):
            key = self._text()
            if key in metadata:
                raise GgufHeaderError(f"the key {shown(key)} stands twice")
            metadata[key] = self._value(self._number("I"), key)
        entries = [self._entry() for _ in range(self._counted(tensors, 8 + 4 + 4 + 8, "tensors"))]
        alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        if type(alignment) is not int or not 0 < alignment <= 2**16 or alignment & (alignment - 1):
            raise GgufHeaderError(f"general.alignment is {shown(alignment)}, no power of two")
        return metadata, _placed(entries, _padded(self._place, alignment), self._size, alignment)

    def _entry(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, shape, type and offset of a tensor."""
        name = self._text()
        dimensions = self._number("I")
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise GgufHeaderError(f"{shown_tensor(name)} has {dimensions} dimensions")
        # GGUF lists the fastest axis first.
        shape = tuple(self._number("Q") for _ in range(dimensions))[::-1]
        return name, shape, self._number("I"), self._number("Q")

    def _value(self, kind: int, key: str) -> Any:
        if kind == _TEXT:
            return self._text()
        if kind == _BOOL:
            value = self._number("B")
            if value > 1:
                raise GgufHeaderError(f"{shown(key)} is {value}, which is neither true nor false")
            return bool(value)
        if kind in _NUMBERS:
            return self._number(_NUMBERS[kind])
        if kind != _LIST:
            raise GgufHeaderError(f"{shown(key)} is of the unknown type {kind}")
        kind, count = self._number("I"), self._number("Q")
        if count > _LONGEST_LIST:
            raise GgufHeaderError(f"{shown(key)} claims to have {count:,} entries")
        if kind in _NUMBERS:
            width = struct.calcsize(_NUMBERS[kind])
            return list(struct.unpack(f"<{count}{_NUMBERS[kind]}", self._take(count * width)))
        if kind not in (_TEXT, _BOOL):
            raise GgufHeaderError(f"{shown(key)} is a list of the type {kind}, which cannot be read")
        return [self._value(kind, key) for _ in range(self._counted(count, 8 if kind == _TEXT else 1, shown(key)))]

    def _counted(self, count: int, least: int, what: str) -> int:
        """The count, if so many things of at least `least` bytes fit into the rest of the file."""
        if count * least > self._size - self._place:
            raise GgufHeaderError(f"{what}: {count:,} of them do not fit into the file")
        return count

    def _text(self) -> str:
        length = self._number("Q")
        if length > _LONGEST_TEXT:
            raise GgufHeaderError(f"a text claims to have {length:,} bytes")
        return str(self._take(length), "utf-8")

    def _number(self, form: str) -> Any:
        return struct.unpack("<" + form, self._take(struct.calcsize(form)))[0]

    def _take(self, count: int) -> memoryview:
        end = self._place + count
        if end > min(self._size, _LONGEST_HEADER):
            raise GgufHeaderError("its header is cut off" if end > self._size else "its header is too long")
        part = self._content[self._place : end]
        self._place = end
        return part


def _padded(place: int, alignment: int) -> int:
    return -(-place // alignment) * alignment


def _placed(
    entries: list[tuple[str, tuple[int, ...], int, int]], start: int, size: int, alignment: int
) -> dict[str, TensorPlace]:
    """Check that the tensors fill the file from `start` on, each padded to the alignment, and nothing else."""
    places: dict[str, TensorPlace] = {}
    expected, end = start, start
    for name, shape, kind, offset in sorted(entries, key=lambda entry: entry[3]):
        label = shown_tensor(name)
        if name in places:
            raise GgufHeaderError(f"the tensor {label} stands twice")
        if start + offset != expected:
            raise GgufHeaderError(
                f"{label} is at offset {offset}, where {expected - start} is expected by the sizes before it"
            )
        length = _bytes_of(label, shape, kind)
        end = expected + length
        if end > size:
            raise GgufHeaderError(f"{label} ends at byte {end:,} of {size:,}")
        places[name] = TensorPlace(shape, kind, expected, length)
        expected = _padded(end, alignment)
    if entries and not end <= size <= expected:
        raise GgufHeaderError(f"its tensors end at byte {end:,} of {size:,}")
    return places


def _bytes_of(label: str, shape: tuple[int, ...], kind: int) -> int:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        numbers, width = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (ValueError, KeyError):
        raise GgufHeaderError(f"{label} is of the unknown type {kind}") from None
    if not prod(shape) or shape[-1] % numbers:
        raise GgufHeaderError(f"{label} has the shape {list(shape)}, which does not go with its type")
    return prod(shape) // numbers * width
