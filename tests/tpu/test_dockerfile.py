"""The Dockerfile as far as it can be read without a build: it is pinned, what it copies and installs exists."""

import fnmatch
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from mentallama_jax.cli.main import build_parser

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "tpu/Dockerfile"
KNOWN = {"FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "ENTRYPOINT", "CMD"}


def instructions() -> list[tuple[str, str]]:
    """Each instruction and what it is given, without comments and with continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    found = [line.partition(" ") for line in text.splitlines() if line.strip()]
    return [(word, rest.strip()) for word, _, rest in found]


def given(word: str) -> list[str]:
    return [rest for name, rest in instructions() if name == word]


def test_every_instruction_is_one_and_the_first_is_a_pinned_image() -> None:
    assert {word for word, _ in instructions()} == KNOWN
    assert instructions()[0][0] == "FROM"
    (image,) = given("FROM")
    version = re.fullmatch(r"python:(\d+)\.(\d+)\.\d+-slim-\w+", image)  # not `latest`, and a patch release
    assert version
    least = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    assert (int(version[1]), int(version[2])) >= tuple(map(int, re.findall(r"\d+", least)))


def test_the_extras_of_every_build_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    lists = re.findall(r"EXTRAS=([\w,]+)", DOCKERFILE.read_text("utf-8"))
    assert sorted(lists) == ["cuda,gcs", "tpu,gcs"]
    assert {name for names in lists for name in names.split(",")} <= set(extras)
    install = next(rest for rest in given("RUN") if rest.startswith("pip install"))
    assert shlex.split(install) == ["pip", "install", ".[${EXTRAS}]"]
    assert [word for word, _ in instructions()].index("ARG") > 0  # one above FROM is unknown below it


def test_what_is_copied_exists_and_reaches_the_builder() -> None:
    ignore = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text("utf-8").split()
    sources = [source for rest in given("COPY") for source in rest.split()[:-1]]
    assert "mentallama_jax" in sources
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignore
    assert ignore[0] == "**"  # data, runs and credentials of the clone stay outside
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for needed in (project["readme"], *project["license-files"]):
        assert any(fnmatch.fnmatch(needed, source) for source in sources)


def test_all_that_the_package_is_made_of_is_there_before_it_is_installed() -> None:
    """setuptools leaves out data files that are not there, without a word."""
    words = [(word, rest) for word, rest in instructions() if word == "COPY" or rest.startswith("pip install")]
    names = [word for word, _ in words]
    assert names.index("RUN") == len(names) - 1
    copied = {source for _, rest in words[:-1] for source in rest.split()[:-1]}
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    for pattern in (pattern for patterns in tools["data-files"].values() for pattern in patterns):
        assert pattern.partition("/")[0] in copied


def test_it_runs_the_command() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    (entry,) = (json.loads(rest) for rest in given("ENTRYPOINT"))
    assert entry[0] in scripts
    (words,) = (json.loads(rest) for rest in given("CMD"))
    with pytest.raises(SystemExit, match="0"):
        build_parser().parse_args(words)


def test_the_configs_of_the_manifests_are_where_the_image_works() -> None:
    assert given("WORKDIR") == ["/mentallama"]
    for name in ("jobset.yaml", "kubernetes-gpu.yaml", "xpk.sh"):
        text = (ROOT / "tpu" / name).read_text("utf-8")
        assert "tpu/Dockerfile" in text, name  # says how its image is made
        for config in re.findall(r"mentallama train (configs/\S+)", text):
            assert (ROOT / config).is_file()
