"""Writes checkpoints in both of torch's forms, without torch: for Pythons that have none, and as a base for damage."""

import io
import struct
import zipfile
from collections.abc import Mapping

import numpy as np

KINDS = {"float32": "Float", "float64": "Double", "float16": "Half", "bfloat16": "BFloat16", "int64": "Long"} | {
    "int32": "Int",
    "int16": "Short",
    "int8": "Char",
    "uint8": "Byte",
    "bool": "Bool",
}
MAGIC = 0x1950A86A20F9469CFC6C


def _text(value: str) -> bytes:
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def _number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    content = value.to_bytes(10, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def _tuple(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def global_(module: str, name: str) -> bytes:
    return b"c" + f"{module}\n{name}\n".encode()


def pickled(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def tensor(name: str, array: np.ndarray, *, legacy: bool) -> bytes:
    """What rebuilds a contiguous tensor whose storage has its name."""
    kind = global_("torch", f"{KINDS[array.dtype.name]}Storage")
    view = (b"N",) if legacy else ()
    storage = _tuple(_text("storage"), kind, _text(name), _text("cpu"), _number(array.size), *view) + b"Q"
    strides = [int(np.prod(array.shape[place + 1 :])) for place in range(array.ndim)]
    sizes = (_tuple(*map(_number, numbers)) for numbers in (array.shape, strides))
    hooks = global_("collections", "OrderedDict") + b")R"
    arguments = _tuple(storage, _number(0), *sizes, b"\x89", hooks)
    return global_("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def state_dict(tensors: Mapping[str, np.ndarray], *, legacy: bool) -> bytes:
    items = b"".join(_text(name) + tensor(name, array, legacy=legacy) for name, array in tensors.items())
    return global_("collections", "OrderedDict") + b")R(" + items + b"u"


def zip_file(tensors: Mapping[str, np.ndarray], body: bytes | None = None) -> bytes:
    """The archive that torch writes since version 1.6."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickled(state_dict(tensors, legacy=False) if body is None else body))
        archive.writestr("archive/byteorder", "little")
        for name, array in tensors.items():
            archive.writestr(f"archive/data/{name}", np.ascontiguousarray(array).tobytes())
        archive.writestr("archive/version", "3\n")
    return stream.getvalue()


def legacy_file(tensors: Mapping[str, np.ndarray], body: bytes | None = None) -> bytes:
    """The sequence of pickles that torch wrote before."""
    system = b"}(" + _text("little_endian") + b"\x88u"
    keys = b"](" + b"".join(map(_text, tensors)) + b"e"
    body = state_dict(tensors, legacy=True) if body is None else body
    parts = [pickled(part) for part in (_number(MAGIC), _number(1001), system, body, keys)]
    parts += [struct.pack("<q", array.size) + np.ascontiguousarray(array).tobytes() for array in tensors.values()]
    return b"".join(parts)


WRITERS = {"zip": zip_file, "legacy": legacy_file}
