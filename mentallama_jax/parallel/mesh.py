"""The mesh of devices that a run computes on."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager

import jax
from jax.experimental.mesh_utils import create_device_mesh, create_hybrid_device_mesh
from jax.sharding import AxisType, Mesh

from mentallama_jax.config import MeshSection
from mentallama_jax.errors import UserError

AXES = ("data", "fsdp", "tensor", "sequence")
"""From the slowest links to the fastest; `parallel.rules` says what is cut along each."""


def mesh_sizes(config: MeshSection, devices: int, slices: int) -> dict[str, int]:
    """The sizes of the axes that a config asks of a number of devices, which a number of slices share evenly.

    Where `fsdp` is null it takes the devices that the other axes leave.

    Raises:
        UserError: the axes do not multiply to the devices, or `data` does not divide among the slices.
    """
    fsdp = config.fsdp or max(devices // (config.data * config.tensor * config.sequence), 1)
    sizes = dict(zip(AXES, (config.data, fsdp, config.tensor, config.sequence), strict=True))
    wanted = math.prod(sizes.values())
    if wanted != devices:
        asked = " x ".join(f"{name} {size}" for name, size in sizes.items())
        raise UserError(
            f"mesh: {asked} is {wanted} devices and there are {devices}; "
            "change mesh.data, mesh.tensor or mesh.sequence, and leave mesh.fsdp null to take the rest"
        )
    if config.data % slices:
        raise UserError(f"mesh: {slices} slices want a mesh.data that is a multiple of {slices}")
    return sizes


def make_mesh(config: MeshSection, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh that a config asks for, over all devices of all processes by default.

    Where `fsdp` is null it takes the devices that the other axes leave. Where it is given, one process may use fewer
    devices than it has: the first ones are taken. Of several slices, `data` crosses from one to the next. The
    compiler places what no rule fixes (`AxisType.Auto`).

    Raises:
        UserError: see `mesh_sizes`.
    """
    devices = jax.devices() if devices is None else devices
    if config.fsdp is not None and jax.process_count() == 1:
        devices = devices[: config.data * config.fsdp * config.tensor * config.sequence]
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    sizes = tuple(mesh_sizes(config, len(devices), slices).values())
    types = (AxisType.Auto,) * len(AXES)
    if slices == 1:
        return Mesh(create_device_mesh(sizes, devices, allow_split_physical_axes=True), AXES, axis_types=types)
    inside, across = (config.data // slices, *sizes[1:]), (slices, 1, 1, 1)
    placed = create_hybrid_device_mesh(inside, across, devices, allow_split_physical_axes=True)
    return Mesh(placed, AXES, axis_types=types)


def use_mesh(mesh: Mesh) -> AbstractContextManager[object]:
    """Inside this context `parallel.rules` shard along `mesh`; outside of any, nothing is sharded."""
    return jax.set_mesh(mesh)
