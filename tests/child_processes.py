"""How tests, and the programs that they start, compile for the CPU and how many threads they take."""

import mmap
import os
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

LITTLE_OF_LLVM = ("--xla_backend_optimization_level=0", "--xla_cpu_use_fusion_emitters=false")
"""LLVM optimises nothing, and fused operations go by XLA's older, shorter way to LLVM."""

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""torch and BLAS wait for their threads in loops, which costs the processes beside them more than it saves."""


@cache
def quick_compiles() -> str:
    """Flags with which programs for the CPU are compiled in a third of the time; sharding and all else is the same.

    jaxlib ends a process that is given a flag which it does not know, so flags are looked for in its library first.
    """
    spec = find_spec("jaxlib")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    libraries = [path for path in folder.glob("*.so*") if path.stat().st_size > 10_000_000]
    return " ".join(flag for flag in LITTLE_OF_LLVM if any(_holds(path, flag) for path in libraries))


def _holds(library: Path, flag: str) -> bool:
    name = flag.removeprefix("--").partition("=")[0]
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return re.search(re.escape(name).encode(), content) is not None


def cpu_environment(devices: int = 1, **variables: str) -> dict[str, str]:
    """This process's environment, but with so many virtual CPU devices, and variables of the test."""
    flags = f"{quick_compiles()} --xla_force_host_platform_device_count={devices}"
    return os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags} | variables
