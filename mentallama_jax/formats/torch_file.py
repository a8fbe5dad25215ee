"""Reads the tensors of torch checkpoints (`pytorch_model.bin`, `.pt`, `.pth`) without torch, one at a time.

Both forms that torch has written: the zip archive (since 1.6) and the older sequence of pickles. Nothing in a file is
executed (see `safe_unpickler`), and every size, offset and stride is checked against the bytes that there are.
"""

import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import reading, shown, shown_tensor
from mentallama_jax.formats.folder import file_size
from mentallama_jax.formats.safe_unpickler import PickleError, Storage, StoredTensor, unpickle

_DTYPES: Mapping[str, Any] = {
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "int8": np.dtype("i1"),
    "uint8": np.dtype("u1"),
    "uint16": np.dtype("<u2"),
    "uint32": np.dtype("<u4"),
    "uint64": np.dtype("<u8"),
    "bool": np.dtype("?"),
}
_STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_LONGEST_PICKLE = 64 * 2**20
_MOST_MEMBERS = 1 << 17
_LOCAL_HEADER = 30


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the numbers of a tensor are: bytes [start, stop) of the file hold all of them."""

    dtype: Any
    start: int
    stop: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class TorchFile:
    """The tensors of one file, by name.

    Attributes:
        tensors: name -> (dtype, shape).
    """

    def __init__(self, path: Path, inside: Sequence[str] = ()) -> None:
        """Read all but the tensors' numbers.

        Args:
            path: the file.
            inside: keys below which the tensors may stand, such as `state_dict`; by default at the top alone.

        Raises:
            UserError: not a whole checkpoint of torch; it asks for code or for anything besides tensors; or a tensor
                reaches beyond its storage.
        """
        self._path = path
        self._size = file_size(path)
        with reading(path, "torch file"):
            try:
                value, storages = self._parse()
                found = _tensors(value, inside)
                self._places = {name: self._place(name, tensor, storages) for name, tensor in found.items()}
            except PickleError as error:
                raise UserError(f"{path}: cannot be read as a torch checkpoint: {error}") from None

    @property
    def tensors(self) -> dict[str, tuple[Any, tuple[int, ...]]]:
        """Name -> (numpy dtype, shape)."""
        return {name: (place.dtype, place.shape) for name, place in self._places.items()}

    def read(self, name: str) -> np.ndarray[Any, Any]:
        """The tensor `name`, contiguous, in its stored type.

        Raises:
            UserError: the file can no longer be read.
        """
        place = self._places[name]
        if not prod(place.shape):
            return np.zeros(place.shape, place.dtype)
        with reading(self._path, "torch file"), self._path.open("rb") as stream:
            stream.seek(place.start)
            content = stream.read(place.stop - place.start)
        if len(content) != place.stop - place.start:
            raise UserError(f"{self._path}: {shown_tensor(name)} is cut off; download it again")
        flat = np.frombuffer(content, place.dtype)
        strides = tuple(stride * place.dtype.itemsize for stride in place.strides)
        view = np.lib.stride_tricks.as_strided(flat, place.shape, strides, writeable=False)
        return np.array(view, order="C")

    def _parse(self) -> tuple[Any, dict[str, tuple[int, int]]]:
        """The pickled value, and storage key -> (first byte, bytes)."""
        with self._path.open("rb") as stream:
            start = stream.read(4)
        if start == b"PK\x03\x04":
            return self._parse_zip()
        if start[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            return self._parse_pickles()
        raise PickleError("it begins neither as a zip archive nor as a pickle (very old tar files are not read)")

    def _parse_zip(self) -> tuple[Any, dict[str, tuple[int, int]]]:
        members = self._members()
        pickles = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1 or pickles[0].count("/") != 1:
            raise PickleError(f"it holds {len(pickles)} data.pkl")
        prefix = pickles[0].removesuffix("data.pkl")
        order = members.get(f"{prefix}byteorder")
        if order is not None and self._bytes(*order) != b"little":
            raise PickleError("its numbers are not in little-endian order")
        content = self._bytes(*members[pickles[0]])
        value, end = unpickle(content, 0, self._size)
        if end != len(content):
            raise PickleError("data.pkl goes on behind its end")
        data = f"{prefix}data/"
        return value, {name.removeprefix(data): place for name, place in members.items() if name.startswith(data)}

    def _members(self) -> dict[str, tuple[int, int]]:
        """Name -> (first byte, bytes) of the members of the archive, none of which is compressed."""
        found: dict[str, tuple[int, int]] = {}
        with zipfile.ZipFile(self._path) as archive, self._path.open("rb") as stream:
            entries = archive.infolist()
            if len(entries) > min(_MOST_MEMBERS, self._size // _LOCAL_HEADER):
                raise PickleError(f"its archive has {len(entries):,} members")
            for entry in entries:
                if entry.filename in found:
                    raise PickleError(f"its archive holds {shown(entry.filename)} twice")
                if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                    raise PickleError(f"{shown(entry.filename)} is compressed")
                if entry.flag_bits & 1:
                    raise PickleError(f"{shown(entry.filename)} is encrypted")
                stream.seek(entry.header_offset)
                header = stream.read(_LOCAL_HEADER)
                if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
                    raise PickleError(f"{shown(entry.filename)} is not where the archive says")
                names, extra = struct.unpack("<HH", header[26:30])
                first = entry.header_offset + _LOCAL_HEADER + names + extra
                if entry.file_size < 0 or first + entry.file_size > self._size:
                    raise PickleError(f"{shown(entry.filename)} is cut off")
                found[entry.filename] = (first, entry.file_size)
        spans = sorted(place for place in found.values() if place[1])
        for (start, size), (following, _) in pairwise(spans):
            if start + size > following:
                raise PickleError("members of its archive overlap")
        return found

    def _parse_pickles(self) -> tuple[Any, dict[str, tuple[int, int]]]:
        content = self._bytes(0, min(self._size, _LONGEST_PICKLE))
        place, values = 0, []
        for _ in range(5):
            value, place = unpickle(content, place, self._size)
            values.append(value)
        magic, protocol, system, value, keys = values
        if magic != _MAGIC or protocol != _PROTOCOL:
            raise PickleError("it is a pickle, but none of torch")
        if isinstance(system, dict) and system.get("little_endian") is False:
            raise PickleError("its numbers are not in little-endian order")
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise PickleError("its list of storages is none")
        kinds = {storage.key: storage for storage in _storages(value)}
        storages: dict[str, tuple[int, int]] = {}
        with self._path.open("rb") as stream:
            for key in keys:
                stream.seek(place)
                head = stream.read(8)
                if len(head) < 8:
                    raise PickleError(f"storage {shown(key)} is cut off")
                numel = struct.unpack("<q", head)[0]
                if key in storages or key not in kinds:
                    raise PickleError(f"storage {shown(key)} is listed twice, or used by no tensor")
                size = numel * _DTYPES[_STORAGES[kinds[key].kind]].itemsize if kinds[key].kind in _STORAGES else numel
                if numel != kinds[key].numel or place + 8 + size > self._size:
                    raise PickleError(f"storage {shown(key)} has {numel:,} numbers, more than there are bytes for")
                storages[key] = (place + 8, size)
                place += 8 + size
        if place != self._size:
            raise PickleError(f"{self._size - place:,} bytes are left over at its end")
        return value, storages

    def _bytes(self, start: int, count: int) -> bytes:
        if count > _LONGEST_PICKLE:
            raise PickleError(f"its pickle has {count:,} bytes")
        with self._path.open("rb") as stream:
            stream.seek(start)
            return stream.read(count)

    def _place(self, name: str, tensor: StoredTensor, storages: Mapping[str, tuple[int, int]]) -> _Place:
        storage = tensor.storage
        named = shown_tensor(name)
        if storage.key not in storages:
            raise PickleError(f"{named} is in storage {shown(storage.key)}, which is not there")
        start, size = storages[storage.key]
        if storage.kind in _STORAGES:
            dtype = _DTYPES[_STORAGES[storage.kind]]
            if tensor.dtype is not None and _DTYPES[tensor.dtype] != dtype:
                raise PickleError(f"{named} is {tensor.dtype} in a {storage.kind}")
            if storage.numel * dtype.itemsize != size:
                raise PickleError(f"{named} is in a storage of {storage.numel:,} numbers, which has {size:,} bytes")
        elif tensor.dtype is None:
            raise PickleError(f"{named} has no dtype")
        else:
            dtype = _DTYPES[tensor.dtype]
            if storage.numel != size:
                raise PickleError(f"{named} is in a storage of {storage.numel:,} bytes, which has {size:,}")
        count = prod(tensor.shape)
        if count * dtype.itemsize > self._size:
            raise PickleError(f"{named} of shape {shown(list(tensor.shape))} is larger than the file")
        reach = sum((entries - 1) * stride for entries, stride in zip(tensor.shape, tensor.strides, strict=True))
        last = tensor.offset + reach
        if count and (last + 1) * dtype.itemsize > size:
            raise PickleError(f"{named} of shape {shown(list(tensor.shape))} reaches beyond its storage")
        first = start + tensor.offset * dtype.itemsize
        return _Place(dtype, first, start + (last + 1) * dtype.itemsize, tensor.shape, tensor.strides)


def _tensors(value: Any, inside: Sequence[str]) -> dict[str, StoredTensor]:
    """The tensors of a state dict by name."""
    if isinstance(value, dict) and not any(isinstance(entry, StoredTensor) for entry in value.values()):
        value = next((value[key] for key in inside if isinstance(value.get(key), dict)), value)
    if not isinstance(value, dict) or not value:
        raise PickleError("it holds no dict of tensors")
    for name, tensor in value.items():
        if not isinstance(name, str) or not isinstance(tensor, StoredTensor):
            raise PickleError(f"{shown(name)} is a {type(tensor).__name__}, no tensor")
    return value


def _storages(value: Any) -> list[Storage]:
    """Every storage that tensors in a value use, however deep."""
    found: dict[str, Storage] = {}
    todo, seen = [value], set()
    while todo:
        one = todo.pop()
        if isinstance(one, StoredTensor):
            before = found.setdefault(one.storage.key, one.storage)
            if (before.kind, before.numel) != (one.storage.kind, one.storage.numel):
                raise PickleError(f"storage {shown(one.storage.key)} is described in two ways")
        elif isinstance(one, dict | list | tuple | set) and id(one) not in seen:
            seen.add(id(one))
            todo += one.values() if isinstance(one, dict) else one
    return list(found.values())
