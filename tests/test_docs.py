"""What the documents and the help texts say can be run, and what they point to exists; the wheel is complete."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from mentallama_jax.cli.main import parse
from mentallama_jax.config import load_config
from mentallama_jax.config.shipped import find_config
from mentallama_jax.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    ROOT / name
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "tpu/README.md",
        "tests/benchmarks/README.md",
        "configs/README.md",
        "mentallama_jax/evaluation/README.md",
        "mentallama_jax/imhi/README.md",
        "mentallama_jax/generation/README.md",
        "mentallama_jax/study/README.md",
    )
]
SPEAKING = [
    *DOCUMENTS,
    *sorted((ROOT / "mentallama_jax/cli").glob("*.py")),
    *sorted((ROOT / "configs").rglob("*.yaml")),
]


def shown_commands(text: str) -> list[str]:
    """Lines that show a `mentallama` command; what stands behind two blanks explains it."""
    whole_lines = re.sub(r" *\\{1,2}\n *", " ", text)
    lines = re.findall(r"^(?:#.*: )? *(mentallama [^-\s].*)$", whole_lines, re.MULTILINE)
    rows = re.findall(r"^\|.*\|$", text, re.MULTILINE)
    lines += [command for row in rows for command in re.findall(r"`(mentallama \w[^`]* [^`]*)`", row)]
    return [re.split(r"\s{2,}", line)[0] for line in lines]


COMMANDS = sorted({command for path in SPEAKING for command in shown_commands(path.read_text("utf-8"))})


@pytest.mark.parametrize("command", COMMANDS)
def test_shown_commands_parse_and_their_configs_and_overrides_are_valid(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    options = parse(shlex.split(command.partition(" > ")[0])[1:])
    config = getattr(options, "config", None)
    if config is not None and find_config(config).is_file():
        load_config(config, options.overrides)
    elif config is not None:
        assert config in ("CONFIG", "mine.yaml"), f"{config} is no shipped config"


def test_a_report_of_several_says_where_it_goes() -> None:
    shown = [parse(shlex.split(command)[1:]) for command in COMMANDS if command.startswith("mentallama report ")]
    several = [options for options in shown if len(options.folders) > 1]
    assert several
    assert [options.folders for options in several if options.out is None] == []  # it would be refused


def test_examples_of_every_config_command_are_among_them() -> None:
    """That every example of a key=value is looked at, and that what was once shown in vain would be refused."""
    shown = {command.split()[1] for command in COMMANDS if re.search(r" [a-z]+\.[a-z_]+=", command)}
    assert {"train", "plan"} <= shown
    with pytest.raises(UserError, match="exactly one of epochs and steps"):
        load_config(ROOT / "configs/toy.yaml", ["training.steps=20", "training.epochs=1"])


def test_shown_changes_of_a_config_are_keys_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    shown = [shlex.split(command) for command in COMMANDS if command.startswith("mentallama train configs/")]
    changed = [words for words in shown if any("=" in word for word in words)]
    assert changed
    for words in changed:
        load_config(words[2], [word for word in words[3:] if "=" in word])


def test_every_subcommand_is_shown_in_the_readme() -> None:
    shown = {command.split()[1] for command in shown_commands((ROOT / "README.md").read_text("utf-8"))}
    assert {"data", "plan", "train", "bench", "generate", "evaluate", "export"} <= shown


@pytest.mark.parametrize("path", SPEAKING, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_named_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    named = set(re.findall(r"\b((?:configs|tests|tpu)/[\w./-]+\.(?:yaml|py|md))", text))
    named |= {link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link}
    assert {name for name in named if not ((ROOT / name).exists() or (path.parent / name).exists())} == set()


def test_every_shipped_config_has_a_row_in_the_table_of_systems() -> None:
    text = (ROOT / "configs" / "README.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    shown = {name for row in rows for name in re.findall(r"`mentallama \w+ configs/([\w.-]+\.yaml)", row)}
    toys = {path.name for path in (ROOT / "configs").glob("*toy*.yaml")}  # the quickstart, and what tests run
    assert {path.name for path in (ROOT / "configs").glob("*.yaml")} - toys == shown - toys


def test_the_readme_can_be_read_in_one_sitting() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 260


def test_docstrings_are_sentences() -> None:
    """Many describe what a thing is or does; none begins in the middle, as "Of all rows." does."""
    middle = re.compile(r'^ *"""(?:Of|That of|What of|For all|Without)\b.*$', re.MULTILINE)
    files = sorted((ROOT / "mentallama_jax").rglob("*.py"))
    assert files
    begun = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in files
        for line in middle.findall(path.read_text("utf-8"))
    ]
    assert begun == []


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    shown = r"(?:`|^    |^`?PYTHON=\S+ )make ([a-z-]+)"
    named = {name for path in DOCUMENTS for name in re.findall(shown, path.read_text("utf-8"), re.MULTILINE)}
    assert {"quickstart", "test"} <= named <= targets


def test_every_file_of_the_package_is_named_to_what_builds_the_wheel() -> None:
    """The quick half of the test below: a file that is no module is in the wheel only where a pattern names it."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    named = {
        path
        for package, patterns in tools["package-data"].items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")).glob(pattern)
    }
    files = [path for path in (ROOT / "mentallama_jax").rglob("*") if path.is_file()]
    others = {path for path in files if path.suffix not in (".py", ".pyc")}
    assert ROOT / "mentallama_jax" / "py.typed" in others
    assert sorted(others - named) == []
    folders = {path.parent for path in files if path.suffix == ".py"}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    anywhere = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info")
    at_the_top = {"build", "runs", "data", "tests"}

    def left_out(folder: str, names: list[str]) -> set[str]:
        return anywhere(folder, names) | (at_the_top if Path(folder) == ROOT else set())

    shutil.copytree(ROOT, tree, ignore=left_out)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(tree)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    package = ROOT / "mentallama_jax"
    files = {str(path.relative_to(ROOT)) for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    held = set(zipfile.ZipFile(wheel).namelist())
    assert files <= held
    configs = {path.name for path in (ROOT / "configs").rglob("*.yaml")}
    assert {Path(name).name for name in held if "share/mentallama_jax/configs/" in name} == configs
