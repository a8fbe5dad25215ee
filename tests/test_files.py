"""Nothing is left half-written."""

from pathlib import Path

import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.files import atomic_folder


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "deep" / "new") as folder:
        (folder / "file").write_text("x", "utf-8")
        assert not (tmp_path / "deep" / "new").exists()
    assert (tmp_path / "deep" / "new" / "file").read_text("utf-8") == "x"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["new"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_folder_that_fails_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def fill() -> None:
        with atomic_folder(tmp_path / "new") as folder:
            (folder / "file").write_text("x", "utf-8")
            raise error

    with pytest.raises(type(error)):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused_and_an_empty_one_is_filled(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with atomic_folder(tmp_path / "new") as folder:
        (folder / "file").touch()
    with pytest.raises(UserError, match="exists already"), atomic_folder(tmp_path / "new"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
