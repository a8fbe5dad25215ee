"""Who may import whom, and what must not be imported at all."""

import ast
import json
import pkgutil
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mentallama_jax

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mentallama_jax"
HEAVY = ("jax", "flax", "orbax", "grain", "transformers", "datasets", "pandas", "pyarrow", "matplotlib", "torch")


def documented_rooms() -> dict[str, set[str]]:
    """Room -> the rooms it may import, from the table in CONTRIBUTING.md."""
    rows = re.findall(r"^\| `(\w+)` \|.*\|([^|]*)\|$", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.MULTILINE)
    return {room: set(re.findall(r"`(\w+)`", allowed)) for room, allowed in rows}


def imported_rooms(source: str) -> set[str]:
    """Rooms of this package that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {name.split(".")[1] for name in names if name.startswith("mentallama_jax.")}
    return ours - {"__version__"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


ROOMS = documented_rooms()
MODULES = sorted(module.name for module in pkgutil.walk_packages([str(PACKAGE)], "mentallama_jax."))
LABEL_SCORING = [name for name in MODULES if name.startswith("mentallama_jax.evaluation")]


def test_every_room_is_in_the_table() -> None:
    assert set(ROOMS) == {room_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_keep_their_direction(path: Path) -> None:
    room = room_of(path)
    allowed = ROOMS.get(room, set()) | {"errors", "files", "foreign", "storage", "terminal", room}
    assert imported_rooms(path.read_text("utf-8")) <= allowed


def test_the_direction_test_sees_every_form_of_import() -> None:
    source = """
import mentallama_jax.models.llama
from mentallama_jax import config, __version__
def late():
    from mentallama_jax.formats.tokenizer import Tokenizer
"""
    assert imported_rooms(source) == {"models", "config", "formats"}


def loaded_by(statement: str, watched: tuple[str, ...] = HEAVY) -> set[str]:
    """Which of the watched packages a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps([name for name in {watched!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_package_itself_imports_nothing_heavy() -> None:
    assert loaded_by("import mentallama_jax, mentallama_jax.config, mentallama_jax.files") == set()


def test_no_module_imports_torch() -> None:
    assert loaded_by("\n".join(f"import {name}" for name in MODULES), ("torch",)) == set()


def test_data_and_scoring_stay_light() -> None:
    names = [name for name in MODULES if name.startswith("mentallama_jax.imhi")] + LABEL_SCORING
    assert loaded_by("\n".join(f"import {name}" for name in names)) == set()


def test_building_the_parser_imports_nothing_heavy() -> None:
    assert loaded_by("from mentallama_jax.cli.main import build_parser\nbuild_parser()") == set()


def test_help_is_instant() -> None:
    command = [sys.executable, "-m", "mentallama_jax.cli.main", "--help"]
    taken = []
    while len(taken) < 5 and (not taken or min(taken) >= 1):  # a busy machine gets more than one try
        start = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        taken.append(time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
    assert min(taken) < 1, f"seconds of {len(taken)} runs: {taken}"


def test_the_version_is_that_of_the_changelog() -> None:
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == mentallama_jax.__version__
