"""The benchmarks that compile: what they ask for exists, and their tables are what was measured."""

import importlib.util
from pathlib import Path

import pytest

from mentallama_jax.config import load_config
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.models.remat import POLICIES
from mentallama_jax.planning.topologies import parse_topology

FOLDER = Path(__file__).parents[1] / "benchmarks"


def script(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


published, beside = script("published_runs"), script("beside_maxtext")


@pytest.mark.parametrize("run", published.RUNS, ids=lambda run: run.name)
def test_a_published_run_is_a_config_of_ours(run, tmp_path):
    config = load_config(published.write(run, tmp_path / run.name))
    topology = parse_topology(run.topology)
    assert topology.chips == run.chips
    assert config.training.micro_batch_rows == run.rows * run.chips
    assert config.data.max_length == run.length
    assert topology.devices % config.mesh.tensor == 0


@pytest.mark.parametrize("recipe", beside.RECIPES.values(), ids=beside.RECIPES)
def test_a_recipe_beside_maxtext_exists(recipe):
    assert recipe.model in PRESETS
    assert recipe.remat in POLICIES
    assert parse_topology(recipe.topology).chips == recipe.chips


def test_ratios_are_those_of_one_round(tmp_path, capsys, monkeypatch):
    """A machine that drifts: the rounds' ratios are 0.5, 0.1 and 1.5, and that of the medians would be 0.4."""
    seconds = {"0-maxtext": 10.0, "0-full": 5.0, "1-maxtext": 80.0, "1-full": 8.0, "2-maxtext": 20.0, "2-full": 30.0}
    asked = []

    def compiled_by(python, side, recipe, remat, out):
        asked.append((python, side, remat))
        figures = {key: 2e9 for _, key, _ in beside.ROWS} | {"versions": "jax 1"}
        if side == "ours":
            figures["cycles"] = 1e9
        return figures | {"seconds": seconds.get(out.name.removeprefix("7b-"), 30.0)}

    monkeypatch.setattr(beside, "compiled_by", compiled_by)
    beside.compare("7b", "their-python", 3, tmp_path)
    lines = {line.split("|")[1].strip(): line for line in capsys.readouterr().out.splitlines() if "|" in line}
    assert lines["cycles, 1e9"] == "| cycles, 1e9 | 2 | 1 | 0.500 | 1 | 0.500 |"
    assert lines["compile, s, median of 3"] == "| compile, s, median of 3 | 20.0 | 8.0 | 0.50 | 30.0 | 1.50 |"
    assert [side for _, side, _ in asked] == ["maxtext", "ours", "ours"] * 3
    assert all((python == "their-python") == (side == "maxtext") for python, side, _ in asked)


def test_a_side_that_does_not_compile_ends_with_its_message(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'no such model' >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(SystemExit, match="maxtext did not compile 7b:\nno such model"):
        beside.compiled_by(str(python), "maxtext", "7b", "full", tmp_path / "out")
