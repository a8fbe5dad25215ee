"""How tests, and the programs that they start, compile for the CPU and how many threads they take."""

import os
import subprocess
import sys
from functools import cache

LITTLE_OF_LLVM = ("--xla_backend_optimization_level=0", "--xla_cpu_use_fusion_emitters=false")
"""LLVM optimises nothing, and fused operations go by XLA's older, shorter way to LLVM."""

_KNOWN = "TESTS_KNOW_XLA_FLAGS"

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""torch and BLAS wait for their threads in loops, which costs the processes beside them more than it saves."""


@cache
def quick_compiles() -> str:
    """Flags with which programs for the CPU are compiled in a third of the time; sharding and all else is the same.

    jaxlib ends a process that is given a flag which it does not know, so children ask it, once for all
    workers of a run of tests.
    """
    if _KNOWN not in os.environ:
        os.environ[_KNOWN] = " ".join(flag for flag in LITTLE_OF_LLVM if _is_known(flag))
    return os.environ[_KNOWN]


def _is_known(flag: str) -> bool:
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flag}
    done = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"], env=environment, capture_output=True, check=False
    )
    return done.returncode == 0


def cpu_environment(devices: int = 1, **variables: str) -> dict[str, str]:
    """This process's environment, but with so many virtual CPU devices, and variables of the test."""
    flags = f"{quick_compiles()} --xla_force_host_platform_device_count={devices}"
    return os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags} | variables
