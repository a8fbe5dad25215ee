"""Keeps the TPU library quiet on machines without a TPU."""

import importlib.util
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path

_GOOGLE, _NETWORK_CARD = "0x1ae0", "0x0042"
_SAYS_SO = ("TPU_", "JAX_PLATFORMS", "JAX_FORCE_TPU_INIT", "PJRT_")


def settings_without_tpu(environment: Mapping[str, str], root: Path = Path("/")) -> dict[str, str]:
    """What to add to the environment so that jax does not look for a TPU that is not there.

    Where the TPU compiler is installed for `mentallama plan`, jax starts it on any machine, and it prints lines of
    warnings where it finds no chip. Nothing is added where there may be a chip, where the environment says anything of
    devices, or where jax has a plugin for other devices.

    Args:
        environment: of this process.
        root: of the file system.
    """
    if any(name.startswith(_SAYS_SO) for name in environment):
        return {}
    if importlib.util.find_spec("libtpu") is None or _has_tpu(root) or _has_plugins():
        return {}
    return {"JAX_PLATFORMS": "cpu"}


def _has_tpu(root: Path) -> bool:
    if any((root / "dev").glob("accel*")) or any((root / "dev" / "vfio").glob("[0-9]*")):
        return True
    return any(_is_chip(vendor) for vendor in (root / "sys/bus/pci/devices").glob("*/vendor"))


def _is_chip(vendor: Path) -> bool:
    """Whether a device on the bus is of Google and no network card of its virtual machines."""
    try:
        return vendor.read_text().strip() == _GOOGLE and (
            vendor.with_name("device").read_text().strip() != _NETWORK_CARD
        )
    except OSError:
        return True


def _has_plugins() -> bool:
    found = importlib.util.find_spec("jax_plugins")
    return bool(entry_points(group="jax_plugins")) or bool(found and found.submodule_search_locations)
