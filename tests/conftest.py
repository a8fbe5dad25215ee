"""Fixtures that every room's tests share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def imhi_release() -> Path:
    """The folder with real IMHI files; tests that want it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "imhi"
    if not folder.is_dir():
        pytest.skip("the released IMHI files are not beside this repository (../shared/imhi)")
    return folder
