"""Freed memory stays with the process, seen from the page faults of a program that allocates again and again."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import jax, jax.numpy as jnp
from mentallama_jax.host_memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
work = jax.jit(lambda x: jnp.sort(x[:, None] * x[None, :4000], axis=0).sum())
x = jnp.arange(4000.0)
for _ in range(3):  # the heap grows to its size
    work(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    work(x).block_until_ready()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_temporaries_are_not_mapped_anew():
    faults = {
        mode: int(
            subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True).stdout
        )
        for mode in ("default", "keep")
    }
    assert faults["default"] > 10_000  # 64 MB of temporaries a call, in pages of 4 KiB
    assert faults["keep"] < faults["default"] / 4
