"""The configs that are shipped: in `configs/` of a clone, or where the wheel put them."""

from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

_PACKAGE = "mentallama-jax"
_FOLDER = "mentallama_jax/configs"
_STUDIES = "study"
_NEAR = 0.6


@cache
def shipped_configs() -> dict[str, Path]:
    """Name -> file, sorted by name; none where they were not installed."""
    return _shipped("")


@cache
def shipped_studies() -> dict[str, Path]:
    """Name -> file of the studies, which are no configs of runs."""
    return _shipped(_STUDIES)


def _shipped(below: str) -> dict[str, Path]:
    clone = Path(__file__).resolve().parents[2]
    if (clone / "pyproject.toml").is_file() and (clone / "configs").is_dir():
        found = list((clone / "configs" / below).glob("*.yaml"))
    else:
        try:
            listed = files(_PACKAGE) or []
        except PackageNotFoundError:
            listed = []
        folder = f"{_FOLDER}/{below}".rstrip("/")
        inside = [each for each in listed if each.as_posix().rpartition("/")[0].endswith(folder)]
        found = [Path(str(each.locate())) for each in inside if each.suffix == ".yaml"]
    return {path.stem: path for path in sorted(found) if path.is_file()}


def find_config(path: str | Path) -> Path:
    """The file that a config's name stands for: a file, else a shipped config, as `toy` or `configs/toy.yaml`."""
    return _found(Path(path), "configs", shipped_configs)


def find_study(path: str | Path) -> Path:
    """The file that a study's name stands for: a file, else a shipped one, as `toy` or `configs/study/toy.yaml`."""
    return _found(Path(path), _STUDIES, shipped_studies)


def _found(path: Path, folder: str, shipped: Callable[[], dict[str, Path]]) -> Path:
    if path.is_file() or path.parent.name not in ("", folder) or path.suffix not in ("", ".yaml"):
        return path
    return shipped().get(path.name.removesuffix(".yaml"), path)


def near_config(path: Path) -> str:
    """Where to look for a config that is not there, for the end of a message."""
    near = get_close_matches(path.name.removesuffix(".yaml"), shipped_configs(), n=1, cutoff=_NEAR)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}`mentallama configs list` shows those that are shipped"


def near_study(path: Path) -> str:
    """Where to look for a study that is not there, for the end of a message."""
    near = get_close_matches(path.name.removesuffix(".yaml"), shipped_studies(), n=1, cutoff=_NEAR)
    return f"did you mean {near[0]}?" if near else f"shipped are {', '.join(shipped_studies())}"


def summary(path: Path) -> str:
    """The first sentence of the comment that a config begins with."""
    lines = []
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines).partition(". ")[0].rstrip(".:")
