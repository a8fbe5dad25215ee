"""The verdict comes first and fits the terminal; its command trains what was planned; vendors' names are understood."""

import io
import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mentallama_jax.cli import plan_command
from mentallama_jax.cli.main import build_parser, main, parse
from mentallama_jax.config import load_config
from mentallama_jax.errors import UserError
from mentallama_jax.planning import prices
from mentallama_jax.planning.prices import chip_price
from mentallama_jax.planning.topologies import CHIPS, parse_topology
from mentallama_jax.planning.verdict import chosen_keys, folded
from mentallama_jax.terminal import Console

SEVEN = "configs/llama2-7b.yaml"
Plan = Callable[..., str]


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Plan:
    """What `mentallama plan` prints on a terminal of some width."""

    def at(width: int, *words: str) -> str:
        monkeypatch.setattr(plan_command, "_console", lambda: Console(width=width))
        assert main(["plan", *words]) == 0
        return capsys.readouterr().out

    return at


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_verdict_comes_first_and_fits_the_terminal(width: int, planned: Plan) -> None:
    text = planned(width, SEVEN, "training.seed=2", "--topology", "H100x8")
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert [line.split()[0] for line in lines if line.startswith(("fits ", "time ", "money ", "data "))] == [
        "fits", "time", "money", "data",
    ]  # fmt: skip
    assert lines.index("run:") > 3
    assert "memory of a device" not in text
    assert "memory of a device" in planned(width, SEVEN, "--topology", "h100-8", "--details")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_ranking_says_in_words_which_is_cheapest_and_fastest(width: int, planned: Plan) -> None:
    text = planned(width, SEVEN, "--topology", "h100-8", "--search", "--limit", "2")
    assert max(map(len, text.splitlines())) <= width
    assert "cheapest and fastest (no. 1): h100-8" in " ".join(text.split())
    assert "green" not in text
    assert "72,093 training rows" in " ".join(text.split())
    assert "…" not in text  # no cell is cut off
    for column in ("chips", "mesh", "rows x n", "remat", "memory", "s/update", "MFU", "hours", "dollars"):
        assert column in text  # in a further table where the width has no room


def command_in(text: str) -> list[str]:
    """The words of the first command below `run:`."""
    lines = text.partition("run:\n")[2].replace("\\\n", " ").splitlines()
    return shlex.split(lines[0])


@pytest.mark.parametrize("words", [["--search", "--limit", "1"], ["model.remat=auto", "mesh.data=2"], ["mesh.data=2"]])
def test_the_command_trains_what_was_planned(words: list[str], planned: Plan) -> None:
    words = ["training.seed=2", "training.micro_batch_rows=4", *words, "--topology", "h100-16"]
    text = planned(60, SEVEN, *words)
    command = command_in(text)
    assert command[:3] == ["mentallama", "train", SEVEN]
    assert command.count("--distributed") == 1
    options = parse(command[1:])
    config = load_config(options.config, options.overrides)
    assert config.training.seed == 2
    assert config.training.micro_batch_rows % 16 == 0 or config.mesh.tensor > 1
    assert sum("micro_batch_rows" in word for word in command) == 1


def test_every_choice_of_a_plan_is_in_its_command() -> None:
    given = load_config(SEVEN, [])
    changed = ["model.remat=[attention, gate]", "mesh.tensor=2", "mesh.data=2", "training.micro_batch_rows=32"]
    planned, place = load_config(SEVEN, changed), parse_topology("v5e-64", 2)
    assert sorted(chosen_keys(planned, given, place)) == sorted(changed)
    assert load_config(SEVEN, chosen_keys(planned, given, place)) == planned
    assert chosen_keys(given, given, place) == []
    auto = load_config(SEVEN, ["model.remat=auto"])
    assert chosen_keys(load_config(SEVEN, ["model.remat=none"]), auto, place) == ["model.remat=none"]
    assert chosen_keys(load_config(SEVEN, ["model.remat=none"]), auto, parse_topology("h100-8")) == []


@pytest.mark.parametrize("width", [20, 60, 200])
def test_a_folded_command_is_the_same_command(width: int) -> None:
    words = ["mentallama", "train", "a b.yaml", "model.remat=[x, y]", *(f"training.seed={n}" for n in range(9))]
    lines = folded(words, width)
    assert shlex.split("\n".join(lines).replace("\\\n", "")) == words
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert width == 20 or max(map(len, lines)) <= width


def recipe_of(*words: str) -> dict[str, object]:
    options = build_parser().parse_args(["plan", "--topology", "h100-8", *words])
    recipe = plan_command._recipe(load_config(options.config, options.overrides), options)
    return {"count": recipe.count, "known": recipe.known, "assumed": recipe.assumed}


def test_rows_are_told_beside_those_that_are_known(planned: Plan) -> None:
    assert recipe_of(SEVEN) == {"count": 72093, "known": 72093, "assumed": True}
    assert recipe_of(SEVEN, "data.datasets=[DR, dreaddit, SAD]") == {"count": 9387, "known": 9387, "assumed": True}
    assert recipe_of(SEVEN, "--rows", "9387") == {"count": 9387, "known": 72093, "assumed": False}
    assert recipe_of(SEVEN, "data.max_rows=500") == {"count": 500, "known": 72093, "assumed": True}
    text = " ".join(planned(80, SEVEN, "--topology", "h100-8").split())
    assert "assumed, 72,093 training rows: all that the paper counts" in text
    assert "Count your own: --data" in text
    given = " ".join(planned(80, SEVEN, "--topology", "h100-8", "--rows", "9387").split())
    assert "9,387 training rows of the 72,093 that the paper counts" in given


def test_data_that_are_there_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"dataset": "DR", "post": f"A day of number {n}.", "label": "no", "split": "train"} for n in range(40)]
    rows += [{"dataset": "DR", "post": "Another.", "label": "no", "split": "val"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [f"data.train=[{tmp_path}/rows.jsonl:train]", f"data.validation=[{tmp_path}/rows.jsonl:val]"]
    words += [f"data.cache_dir={tmp_path}/cache", f"training.run_dir={tmp_path}/run"]
    assert main(["plan", "configs/toy.yaml", *words, "--topology", "h100-1", "--data", "--json"]) == 0
    recipe = json.loads(capsys.readouterr().out)[0]["recipe"]
    assert (recipe["training_rows"], recipe["known_training_rows"]) == (40, 72093)


@pytest.mark.parametrize(
    ("vendor", "plain"),
    [
        ("v5litepod-64", "v5e-64"),
        ("V5LitePod-16", "v5e-16"),
        ("v6e-8", "v6e-8"),
        ("v5p-64", "v5p-64"),
        ("tpu-v5e-8", "v5e-8"),
        ("H100x8", "h100-8"),
        ("8xH100", "h100-8"),
        ("h200:8", "h200-8"),
        ("NVIDIA-H100-SXM5-80GBx8", "h100-8"),
        ("a3-highgpu-8g", "h100-8"),
        ("a3-ultragpu-8g", "h200-8"),
        ("ct5lp-hightpu-4t", "v5e-4"),
        ("ct5p-hightpu-4t", "v5p-8"),
        ("p5.48xlarge", "h100-8"),
        ("Standard_ND96isr_H200_v5", "h200-8"),
    ],
)
def test_names_of_vendors_are_the_same_chips(vendor: str, plain: str) -> None:
    found, there = parse_topology(vendor), parse_topology(plain)
    assert replace(found, name="") == replace(there, name="")
    assert found.name == vendor


@pytest.mark.parametrize("name", ["a2-highgpu-8g", "p4d.24xlarge"])
def test_cards_with_less_memory_are_not_taken_for_others(name: str) -> None:
    with pytest.raises(UserError, match="40 GB"):
        parse_topology(name)


def test_every_chip_has_a_price_and_one_without_is_refused_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    for family in CHIPS:
        assert chip_price(parse_topology(f"{family}-8"), None).chip_hour > 0
    monkeypatch.setattr(prices, "parse_yaml", lambda *_: {"chip_hour": {}, "as_of": "never"})
    with pytest.raises(UserError, match="--price DOLLARS"):
        chip_price(parse_topology("h200-8"), None)
    assert chip_price(parse_topology("h200-8"), 3.0).chip_hour == 3.0


def test_what_does_not_fit_is_said_first_and_no_command_is_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(plan_command, "_console", lambda: Console(width=80, file=stream))
    assert main(["plan", SEVEN, "--topology", "h100-1"]) == 1
    text = stream.getvalue()
    assert "fits  NO: " in text
    assert "run:" not in text
    assert "does not fit: " in text
    assert "money" not in text
