"""Chips, and the names that they are rented by.

`v5e-N` and `v6e-N` count chips; `v4-N` and `v5p-N` count TensorCores, two a chip, so that v5p-64 is 32 chips. The
compiler wants shapes such as `v5e:8x8`.

Where the figures come from. Peaks, clocks and counts: the vendors' pages and data sheets; the network of v5e, v5p and
v6e, and the memory bandwidth of all TPUs: cloud.google.com/tpu/docs, read in 2026; that of GPUs: the data sheets of the
SXM cards. A link of 45 or 90 GB/s one way is the figure in common use for planning, a tenth below what those pages
print. Memory of v5e is what its compiler refuses beyond; that of other TPUs, the network of v4 and all links of GPUs
are not checked against anything here.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from mentallama_jax.errors import UserError
from mentallama_jax.planning.vendor_names import FAMILIES, plain_name

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Chip:
    """What one chip has.

    Attributes:
        kind: as the vendor calls it.
        memory: bytes that a program may use, a little below what is printed on it; the compiler decides what fits.
        peak_flops: dense bf16 operations a second.
        memory_bandwidth: bytes a second between a chip and its memory.
        clock: cycles a second of the compiler's estimates; 0 where there is no compiler for it.
        link_bytes: bytes a second out of one chip over all its links to others of its slice or node.
        network_bytes: bytes a second a chip between slices or nodes.
        cores_in_name: what the number of a vendor's name counts, for each chip.
        shape_dimensions: of the compiler's shapes; 0 for GPUs.
        largest: chips of the largest slice or node.
        host: chips that one host has at most.
    """

    kind: str
    memory: int
    peak_flops: float
    memory_bandwidth: float
    clock: float
    link_bytes: float
    network_bytes: float
    cores_in_name: int
    shape_dimensions: int
    largest: int
    host: int


CHIPS: Mapping[str, Chip] = {
    "v4": Chip("TPU v4", 30 * GIB + 3 * GIB // 4, 275e12, 1200e9, 1.05e9, 6 * 45e9, 3.1e9, 2, 3, 4096, 4),
    "v5e": Chip("TPU v5e", 15 * GIB + 3 * GIB // 4, 197e12, 819e9, 1.5e9, 4 * 45e9, 3.1e9, 1, 2, 256, 8),
    "v5p": Chip("TPU v5p", 95 * GIB + 47 * GIB // 64, 459e12, 2765e9, 1.75e9, 6 * 90e9, 6.25e9, 2, 3, 6144, 4),
    "v6e": Chip("TPU v6e", 31 * GIB + GIB // 4, 918e12, 1638e9, 1.75e9, 4 * 90e9, 12.5e9, 1, 2, 256, 8),
    "a100": Chip("NVIDIA A100 80GB", 80 * 10**9, 312e12, 2039e9, 0.0, 300e9, 25e9, 1, 0, 8, 8),
    "h100": Chip("NVIDIA H100 80GB HBM3", 80 * 10**9, 989e12, 3350e9, 0.0, 450e9, 50e9, 1, 0, 8, 8),
    "h200": Chip("NVIDIA H200", 141 * 10**9, 989e12, 4800e9, 0.0, 450e9, 50e9, 1, 0, 8, 8),
}


@dataclass(frozen=True, slots=True)
class Topology:
    """Chips that a job runs on.

    Attributes:
        name: as it was asked for.
        family: key of `CHIPS`.
        shape: of a slice, such as (8, 8); for GPUs (GPUs of a node,).
        slices: slices, or nodes, joined by a network.
    """

    name: str
    family: str
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def chip(self) -> Chip:
        """Its chip."""
        return CHIPS[self.family]

    @property
    def chips(self) -> int:
        """The devices of all slices."""
        return math.prod(self.shape) * self.slices

    @property
    def devices(self) -> int:
        """What jax sees: a device a chip, but two a chip of v4, whose compiler here takes the cores apart."""
        return self.chips * (2 if self.family == "v4" else 1)

    @property
    def is_one_host(self) -> bool:
        """Whether one host has all of its chips."""
        return self.chips <= self.chip.host

    @property
    def host_devices(self) -> int:
        """The devices of each host: of several that share a slice of TPUs each has four chips."""
        chips = min(self.chips, self.chip.host if self.is_one_host or self.is_gpu else 4)
        return self.devices * chips // self.chips

    @property
    def device_memory(self) -> int:
        """Bytes that a program may use on a device."""
        return self.chip.memory * self.chips // self.devices

    @property
    def is_gpu(self) -> bool:
        """Whether there is no compiler for it without a device."""
        return self.chip.shape_dimensions == 0

    @property
    def compiler_name(self) -> str:
        """The name of a slice for the compiler, such as `v5e:8x8`."""
        return f"{self.family}:{'x'.join(map(str, self.shape))}"


def parse_topology(name: str, slices: int = 1) -> Topology:
    """The topology behind `v5e-64`, `v5p-64`, `v5e:4x8` or `h100-8`, or behind a vendor's name of the same chips.

    Raises:
        UserError: no such family, or a count or shape that its slices cannot have.
    """
    found = re.fullmatch(r"([a-z0-9]+)(?:-(\d{1,6})|:(\d{1,6}(?:x\d{1,6})*))", plain_name(name))
    if found is None or found[1] not in CHIPS:
        near = re.fullmatch(r"([a-z0-9]+)[-_ ](\d{1,6})\D*|([a-z]+\d[a-z]+)(\d{1,6})\D*", name.strip().lower())
        said, number = filter(None, near.groups()) if near else ("", "")
        if meant := get_close_matches(said, [*CHIPS, *FAMILIES], n=1, cutoff=0.6):
            raise UserError(f"--topology {name[:40]}: no such name; did you mean {meant[0]}-{number}?")
        raise UserError(
            f"--topology {name[:40]}: expected a name such as v5e-64, v5litepod-64, v5p-64, h100-8, H100x8 or "
            "a3-highgpu-8g, or a shape such as v5e:8x8"
        )
    if slices < 1:
        raise UserError("--slices: at least 1")
    family, chip = found[1], CHIPS[found[1]]
    if found[3]:
        shape = tuple(int(size) for size in found[3].split("x"))
        if len(shape) != max(chip.shape_dimensions, 1) or 0 in shape:
            raise UserError(f"--topology {name}: shapes of {family} have {max(chip.shape_dimensions, 1)} sizes above 0")
        return _checked(Topology(name, family, shape, slices))
    count, rest = divmod(int(found[2]), chip.cores_in_name)
    if rest or not count:
        raise UserError(f"--topology {name}: {family}-N counts TensorCores, {chip.cores_in_name} a chip")
    if chip.shape_dimensions == 0:
        nodes, left = divmod(count, chip.largest)
        if nodes and left:
            raise UserError(f"--topology {name}: {family} nodes have {chip.largest} GPUs; choose a multiple")
        return Topology(name, family, (min(count, chip.largest),), slices * max(nodes, 1))
    return _checked(Topology(name, family, _shape(name, count, chip), slices))


def _checked(topology: Topology) -> Topology:
    if math.prod(topology.shape) > topology.chip.largest:
        raise UserError(
            f"--topology {topology.name}: a slice has at most {topology.chip.largest} chips; take several with --slices"
        )
    return topology


def _shape(name: str, chips: int, chip: Chip) -> tuple[int, ...]:
    """The most compact shape whose sizes are powers of two, smaller ones first; a few chips lie in one plane."""
    power = chips.bit_length() - 1
    if chips != 2**power:
        family = name.partition("-")[0]
        near = " or ".join(f"{family}-{count * chip.cores_in_name}" for count in (2**power, 2 ** (power + 1)))
        raise UserError(
            f"--topology {name}: {chips} chips are no power of two; take {near}, or give a shape such as "
            f"{'v5p:4x4x12' if chip.shape_dimensions == 3 else 'v5e:4x12'}"
        )
    if chip.shape_dimensions == 3 and chips <= 4:
        return {1: (1, 1, 1), 2: (1, 2, 1), 4: (2, 2, 1)}[chips]
    each, more = divmod(power, chip.shape_dimensions)
    return tuple(sorted(2 ** (each + (axis < more)) for axis in range(chip.shape_dimensions)))
