"""Shipped configs are found by their names, in a clone and outside of one."""

from pathlib import Path

import pytest

from mentallama_jax.cli.main import main
from mentallama_jax.config import load_config, shipped
from mentallama_jax.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def test_a_name_stands_for_a_shipped_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = load_config(ROOT / "configs/toy.yaml")
    monkeypatch.chdir(tmp_path)
    assert load_config("toy") == load_config("configs/toy.yaml") == load_config("toy.yaml") == here
    (tmp_path / "toy.yaml").write_text((ROOT / "configs/toy.yaml").read_text().replace("runs/toy", "runs/mine"))
    assert load_config("toy.yaml").training.run_dir == "runs/mine"
    with pytest.raises(UserError, match=r"^tooy: no such config; did you mean toy\?"):
        load_config("tooy")
    with pytest.raises(UserError, match="no such config"):
        load_config("elsewhere/toy.yaml")


def test_they_are_listed_and_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["configs", "list"]) == 0
    printed = capsys.readouterr().out
    assert all(path.stem in printed for path in (ROOT / "configs").glob("*.yaml"))
    assert main(["configs", "copy", "llama2-7b"]) == 0
    assert (tmp_path / "llama2-7b.yaml").read_text() == (ROOT / "configs/llama2-7b.yaml").read_text()
    assert main(["configs", "copy", "llama2-7b"]) == 2
    assert main(["configs", "copy", "llama2-7", "x.yaml"]) == 2
    assert "did you mean llama2-7b?" in capsys.readouterr().err


def test_without_a_clone_they_are_those_of_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of an installed distribution are asked, wherever its scheme put them."""

    class Installed:
        suffix = ".yaml"

        def as_posix(self) -> str:
            return "../../../share/mentallama_jax/configs/toy.yaml"

        def locate(self) -> Path:
            return tmp_path / "share/mentallama_jax/configs/toy.yaml"

    place = Installed().locate()
    place.parent.mkdir(parents=True)
    place.write_text("# A toy. More.\n")
    monkeypatch.setattr(shipped, "files", lambda name: [Installed()])
    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "site-packages/mentallama_jax/config/shipped.py"))
    shipped.shipped_configs.cache_clear()
    try:
        assert shipped.shipped_configs() == {"toy": place}
        assert shipped.summary(place) == "A toy"
    finally:
        shipped.shipped_configs.cache_clear()
