"""Who may import whom, and what must not be imported at all."""

import argparse
import ast
import json
import pkgutil
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import pytest

import mentallama_jax
from mentallama_jax.cli.command_summaries import SUMMARIES
from mentallama_jax.cli.main import COMMANDS, build_parser

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mentallama_jax"
HEAVY = ("jax", "flax", "orbax", "grain", "transformers", "datasets", "pandas", "pyarrow", "matplotlib", "torch")


def documented_rooms() -> dict[str, set[str]]:
    """Room -> the rooms it may import, from the table in CONTRIBUTING.md."""
    rows = re.findall(r"^\| `(\w+)` \|.*\|([^|]*)\|$", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.MULTILINE)
    return {room: set(re.findall(r"`(\w+)`", allowed)) for room, allowed in rows}


def imported_modules(source: str, *, for_types: bool) -> set[str]:
    """Modules of this package that a module imports, anywhere in it, without `mentallama_jax.` in front.

    `for_types` counts what is imported for type checkers alone, too. Nothing runs it.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if not for_types and isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            node.body = []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("mentallama_jax.") for name in names if name.startswith("mentallama_jax.")}


def imported_rooms(source: str) -> set[str]:
    """Rooms of this package that a module imports, for type checkers too."""
    return {name.split(".")[0] for name in imported_modules(source, for_types=True)} - {"__version__"}


def import_graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """Module -> the modules that it imports, from the text of each by its name."""

    def module(name: str) -> str:
        # `from a.b import c` names a module or something in one.
        while name and name not in sources:
            name = name.rpartition(".")[0]
        return name

    return {
        name: {module(other) for other in imported_modules(text, for_types=False)} - {"", name}
        for name, text in sources.items()
    }


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The groups of modules that reach each other by imports."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for name in graph[todo.pop()] - seen:
                seen.add(name)
                todo.append(name)
        return seen

    below = {name: reached(name) for name in graph}
    found: list[set[str]] = []
    for name in sorted(graph):
        group = {other for other in below[name] if name in below[other]}
        if name in below[name] and group not in found:
            found.append(group)
    return found


def repeated_names(paths: Iterable[Path]) -> set[str]:
    """Names that more than one module or folder of the package has; `__init__` is none."""
    names = Counter(path.stem for path in paths if path.stem not in ("__init__", "__main__"))
    names.update(path.parent.name for path in paths if path.name == "__init__.py")
    return {name for name, count in names.items() if count > 1}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


SOURCES = {module_name(path): path.read_text("utf-8") for path in PACKAGE.rglob("*.py")}
GROUND = {"errors", "files", "foreign", "hub", "storage", "terminal"}
"""What every room may import."""


ROOMS = documented_rooms()
NEEDED = {"harness.language_model": "lm_eval", "serving": "starlette", "jobs.serve": "starlette"}
"""What of the package needs an extra to be imported at all, and what that brings."""
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages([str(PACKAGE)], "mentallama_jax.")
    if all(find_spec(needed) for start, needed in NEEDED.items() if module.name.startswith(f"mentallama_jax.{start}"))
)
LABEL_SCORING = [name for name in MODULES if name.startswith("mentallama_jax.evaluation")]


def test_every_room_is_in_the_table() -> None:
    assert set(ROOMS) == {room_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_keep_their_direction(path: Path) -> None:
    room = room_of(path)
    front_door = {"imhi", "jobs"} if room == "__init__" else set()  # it names them for types only
    allowed = ROOMS.get(room, set()) | GROUND | {room} | front_door
    assert imported_rooms(path.read_text("utf-8")) <= allowed


def test_the_direction_test_sees_every_form_of_import() -> None:
    source = """
import mentallama_jax.models.llama
from mentallama_jax import config, __version__
def late():
    from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer
"""
    assert imported_rooms(source) == {"models", "config", "formats"}


def test_a_room_imports_only_rooms_that_stand_above_it_in_the_table() -> None:
    order = {room: place for place, room in enumerate(ROOMS)}
    upward = [
        (name, other)
        for name, imported in import_graph(SOURCES).items()
        for other in imported
        if name != "__init__" and order[other.split(".")[0]] > order[name.split(".")[0]]
    ]
    assert upward == []
    assert [room for room, allowed in ROOMS.items() for other in allowed if order[other] >= order[room]] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(import_graph(SOURCES)) == []


def test_circles_are_seen_inside_a_room_across_rooms_and_in_late_imports() -> None:
    sources = {
        "a.one": "from mentallama_jax.a import two",
        "a.two": "def late():\n    import mentallama_jax.a.three",
        "a.three": "from mentallama_jax.a.one import something",
        "b": "from mentallama_jax.c.deep import x",
        "c.deep": "import mentallama_jax.b",
        "d": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mentallama_jax import e",
        "e": "from mentallama_jax.d import x",
    }
    assert circles(import_graph(sources)) == [{"a.one", "a.two", "a.three"}, {"b", "c.deep"}]
    assert import_graph(sources)["e"] == {"d"}


def test_no_two_files_of_the_package_have_one_name() -> None:
    assert repeated_names(list(PACKAGE.rglob("*.py"))) == set()


def test_a_name_is_repeated_by_a_file_or_by_a_folder() -> None:
    paths = [Path(name) for name in ("a/x.py", "b/x.py", "a/y.py", "c/y/__init__.py", "a/__init__.py", "b/__init__.py")]
    assert repeated_names(paths) == {"x", "y"}


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


def test_a_command_line_imports_the_command_that_it_names_alone() -> None:
    """And `--help` none: each costs a start a hundredth of a second, and so do these modules of Python."""
    code = "from mentallama_jax.cli.main import build_parser\nbuild_parser({!r}).format_help()"
    slow = ("dataclasses", "inspect", "socket", "hashlib", "tempfile", "difflib", "importlib.resources")
    modules = tuple(f"mentallama_jax.cli.{name}_command" for name in COMMANDS)
    assert loaded_by(code.format(["--help"]), (*slow, *modules)) == set()
    assert loaded_by(code.format(["train", "toy"]), modules) == {"mentallama_jax.cli.train_command"}


def test_summaries_are_those_of_the_commands() -> None:
    (subparsers,) = (one for one in build_parser()._actions if isinstance(one, argparse._SubParsersAction))
    helps = {one.dest: one.help for one in subparsers._choices_actions}
    assert list(helps) == list(COMMANDS)
    assert helps == {name: SUMMARIES.get(name, helps[name]) for name in COMMANDS}
    assert SUMMARIES.keys() <= helps.keys()


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


def type_names(source: str) -> set[str]:
    """Names of classes and of type aliases that a module defines for others."""
    found = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name[0].isupper() and not name.isupper():
                found.add(name)
    return {name for name in found if not name.startswith("_")}


def test_no_type_of_the_package_is_defined_twice() -> None:
    counts = Counter(name for text in SOURCES.values() for name in type_names(text))
    assert {name for name, count in counts.items() if count > 1} == set()
    assert {"Batch", "Form"} <= counts.keys()
    assert type_names("class Abc: ...\nBcd = int\n_Cde = int\nMAX = 1\n") == {"Abc", "Bcd"}
