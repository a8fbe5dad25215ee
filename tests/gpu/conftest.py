"""Tests that need a GPU: skipped, with the reason, where jax sees none.

`MENTALLAMA_GPU_TESTS=dry` runs them on a CPU with small shapes and interpreted kernels, to try the tests themselves.
`MENTALLAMA_GPU_RESULTS=FILE` appends what they measure as JSON lines.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from computations import DRY, exact

HERE = Path(__file__).resolve().parent


def gpu_is_here() -> bool:
    import jax

    return jax.default_backend() == "gpu"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    own = [item for item in items if HERE in item.path.parents]
    for item in own:
        item.add_marker(pytest.mark.gpu)
    if own and not DRY and not gpu_is_here():
        for item in own:
            item.add_marker(pytest.mark.skip(reason="jax sees no GPU here; see `make test-gpu`"))


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Print figures of a test, and append them to the file of results if there is one."""

    def record(**values: Any) -> None:
        line = json.dumps({"test": request.node.name} | values)
        print(line, flush=True)
        if place := os.environ.get("MENTALLAMA_GPU_RESULTS"):
            with Path(place).open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    return record


@pytest.fixture(scope="session")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what `computations.py` computed on the CPU, by a process of its own that may have begun before."""
    place = os.environ.get("MENTALLAMA_GPU_CPU_SIDE")
    folder = Path(place) if place else tmp_path_factory.mktemp("cpu")
    if not place:
        command = [sys.executable, str(HERE / "computations.py"), str(folder)]
        subprocess.run(command, env=os.environ | {"JAX_PLATFORMS": "cpu"}, check=True)
    return folder


@pytest.fixture
def exact_products() -> Iterator[None]:
    """Products of fp32 in fp32; by default GPUs round their inputs to the 10 bits of TF32."""
    with exact():
        yield
