"""The text of a scheduled XLA module as computations of instructions, with the trip counts of its loops."""

import math
import re
from dataclasses import dataclass, replace
from functools import cached_property

_BYTES = {
    **dict.fromkeys(("pred", "s8", "u8", "f8e4m3fn", "f8e5m2"), 1),
    **dict.fromkeys(("bf16", "f16", "s16", "u16"), 2),
    **dict.fromkeys(("f32", "s32", "u32"), 4),
    **dict.fromkeys(("f64", "s64", "u64"), 8),
}
_COMPUTATION = re.compile(r"^(ENTRY\s+)?%?([\w.\-]+)\s*\(.*\)\s*->.*\{\s*$")
_NAME = re.compile(r"(?:ROOT )?%?([\w.\-]+) = ")
_OPCODE = re.compile(r" ([\w\-]+)\(")
_CONSTANT = re.compile(r"(?:ROOT )?%?([\w.\-]+) = [su]32\[\][^ ]* constant\((-?\d+)\)")
_NO_ESTIMATE = 2**60
"""The compiler writes numbers about as large where it has no estimate."""


def dimensions(shape: str) -> list[int]:
    """The sizes of the first array in an HLO shape: `bf16[4,128]{1,0}` gives [4, 128]."""
    found = re.search(r"\[([\d,]*)\]", shape)
    return [int(size) for size in found[1].split(",") if size] if found else []


def widest_dimensions(shape: str) -> list[int]:
    """The sizes of the first array of an HLO shape that has the most dimensions.

    In jax 0.10 the outputs of the splash kernel come behind its scratch memory, which has a dimension less.
    """
    arrays = [dimensions(array) for array in re.findall(r"\[[\d,]*\]", shape)]
    return max(arrays, key=len, default=[])


def array_bytes(shape: str) -> list[int]:
    """The bytes of each array in an HLO shape, which may be a tuple."""
    return [
        _BYTES[dtype] * math.prod(int(size) for size in sizes.split(",") if size)
        for dtype, sizes in re.findall(r"(\w+)\[([\d,]*)\]", shape)
        if dtype in _BYTES
    ]


_ARRAY = re.compile(r"(\w+\[[\d,]*\])(\{[^{}]*\})?")
_FAST = "S(1)"
"""How the layout of an array says that it lies in the fast memory of a TPU core; one without `S` lies in the other."""


def moved_bytes(shape: str) -> int:
    """Bytes that an asynchronous copy moves between the memory of a chip and its fast one, by the shape of its start.

    A slice has its whole operand in the shape; what lies in the fast memory is what is moved. 0 where both ends lie in
    one memory.
    """
    arrays = [(array, layout) for array, layout in _ARRAY.findall(shape) if array_bytes(array) and "S(2)" not in layout]
    fast = [sum(array_bytes(array)) for array, layout in arrays if _FAST in layout]
    return min(fast) if 0 < len(fast) < len(arrays) else 0


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line: `name = shape opcode(operands), attributes`; and of a kernel the `further` lines of its attributes."""

    name: str
    shape: str
    opcode: str
    line: str
    further: str = ""

    @property
    def cycles(self) -> int:
        """The compiler's own estimate for one run; 0 where it gives none, as for kernels and collectives."""
        found = re.search(r'estimated_cycles":"?(\d+)', self.line)
        return int(found[1]) if found and int(found[1]) < _NO_ESTIMATE else 0

    @property
    def op_name(self) -> str:
        """Where in the program it comes from."""
        found = re.search(r'op_name="([^"]*)"', self.line + self.further)
        return found[1] if found else ""

    def called(self, attribute: str) -> str | None:
        """The computation behind an attribute such as `calls` or `body`."""
        found = re.search(rf"\b{attribute}=%?([\w.\-]+)", self.line)
        return found[1] if found else None

    @property
    def operands(self) -> list[str]:
        """Names of what the parentheses hold, for opcodes whose operands are plain arrays."""
        found = re.search(rf" {re.escape(self.opcode)}\(([^)]*)\)", self.line)
        return [item.strip().split(" ")[-1].lstrip("%") for item in found[1].split(", ")] if found else []


def parse_instruction(line: str) -> Instruction | None:
    """The instruction of a line of HLO text; None where it holds none."""
    head = _NAME.match(line)
    if not head:
        return None
    depth, end = 0, head.end()
    while end < len(line) and not (line[end] == " " and depth == 0):  # a shape may be a tuple, with blanks inside
        depth += line[end] in "([{"
        depth -= line[end] in ")]}"
        end += 1
    opcode = _OPCODE.match(line[end:])
    return Instruction(head[1], line[head.end() : end], opcode[1], line) if opcode else None


class HloModule:
    """A scheduled module: `computations` by name, and the name of the `entry`."""

    def __init__(self, text: str) -> None:
        self.entry = ""
        lines: dict[str, list[list[str]]] = {}
        current: list[list[str]] | None = None
        for line in text.splitlines():
            head = None if line.startswith("  ") else _COMPUTATION.match(line)
            if head:
                current = lines[head[2]] = []
                self.entry = head[2] if head[1] else self.entry
            elif line.rstrip() in ("}", "} // ENTRY"):
                current = None
            elif current is not None and line.startswith("  "):
                current.append([line.strip()])
            elif current:
                current[-1].append(line)
        self.computations = {
            name: [replace(one, further="".join(more)) for line, *more in content if (one := parse_instruction(line))]
            for name, content in lines.items()
        }
        self._constants = {
            found[1]: int(found[2])
            for content in lines.values()
            for line, *_ in content
            if (found := _CONSTANT.match(line))
        }
        self._flops: dict[str, float] = {}

    @cached_property
    def _shapes(self) -> dict[tuple[str, str], str]:
        return {(name, one.name): one.shape for name, content in self.computations.items() for one in content}

    def trip_count(self, loop: Instruction, unknown: int = 1) -> int:
        """How often a counted `while` runs, for a counter from 0: its limit over its step, rounded up.

        `unknown` is for a loop whose limit is only known when it runs, such as that over micro-batches.
        """
        condition = self.computations.get(loop.called("condition") or "", [])
        limit, counter = 1, None
        for compare in (one for one in condition if one.opcode == "compare"):
            limit = next((self._constants[name] for name in compare.operands if name in self._constants), limit)
            for other in condition:
                index = re.search(r"get-tuple-element\(.*\), index=(\d+)", other.line)
                if index and other.name in compare.operands and not other.line.startswith("ROOT"):
                    counter = int(index[1])
        if limit == 1:  # the comparison itself may be inside a fusion; its limit is then the largest constant beside it
            found = [self._constants[one.name] for one in condition if one.name in self._constants]
            limit = max(found, default=unknown)
        return limit if counter is None else math.ceil(limit / self._step(loop.called("body") or "", counter))

    def _step(self, body: str, counter: int) -> int:
        content = {one.name: one for one in self.computations[body]}
        root = next(one for one in self.computations[body] if one.line.startswith("ROOT"))
        results = re.search(r" tuple\((.*?)\)(?:,|$)", root.line)
        names = re.findall(r"%([\w.\-]+)", results[1]) if results else []
        if counter >= len(names) or names[counter] not in content:
            return 1
        added = re.search(r" add\(([^)]*)\)", content[names[counter]].line)
        operands = re.findall(r"%([\w.\-]+)", added[1]) if added else []
        return next((self._constants[name] for name in operands if name in self._constants), 1)

    def matmul_flops(self, computation: str, one: Instruction) -> float:
        """Operations of one run of an instruction: `dot`, `convolution`, or a fusion that holds some; else 0.

        A multiply and an add are two. A convolution counts only the taps that meet data.
        """
        if one.opcode in ("fusion", "async-start"):
            called = one.called("calls")
            return self._fused_flops(called) if called else 0.0
        if one.opcode not in ("dot", "convolution"):
            return 0.0
        left, right = (dimensions(self._shapes[computation, name]) for name in one.operands[:2])
        out = dimensions(one.shape)
        if one.opcode == "dot":
            contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", one.line)
            axes = [int(axis) for axis in contracted[1].split(",") if axis] if contracted else []
            return 2.0 * math.prod(out) * math.prod(left[axis] for axis in axes)
        labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", one.line)
        if labels is None:
            return 0.0
        taps = _taps(one.line, left, out, labels[1], labels[2], labels[3])
        return 2.0 * math.prod(out) * right[labels[2].index("i")] * taps

    def _fused_flops(self, computation: str) -> float:
        if computation not in self._flops:
            content = [one for one in self.computations.get(computation, []) if one.opcode != "async-start"]
            self._flops[computation] = sum((self.matmul_flops(computation, one) for one in content), 0.0)
        return self._flops[computation]


def _taps(line: str, left: list[int], out: list[int], left_labels: str, labels: str, out_labels: str) -> float:
    """How many elements of a convolution's window meet data, on average over (64 at most of) its places."""

    def sizes(attribute: str) -> list[str] | None:
        found = re.search(rf"{attribute}=([\dx_\-]+)", line)
        return found[1].split("x") if found else None

    taps, window = 1.0, sizes(r"window=\{size")
    pads, strides, dilations = sizes("pad"), sizes("stride"), sizes("lhs_dilate")
    for i, (axis, size) in enumerate(zip(sorted(c for c in labels if c.isdigit()), window or [], strict=False)):
        n_in, n_out = left[left_labels.index(axis)], min(out[out_labels.index(axis)], 64)
        pad = int(pads[i].split("_")[0]) if pads else 0
        stride = int(strides[i]) if strides else 1
        dilation = int(dilations[i]) if dilations else 1
        places = (o * stride + w - pad for o in range(n_out) for w in range(int(size)))
        taps *= sum(0 <= place <= (n_in - 1) * dilation and place % dilation == 0 for place in places) / n_out
    return taps
