"""How much memory is left, and that freed memory stays with the process, seen from the page faults of a program."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from mentallama_jax import host_memory
from mentallama_jax.host_memory import available_memory

GB = 10**9

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


@pytest.mark.long
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


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[object, int, int], None]:
    def write(limit: object, used: int, cached: int) -> None:
        for name, text in (("max", limit), ("current", used), ("stat", f"anon 5\ninactive_file {cached}\n")):
            (tmp_path / name).write_text(str(text))

    names = tuple(str(tmp_path / name) for name in ("max", "current", "stat"))
    monkeypatch.setattr(host_memory, "_CGROUP_LIMITS", ((*names, "inactive_file"),))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=50 * GB))
    return write


def test_the_limit_of_a_control_group_counts(cgroup: Callable[[object, int, int], None]) -> None:
    cgroup(8 * GB, 3 * GB, 1 * GB)
    assert available_memory() == 6 * GB
    cgroup("max", 3 * GB, 1 * GB)
    assert available_memory() == 50 * GB
    cgroup(2**63, 3 * GB, 0)
    assert available_memory() == 50 * GB


def test_without_a_control_group_the_system_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_memory, "_CGROUP_LIMITS", (("/nowhere", "/nowhere", "/nowhere", "x"),))
    assert 0 < available_memory() <= psutil.virtual_memory().total
