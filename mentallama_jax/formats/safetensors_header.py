"""Reads and checks the header of a safetensors file: names, types, shapes, and that the tensors fill the file."""

import struct
from math import prod
from pathlib import Path
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import parse_json, reading, shown_tensor
from mentallama_jax.formats.folder import file_size

FLOATS = ("F32", "F16", "BF16")
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}
_BITS |= {"U64": 64, "U32": 32, "U16": 16, "F8_E4M3": 8, "F8_E5M2": 8}
# A hundred thousand tensors take about 10 MB.
_LARGEST_HEADER = 16 * 2**20


def read_header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> (type, shape) of each tensor.

    Raises:
        UserError: no regular file; cut off, too long, or no safetensors; tensors that overlap or leave gaps.
    """
    header, room = _parse(path)
    spans: list[tuple[int, int, str]] = []
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        kind, shape, start, end = _entry(path, name, entry)
        bits = _BITS.get(kind)
        if bits is not None and (end - start) * 8 != bits * prod(shape):
            raise _broken(path, f"{shown_tensor(name)} has {end - start} bytes for {list(shape)} of {kind}")
        spans.append((start, end, name))
        found[name] = (kind, shape)
    place = 0
    for start, end, name in sorted(spans):
        if start != place or end < start:
            raise _broken(path, f"{shown_tensor(name)} starts at byte {start}, expected {place}")
        place = end
    if place != room:
        raise _broken(path, f"its tensors have {place} bytes, the file has {room} for them")
    return found


def _parse(path: Path) -> tuple[dict[str, Any], int]:
    size = file_size(path)
    with reading(path, "safetensors file"), path.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if not 2 <= length <= min(size - 8, _LARGEST_HEADER):
            raise _broken(path, "its header is longer than the file, or than any header")
        content = stream.read(length)
    try:
        header = parse_json(content, path)
    except UserError as error:
        raise _broken(path, str(error).removeprefix(f"{path}: ")) from None
    if not isinstance(header, dict):
        raise _broken(path, "its header is no object")
    return header, size - 8 - length


def _entry(path: Path, name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    match entry:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [start, end]}:
            numbers = [*shape, start, end]
            if kind.replace("_", "").isalnum() and all(type(n) is int and 0 <= n < 2**63 for n in numbers):
                return kind, tuple(shape), start, end
    raise _broken(path, f"the entry of {shown_tensor(name)} lacks dtype, shape or data_offsets")


def _broken(path: Path, why: str) -> UserError:
    return UserError(f"{path}: not a whole safetensors file ({why}); download it again")
