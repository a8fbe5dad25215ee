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


def make_mesh(config: MeshSection, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh that a config asks for, over all devices of all processes by default.

    Where `fsdp` is null it takes the devices that the other axes leave. Where it is given, one process may use fewer
    devices than it has: the first ones are taken. Of several slices, `data` crosses from one to the next. The
    compiler places what no rule fixes (`AxisType.Auto`).

    Raises:
        UserError: the axes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    others = config.data * config.tensor * config.sequence
    fsdp = config.fsdp or max(len(devices) // others, 1)
    sizes = (config.data, fsdp, config.tensor, config.sequence)
    if config.fsdp is not None and jax.process_count() == 1:
        devices = devices[: math.prod(sizes)]
    if math.prod(sizes) != len(devices):
        asked = " x ".join(f"{name} {size}" for name, size in zip(AXES, sizes, strict=True))
        raise UserError(
            f"mesh: {asked} is {math.prod(sizes)} devices and there are {len(devices)}; "
            "change mesh.data, mesh.tensor or mesh.sequence, and leave mesh.fsdp null to take the rest"
        )
    types = (AxisType.Auto,) * len(AXES)
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices == 1:
        return Mesh(create_device_mesh(sizes, devices, allow_split_physical_axes=True), AXES, axis_types=types)
    if config.data % slices:
        raise UserError(f"mesh: {slices} slices want a mesh.data that is a multiple of {slices}")
    inside, across = (config.data // slices, *sizes[1:]), (slices, 1, 1, 1)
    placed = create_hybrid_device_mesh(inside, across, devices, allow_split_physical_axes=True)
    return Mesh(placed, AXES, axis_types=types)


def use_mesh(mesh: Mesh) -> AbstractContextManager[object]:
    """Inside this context `parallel.rules` shard along `mesh`; outside of any, nothing is sharded."""
    return jax.set_mesh(mesh)
