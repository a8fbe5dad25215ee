"""Fixtures that every room's tests share."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from child_processes import ONE_THREAD, quick_compiles
from fake_bucket import FakeBucket, FakeBucketServer
from hypothesis import settings
from readable_tables import PRINT, assert_readable
from rich.table import Table

from mentallama_jax.terminal import Console

os.environ.setdefault("XLA_FLAGS", quick_compiles())
os.environ.update(ONE_THREAD | os.environ)

# A loaded machine is no fault of the code: how long an example takes is not what properties are about.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

_MAPPINGS = Path("/proc/self/maps")
_MANY_MAPPINGS = 20_000


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--brief",
        action="store_true",
        help="run the first case of each test, and none that is marked `long`: for another version of Python",
    )


@pytest.hookimpl(trylast=True)  # of what `-m` and `-k` have left
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("brief"):
        return
    first_cases: dict[str, pytest.Item] = {}
    for item in items:
        if item.get_closest_marker("long") is None:
            first_cases.setdefault(item.nodeid.partition("[")[0], item)
    kept = set(first_cases.values())
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = first_cases.values()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Forget compiled programs after a file of tests, where they are many.

    Each takes some mappings of memory, of which Linux gives a process 65,530: then it breaks off within the compiler.
    """
    jax = sys.modules.get("jax")
    if jax is None or (nextitem is not None and nextitem.path == item.path) or not _MAPPINGS.exists():
        return
    with _MAPPINGS.open("rb") as stream:
        many = sum(1 for _ in stream) > _MANY_MAPPINGS
    if many:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session", autouse=True)
def every_printed_table_is_readable() -> Iterator[None]:
    """Whatever a test prints: a table that loses a name or a figure on a narrow terminal fails it."""

    def printed(console: Console, *objects: Any, **options: Any) -> None:
        for each in objects:
            if isinstance(each, Table):
                assert_readable(each)
        PRINT(console, *objects, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Console, "print", printed)
        yield


@pytest.fixture(scope="session")
def imhi_release() -> Path:
    """The folder with real IMHI files; tests that want it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "imhi"
    if not folder.is_dir():
        pytest.skip("the released IMHI files are not beside this repository (../shared/imhi)")
    return folder


@pytest.fixture(scope="session")
def bucket_server() -> Iterator[FakeBucketServer]:
    """A stand-in of the bucket service, which this process and its children are told to use."""
    with FakeBucketServer() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        pytest.importorskip("gcsfs", reason="gcsfs (the extra `gcs`) is not installed here")
        yield server


@pytest.fixture
def bucket(bucket_server: FakeBucketServer) -> FakeBucket:
    """Its objects, none so far."""
    bucket_server.bucket.objects.clear()
    bucket_server.bucket.asked.clear()
    return bucket_server.bucket


@pytest.fixture(params=["memory", "gs"])
def remote(request: pytest.FixtureRequest) -> str:
    """The URL of an empty folder: in memory, or on the stand-in of the bucket service."""
    if request.param == "gs":
        request.getfixturevalue("bucket")
        return "gs://bucket/folder"
    return f"memory://{os.urandom(4).hex()}/folder"
