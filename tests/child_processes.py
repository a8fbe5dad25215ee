"""How tests, and the programs that they start, compile for the CPU."""

import os

QUICK_COMPILES = "--xla_backend_optimization_level=1"
"""LLVM's first level instead of its last. What XLA does itself, sharding among it, is the same."""


def cpu_environment(devices: int = 1, **variables: str) -> dict[str, str]:
    """This process's environment, but with so many virtual CPU devices, and variables of the test.

    LLVM does not optimise there: such programs are many and small.
    """
    flags = f"--xla_backend_optimization_level=0 --xla_force_host_platform_device_count={devices}"
    return os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags} | variables
