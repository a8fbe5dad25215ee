"""What one device does in a compiled step, read from its scheduled HLO text.

Every count is that of one run of the program: times the trip counts of the loops around it. The loop over micro-batches
has no count before it runs; whoever reads the text says how many there are.

How collectives are counted. On TPUs a collective that runs beside other work is written several times: where it
starts, in the fusions that carry it on, and where it ends. `Collective.written` counts each of them, which is how such
texts are usually compared; `Collective.times` counts the operation once, where it starts, and link bytes follow it. An
all-reduce fused with the slice that follows it counts there as the reduce-scatter that it is.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mentallama_jax.models.attention.forms import BIDIRECTIONAL
from mentallama_jax.planning.hlo_text import HloModule, Instruction, array_bytes, moved_bytes, widest_dimensions

COLLECTIVES = (
    "all-gather",
    "reduce-scatter",
    "all-reduce",
    "all-to-all",
    "collective-permute",
    "all-gather-start",
    "all-reduce-start",
    "collective-permute-start",
)
KERNEL_TARGET = "tpu_custom_call"
TOP = 12
_CARRIES_ON, _ENDS, _SCATTERED = "async_collective_fusion", "AsyncCollectiveDone", "all-reduce-scatter"
_MOVES = frozenset(
    ["copy", "transpose", "reshape", "bitcast", "slice", "dynamic-slice", "dynamic-update-slice", "pad", "concatenate"]
) | frozenset(["broadcast", "iota"])
_COPIES = frozenset(["copy-start", "slice-start", "dynamic-slice-start"])
_NOTHING = frozenset(["parameter", "constant", "tuple", "get-tuple-element"])


@dataclass(frozen=True, slots=True)
class Collective:
    """All collectives of one opcode among the same devices.

    Attributes:
        opcode: as the text has it, with `-start` where it runs beside other work.
        axes: mesh axes along which data travel; `?` where the text does not tell.
        group: devices that take part in each.
        times: operations, each once.
        result_bytes: of what they leave on one device, together.
        written: how often the text has them.
        written_bytes: of the output shapes, as often as the text has them.
    """

    opcode: str
    axes: tuple[str, ...]
    group: int
    times: int
    result_bytes: int
    written: int
    written_bytes: int

    @property
    def kind(self) -> str:
        """The opcode without `-start`."""
        return self.opcode.removesuffix("-start")


@dataclass(frozen=True, slots=True)
class Kernel:
    """Launches of one kernel: `shape` are the sizes of its first output, scratch memory left aside.

    The name of attention without causality begins with the word `bidirectional`.
    """

    name: str
    shape: tuple[int, ...]
    times: int

    @property
    def is_bidirectional(self) -> bool:
        """Whether it computes the whole square of scores."""
        return self.name.startswith(f"{BIDIRECTIONAL} ")


@dataclass(frozen=True, slots=True)
class Costly:
    """Instructions that come from the same place in the program."""

    name: str
    times: int
    cycles: int


@dataclass(frozen=True, slots=True)
class Program:
    """What one device does in one run.

    Attributes:
        matmul_flops: operations of matrix products outside of kernels.
        cycles: the compiler's estimate, without kernels and collectives.
        categories: of these cycles: `matmul`, `copies` (that only move data) and `other`.
        collectives: see `Collective`.
        kernels: see `Kernel`.
        custom_calls: target -> how often it runs.
        top: the most costly instructions.
        copied_beside: bytes that copies move between a chip's memory and its fast one while other work goes on. They
            cost no cycles in the text; what an instruction reads from memory itself is in its cycles.
    """

    matmul_flops: float
    cycles: int
    categories: dict[str, int]
    collectives: tuple[Collective, ...]
    kernels: tuple[Kernel, ...]
    custom_calls: dict[str, int]
    top: tuple[Costly, ...]
    copied_beside: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Program":
        """The program of `to_json`."""
        lists = {
            "collectives": tuple(Collective(**{**one, "axes": tuple(one["axes"])}) for one in values["collectives"]),
            "kernels": tuple(Kernel(**{**one, "shape": tuple(one["shape"])}) for one in values["kernels"]),
            "top": tuple(Costly(**one) for one in values["top"]),
        }
        return cls(**{**values, **lists})


def read_program(text: str, mesh: Mapping[str, int], micro_batches: int = 1) -> Program:
    """Read the text of `compiled.as_text()`.

    Args:
        text: the scheduled module.
        mesh: the size of each mesh axis, in the order of the mesh.
        micro_batches: how often the loop runs whose count the text does not hold.
    """
    module = HloModule(text)
    tally = _Tally(module, mesh, micro_batches)
    tally.walk(module.entry, 1)
    return tally.program()


def read_phases(text: str, mesh: Mapping[str, int]) -> tuple[Program, Program]:
    """Read a program that prepares and then repeats something until its data say stop, such as writing answers.

    Args:
        text: the scheduled module.
        mesh: the size of each mesh axis, in the order of the mesh.

    Returns:
        Everything but the longest loop of the entry; and that loop's body, run once.

    Raises:
        ValueError: the entry holds no loop.
    """
    module = HloModule(text)
    loops = [one.called("body") or "" for one in module.computations[module.entry] if one.opcode == "while"]
    if not loops:
        raise ValueError("the program has no loop")
    repeated = max(loops, key=lambda body: len(module.computations[body]))
    once, again = _Tally(module, mesh, 1), _Tally(module, mesh, 1)
    once.walk(module.entry, 1, without=repeated)
    again.walk(repeated, 1)
    return once.program(), again.program()


def group_axes(line: str, mesh: Mapping[str, int]) -> tuple[tuple[str, ...], int]:
    """The mesh axes that a collective's groups run along, and the devices of a group.

    Partition n of the text is the n-th device of the mesh in row-major order. Groups come listed, as a reshaped and
    transposed count (`[4,2]<=[2,4]T(1,0)`), as axes of a mesh (`mesh['a'=2,'b'=4] {'b'}`), or as pairs.
    """
    groups = _groups(line)
    total = math.prod(mesh.values())
    if groups is None or groups.size == 0 or groups.max() >= total:
        return ("?",), total
    places = np.stack(np.unravel_index(groups, tuple(mesh.values())))  # [axes, groups, members]
    moving = (places != places[:, :, :1]).any(axis=(1, 2))
    axes = tuple(name for name, moves in zip(mesh, moving.tolist(), strict=True) if moves)
    return axes, groups.shape[1]


def _groups(line: str) -> Any:
    """int [groups, members], or None where the text has another form."""
    if found := re.search(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{} ]*\})\}", line):
        rows = [[int(n) for n in row.split(",")] for row in re.findall(r"\{([\d, ]+)\}", found[1])]
        return np.array(rows) if len({len(row) for row in rows}) == 1 else None
    if found := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", line):
        shape, source = ([int(n) for n in found[i].split(",")] for i in (1, 2))
        order = [int(n) for n in found[3].split(",")] if found[3] else range(len(source))
        return np.arange(math.prod(source)).reshape(source).transpose(order).reshape(shape)
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", line):
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", found[1])}
        along = re.findall(r"'(\w+)'", found[2])
        if ":(" in found[2] or any(name not in sizes for name in along):  # a part of an axis
            return None
        order = [i for i, name in enumerate(sizes) if name not in along]
        order += [list(sizes).index(name) for name in along]
        count = np.arange(math.prod(sizes.values())).reshape(list(sizes.values()))
        return count.transpose(order).reshape(-1, math.prod(sizes[name] for name in along))
    return None


class _Tally:
    """Sums over the schedule of a module."""

    def __init__(self, module: HloModule, mesh: Mapping[str, int], micro_batches: int) -> None:
        self.module, self.mesh, self.micro_batches = module, mesh, micro_batches
        self.flops, self.copied = 0.0, 0
        self.categories = dict.fromkeys(("matmul", "copies", "other"), 0)
        self.sums: dict[tuple[str, tuple[str, ...], int], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        self.kernels: Counter[tuple[str, tuple[int, ...]]] = Counter()
        self.custom: Counter[str] = Counter()
        self.costly: dict[str, list[int]] = defaultdict(lambda: [0, 0])

    def walk(self, computation: str, times: int, without: str = "") -> None:
        """Add a computation that runs so many times; not the loop of its own whose body is `without`."""
        for one in self.module.computations.get(computation, []):
            if one.opcode == "while":
                body = one.called("body") or ""
                if body != without:
                    self.walk(body, times * self.module.trip_count(one, self.micro_batches))
            elif one.opcode == "call":
                self.walk(one.called("to_apply") or "", times)
            else:
                self._add(computation, one, times)

    def _add(self, computation: str, one: Instruction, times: int) -> None:
        flops = self.module.matmul_flops(computation, one)
        self.flops += times * flops
        if one.opcode in ("fusion", "async-start"):
            self._fused(one.called("calls") or "", times)
        elif one.opcode in COLLECTIVES:
            self._written(one, times)
            self._operation(one, times)
        elif one.opcode == "custom-call":
            self._custom_call(one, times)
        elif one.opcode in _COPIES:
            self.copied += times * moved_bytes(one.shape)
        if one.cycles:
            self.categories[self._category(one, flops)] += times * one.cycles
            entry = self.costly[f"{re.sub(r'[.0-9]+$', '', one.name)} {one.op_name}".strip()]
            entry[0] += times
            entry[1] += times * one.cycles

    def _category(self, one: Instruction, flops: float) -> str:
        if flops:
            return "matmul"
        opcodes = {one.opcode.removesuffix("-start").removesuffix("-done")}
        if one.opcode == "fusion":
            opcodes = {inner.opcode for inner in self.module.computations.get(one.called("calls") or "", [])}
        return "copies" if opcodes - _NOTHING <= _MOVES else "other"

    def _fused(self, computation: str, times: int) -> None:
        content = self.module.computations.get(computation, [])
        goes_on = computation.startswith(_CARRIES_ON) or any(f'"{_ENDS}"' in one.line for one in content)
        for one in content:
            if one.opcode in COLLECTIVES:
                self._written(one, times)
                if not goes_on:
                    self._operation(one, times, scattered=computation.startswith(_SCATTERED))
            elif one.opcode == "fusion":
                self._fused(one.called("calls") or "", times)

    def _written(self, one: Instruction, times: int) -> None:
        sums = self.sums[one.opcode, *group_axes(one.line, self.mesh)]
        sums[2] += times
        sums[3] += times * sum(array_bytes(one.shape))

    def _operation(self, one: Instruction, times: int, scattered: bool = False) -> None:
        axes, group = group_axes(one.line, self.mesh)
        arrays = array_bytes(one.shape)
        if one.opcode in ("all-gather-start", "collective-permute-start") and len(arrays) > 1:
            arrays = arrays[1:2]  # (operands, results, and what it signals with)
        sums = self.sums["reduce-scatter" if scattered else one.opcode, axes, group]
        sums[0] += times
        sums[1] += times * sum(arrays) // (group if scattered else 1)

    def _custom_call(self, one: Instruction, times: int) -> None:
        target = re.search(r'custom_call_target="([^"]+)"', one.line)
        self.custom[target[1] if target else "?"] += times
        if target and target[1] == KERNEL_TARGET:
            scope = f"{BIDIRECTIONAL} " if BIDIRECTIONAL in one.op_name else ""
            self.kernels[scope + re.sub(r"[.0-9]+$", "", one.name), tuple(widest_dimensions(one.shape))] += times

    def program(self) -> Program:
        """What was added up."""
        ranked = sorted(self.costly.items(), key=lambda item: (-item[1][1], item[0]))
        return Program(
            matmul_flops=self.flops,
            cycles=sum(self.categories.values()),
            categories=self.categories,
            collectives=tuple(Collective(*key, *sums) for key, sums in sorted(self.sums.items())),
            kernels=tuple(Kernel(*key, times) for key, times in sorted(self.kernels.items())),
            custom_calls=dict(sorted(self.custom.items())),
            top=tuple(Costly(name, times, cycles) for name, (times, cycles) in ranked[:TOP]),
            copied_beside=self.copied,
        )
