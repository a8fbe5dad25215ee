"""Reads the pickles of torch checkpoints without executing anything: a stack machine with an allow-list.

Python's `pickle` calls whatever a file names. This one knows the few opcodes and the few names that a state dict is
made of, builds plain values and descriptions of tensors, and refuses everything else by its name.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mentallama_jax.foreign import shown

_FREE_OPCODES = 1 << 16
_BYTES_PER_OPCODE = 64
"""A small file may be all opcodes; a large one is mostly tensors. What they build takes about 100 bytes each."""
_DEEPEST = 64
_LONGEST_INTEGER = 16  # bytes


class PickleError(Exception):
    """The pickle asks for something that is not allowed, or is not whole; the message says what."""


@dataclass(frozen=True, slots=True)
class Global:
    """A name that a pickle asks for, and that is allowed."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers in the file, or a view of one.

    Attributes:
        kind: name of the storage's type, such as FloatStorage.
        key: of the storage in the file.
        numel: numbers, of `kind`; bytes of an UntypedStorage.
        offset: of a view into the storage `key`, in numbers.
    """

    kind: str
    key: str
    numel: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as a view of a storage; counts are in numbers of its type.

    Attributes:
        storage: where its numbers are.
        offset: of the first one.
        shape: sizes.
        strides: numbers from one entry to the next, along each dimension.
        dtype: a name such as float32 where the storage is untyped, else None.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str | None = None


STORAGES = tuple(
    f"{kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
)
_DTYPES = (
    *("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "uint16"),
    *("uint32", "uint64"),
)
_ALLOWED = {
    *(("torch", name) for name in (*STORAGES, *_DTYPES, "Size")),
    *(("torch._utils", f"_rebuild_{name}") for name in ("tensor", "tensor_v2", "tensor_v3", "parameter")),
    ("torch.storage", "UntypedStorage"),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
}
_MARK = object()


def unpickle(content: bytes, start: int, file_size: int) -> tuple[Any, int]:
    """The value of the pickle that begins at `start`, and the place behind it.

    Args:
        content: bytes that hold the pickle.
        start: where it begins.
        file_size: of the whole file; what a pickle may build is bounded by it.

    Raises:
        PickleError: an opcode or a name that is not allowed, wrong arguments, more than a file of this size needs, or
            an end before the end.
    """
    return _Machine(content, start, _FREE_OPCODES + file_size // _BYTES_PER_OPCODE).run()


class _Machine:
    def __init__(self, content: bytes, start: int, most: int) -> None:
        self._content, self._at, self._left = content, start, most
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> tuple[Any, int]:
        while True:
            self._left -= 1
            if self._left < 0:
                raise PickleError("it has more parts than a file of this size can need")
            opcode = self._take(1)
            if opcode == b".":
                value = self._pop()
                if self._stack:
                    raise PickleError("values are left over at its end")
                return value, self._at
            action = _ACTIONS.get(opcode)
            if action is None:
                raise PickleError(f"opcode {_NAMES.get(opcode, repr(opcode)[1:])} is not allowed")
            action(self)

    def _take(self, count: int) -> bytes:
        if count < 0 or self._at + count > len(self._content):
            raise PickleError("it is cut off")
        self._at += count
        return self._content[self._at - count : self._at]

    def _number(self, form: str) -> int:
        return int(struct.unpack(form, self._take(struct.calcsize(form)))[0])

    def _line(self) -> str:
        end = self._content.find(b"\n", self._at, self._at + 256)
        if end < 0:
            raise PickleError("a name is not ended")
        line = self._take(end + 1 - self._at)[:-1]
        return self._text(line)

    def _text(self, content: bytes) -> str:
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            raise PickleError("a text is not UTF-8") from None

    def _pop(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise PickleError("a value is missing")
        return self._stack.pop()

    def _top(self, kind: type) -> Any:
        if not self._stack or not isinstance(self._stack[-1], kind):
            raise PickleError(f"a {kind.__name__} is missing")
        return self._stack[-1]

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _from_mark(self) -> list[Any]:
        for place in range(len(self._stack) - 1, -1, -1):
            if self._stack[place] is _MARK:
                items = self._stack[place + 1 :]
                del self._stack[place:]
                return items
        raise PickleError("a mark is missing")

    # Numbers, texts and constants.

    def protocol(self) -> None:
        version = self._take(1)[0]
        if version > 5:
            raise PickleError(f"protocol {version} is not known")

    def frame(self) -> None:
        self._take(8)  # a hint for readers of streams

    def integer(self, form: str) -> None:
        self._push(self._number(form))

    def long(self) -> None:
        count = self._number("<B")
        if count > _LONGEST_INTEGER:
            raise PickleError(f"an integer of {count} bytes is not allowed")
        self._push(int.from_bytes(self._take(count), "little", signed=True))

    def float(self) -> None:
        self._push(struct.unpack(">d", self._take(8))[0])

    def text(self, form: str) -> None:
        self._push(self._text(self._take(self._number(form))))

    def bytes_(self, form: str) -> None:
        self._push(self._take(self._number(form)))

    def old_text(self, form: str) -> None:
        self._push(self._take(self._number(form)).decode("latin-1"))  # a `str` of Python 2

    # Containers.

    def tuple_of(self, count: int) -> None:
        items = [self._pop() for _ in range(count)][::-1]
        self._push(tuple(items))

    def tuple_from_mark(self) -> None:
        self._push(tuple(self._from_mark()))

    def append(self) -> None:
        value = self._pop()
        self._top(list).append(value)

    def appends(self) -> None:
        items = self._from_mark()
        self._top(list).extend(items)

    def add_items(self) -> None:
        items = self._from_mark()
        for item in items:
            self._check_key(item)
        self._top(set).update(items)

    def set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._set(self._top(dict), key, value)

    def set_items(self) -> None:
        items = self._from_mark()
        if len(items) % 2:
            raise PickleError("a key has no value")
        target = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._set(target, key, value)

    def _set(self, target: dict[Any, Any], key: Any, value: Any) -> None:
        self._check_key(key)
        if key in target:
            raise PickleError(f"{shown(key)} stands twice")
        target[key] = value

    def _check_key(self, key: Any) -> None:
        if not isinstance(key, str | int | float | bytes | bool):
            raise PickleError(f"a key is a {type(key).__name__}")

    # The memo.

    def put(self, form: str) -> None:
        number = self._number(form)
        if not self._stack or self._stack[-1] is _MARK:
            raise PickleError("a value is missing")
        self._memo[number] = self._stack[-1]

    def memoize(self) -> None:
        if not self._stack or self._stack[-1] is _MARK:
            raise PickleError("a value is missing")
        self._memo[len(self._memo)] = self._stack[-1]

    def get(self, form: str) -> None:
        number = self._number(form)
        if number not in self._memo:
            raise PickleError("it goes back to a value that is not there")
        self._push(self._memo[number])

    # Names and what is made of them.

    def global_(self) -> None:
        self._push(self._allowed(self._line(), self._line()))

    def stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._push(self._allowed(module, name))

    def _allowed(self, module: Any, name: Any) -> Global:
        if not isinstance(module, str) or not isinstance(name, str) or (module, name) not in _ALLOWED:
            raise PickleError(f"it asks for {shown(f'{module}.{name}')}, which is not allowed")
        return Global(module, name)

    def reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise PickleError("it calls something that is no function")
        maker = _MAKERS.get((function.module, function.name))
        if maker is None:
            raise PickleError(f"it calls {function}, which is not allowed")
        self._push(maker(*_checked(function, arguments)))

    def build(self) -> None:
        self._pop()  # the `_metadata` of a state dict: versions of modules
        self._top(dict)

    def persistent(self) -> None:
        self._push(_storage(self._pop()))


def _checked(function: Global, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    least, most = _ARGUMENTS[(function.module, function.name)]
    if not least <= len(arguments) <= most:
        raise PickleError(f"{function} has {len(arguments)} arguments")
    return arguments


def _storage(identity: Any) -> Storage:
    """What a persistent id describes: ('storage', type, key, place, numbers[, view])."""
    match identity:
        case ("storage", Global(module, name), str(key), str(), int(numel), *view) if len(view) <= 1:
            if name not in STORAGES and (module, name) != ("torch.storage", "UntypedStorage"):
                raise PickleError(f"{module}.{name} is no storage")
            if type(numel) is not int or numel < 0:
                raise PickleError(f"storage {shown(key)} has {numel} numbers")
            match view:
                case [] | [None]:
                    return Storage(name, key, numel)
                case [(str(), int(offset), int(size))] if min(offset, size) >= 0 and offset + size <= numel:
                    # Old files: `numel` is of the whole storage, the view a part of it.
                    return Storage(name, key, numel, offset)
    raise PickleError("it refers to something that is no storage")


def _counts(values: Any, what: str) -> tuple[int, ...]:
    if not isinstance(values, tuple) or not all(type(value) is int and 0 <= value < 2**62 for value in values):
        raise PickleError(f"a tensor's {what} is {shown(values)}")
    return values


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> StoredTensor:
    if not isinstance(storage, Storage):
        raise PickleError("a tensor has no storage")
    (place,) = _counts((offset,), "offset")
    shape, strides = _counts(shape, "shape"), _counts(strides, "strides")
    if len(shape) != len(strides) or len(shape) > _DEEPEST:
        raise PickleError(f"a tensor of shape {shown(list(shape))} has strides {shown(list(strides))}")
    return StoredTensor(storage, place + storage.offset, shape, strides)


def _tensor_v3(storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, *_: Any) -> Any:
    if not isinstance(dtype, Global) or dtype.name not in _DTYPES:
        raise PickleError("a tensor has no known dtype")
    plain = _tensor(storage, offset, shape, strides)
    return StoredTensor(plain.storage, plain.offset, plain.shape, plain.strides, dtype.name)


def _parameter(tensor: Any, *_: Any) -> StoredTensor:
    if not isinstance(tensor, StoredTensor):
        raise PickleError("a parameter is no tensor")
    return tensor


def _dict(entries: Any = ()) -> dict[Any, Any]:
    """An OrderedDict: empty and filled later, or of [key, value] pairs as Python 2 wrote it."""
    found: dict[Any, Any] = {}
    if not isinstance(entries, list | tuple):
        raise PickleError("an OrderedDict is made of something else than pairs")
    for entry in entries:
        if not isinstance(entry, list | tuple) or len(entry) != 2 or not isinstance(entry[0], str | int):
            raise PickleError("an OrderedDict is made of something else than pairs")
        if entry[0] in found:
            raise PickleError(f"{shown(entry[0])} stands twice")
        found[entry[0]] = entry[1]
    return found


def _size(values: Any = ()) -> tuple[int, ...]:
    return _counts(tuple(values) if isinstance(values, list | tuple) else values, "size")


def _encoded(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise PickleError("a text is encoded in an unknown way")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise PickleError("a text is not Latin-1") from None


_MAKERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("collections", "OrderedDict"): _dict,
    ("torch", "Size"): _size,
    ("_codecs", "encode"): _encoded,
}
_ARGUMENTS = {
    ("torch._utils", "_rebuild_tensor"): (4, 4),
    ("torch._utils", "_rebuild_tensor_v2"): (4, 7),
    ("torch._utils", "_rebuild_tensor_v3"): (7, 8),
    ("torch._utils", "_rebuild_parameter"): (1, 3),
    ("collections", "OrderedDict"): (0, 1),
    ("torch", "Size"): (0, 1),
    ("_codecs", "encode"): (2, 2),
}


_ACTIONS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": _Machine.protocol,
    b"\x95": _Machine.frame,
    b"(": lambda m: m._push(_MARK),
    b"}": lambda m: m._push({}),
    b"]": lambda m: m._push([]),
    b")": lambda m: m._push(()),
    b"\x8f": lambda m: m._push(set()),
    b"t": _Machine.tuple_from_mark,
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"a": _Machine.append,
    b"e": _Machine.appends,
    b"\x90": _Machine.add_items,
    b"s": _Machine.set_item,
    b"u": _Machine.set_items,
    b"b": _Machine.build,
    b"R": _Machine.reduce,
    b"\x81": _Machine.reduce,  # NEWOBJ: the same for what is allowed
    b"c": _Machine.global_,
    b"\x93": _Machine.stack_global,
    b"Q": _Machine.persistent,
    b"h": lambda m: m.get("<B"),
    b"j": lambda m: m.get("<I"),
    b"q": lambda m: m.put("<B"),
    b"r": lambda m: m.put("<I"),
    b"\x94": _Machine.memoize,
    b"X": lambda m: m.text("<I"),
    b"\x8c": lambda m: m.text("<B"),
    b"\x8d": lambda m: m.text("<Q"),
    b"U": lambda m: m.old_text("<B"),
    b"T": lambda m: m.old_text("<I"),
    b"C": lambda m: m.bytes_("<B"),
    b"B": lambda m: m.bytes_("<I"),
    b"J": lambda m: m.integer("<i"),
    b"K": lambda m: m.integer("<B"),
    b"M": lambda m: m.integer("<H"),
    b"\x8a": _Machine.long,
    b"G": _Machine.float,
    b"N": lambda m: m._push(None),
    b"\x88": lambda m: m._push(True),
    b"\x89": lambda m: m._push(False),
}
_NAMES = {b"i": "INST", b"o": "OBJ", b"\x92": "NEWOBJ_EX", b"P": "PERSID", b"\x82": "EXT1", b"\x83": "EXT2"} | {
    b"\x84": "EXT4",
    b"0": "POP",
    b"2": "DUP",
    b"F": "FLOAT",
    b"I": "INT",
    b"L": "LONG",
    b"S": "STRING",
    b"V": "UNICODE",
    b"g": "GET",
    b"p": "PUT",
    b"d": "DICT",
    b"l": "LIST",
    b"1": "POP_MARK",
    b"\x8b": "LONG4",
    b"\x8e": "BINBYTES8",
    b"\x91": "FROZENSET",
    b"\x96": "BYTEARRAY8",
    b"\x97": "NEXT_BUFFER",
    b"\x98": "READONLY_BUFFER",
}
