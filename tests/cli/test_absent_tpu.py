"""The TPU library is kept quiet where there is no TPU, and nowhere else."""

import importlib.util
from pathlib import Path

import pytest

from mentallama_jax.cli import absent_tpu
from mentallama_jax.cli.absent_tpu import settings_without_tpu


@pytest.fixture(autouse=True)
def _compiler_and_no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "libtpu" else None)
    monkeypatch.setattr(absent_tpu, "entry_points", lambda group: ())


def device(root: Path, number: int, vendor: str, kind: str) -> None:
    folder = root / "sys/bus/pci/devices" / f"0000:00:{number:02}.0"
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "device").write_text(f"{kind}\n")


def test_without_a_chip_jax_is_told_to_take_the_cpu(tmp_path: Path) -> None:
    device(tmp_path, 1, "0x8086", "0x1237")
    device(tmp_path, 2, "0x1ae0", "0x0042")  # the network card of a virtual machine
    assert settings_without_tpu({"HOME": "/"}, tmp_path) == {"JAX_PLATFORMS": "cpu"}


@pytest.mark.parametrize("node", ["dev/accel0", "dev/vfio/0"])
def test_where_a_chip_may_be_nothing_is_set(tmp_path: Path, node: str) -> None:
    (tmp_path / node).parent.mkdir(parents=True)
    (tmp_path / node).touch()
    assert settings_without_tpu({}, tmp_path) == {}


def test_a_chip_on_the_bus_is_seen(tmp_path: Path) -> None:
    device(tmp_path, 1, "0x1ae0", "0x0063")
    assert settings_without_tpu({}, tmp_path) == {}


@pytest.mark.parametrize("name", ["JAX_PLATFORMS", "TPU_WORKER_HOSTNAMES", "TPU_NAME", "JAX_FORCE_TPU_INIT"])
def test_what_the_environment_says_stays(tmp_path: Path, name: str) -> None:
    assert settings_without_tpu({name: "x"}, tmp_path) == {}


def test_without_the_library_or_with_other_devices_nothing_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(absent_tpu, "entry_points", lambda group: ("cuda",))
    assert settings_without_tpu({}, tmp_path) == {}
    monkeypatch.setattr(absent_tpu, "entry_points", lambda group: ())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert settings_without_tpu({}, tmp_path) == {}
