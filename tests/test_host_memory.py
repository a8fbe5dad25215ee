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
work = jax.jit(lambda x: ((x[:, None] * x[None, :4000]) @ x).sum())
x = jnp.arange(4000.0)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work(x).block_until_ready()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

# The least of several calls: the heap grows to its size over the first ones, and a thread of the pool that had a heap
# of its own before the setting may still map anew.
print(min(faults() for _ in range(int(sys.argv[2]))))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_temporaries_are_not_mapped_anew():
    faults = {
        mode: int(
            subprocess.run(
                [sys.executable, "-c", PROGRAM, mode, calls], capture_output=True, text=True, check=True
            ).stdout
        )
        for mode, calls in (("default", "3"), ("keep", "18"))
    }
    assert faults["default"] > 10_000  # 64 MB of temporaries a call, in pages of 4 KiB
    assert faults["keep"] < 1_000
