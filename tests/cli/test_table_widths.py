"""Every table is readable at 60, 80 and 120 columns: no cell is cut off, and each part names its rows."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from readable_tables import LINES, WIDTHS, assert_readable, shown, words
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mentallama_jax.cli import bench_command
from mentallama_jax.cli.main import main
from mentallama_jax.config import load_config
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.planning.measure import Measurement


def wide_table(columns: int, plain: bool) -> Table:
    table = Table(title="Figures of everything", **({"box": SIMPLE_HEAD, "pad_edge": False} if plain else {}))
    table.add_column("data set")
    for place in range(columns):
        table.add_column(f"head{place}", justify="right", no_wrap=True)
    for name in TASKS:
        table.add_row(name, *(f"{name[0]}{place}.{place:04}" for place in range(columns)))
    return table


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("columns", [3, 8, 20])
@pytest.mark.parametrize("plain", [True, False])
def test_no_cell_is_lost_and_every_part_names_its_rows(width: int, columns: int, plain: bool) -> None:
    text = shown(wide_table(columns, plain), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    found = words(text)
    parts = found.count("set")
    for name in TASKS:
        assert found.count(name) == parts
        assert all(found.count(f"{name[0]}{place}.{place:04}") >= 1 for place in range(columns))


@pytest.mark.parametrize("width", WIDTHS)
def test_long_words_are_cut_into_lines_and_not_off(width: int) -> None:
    table = Table("model", "where", "what it is")
    place = "/a/folder/" + "deep/" * 20 + "end"
    table.add_row("a-model", place, "word " * 40)
    text = shown(table, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert text.count("word") == 40
    assert "deep/end" in "".join(words(text)) or "end" in text


def predictions(path: Path, right: bool) -> Path:
    rows = []
    for task in TASKS.values():
        for number, (label, sentence) in enumerate(task.sentences.items()):
            aspect = task.aspects[number % len(task.aspects)] if task.aspects else ""
            rows.append(
                {
                    "id": f"{task.name}/test/{number}", "dataset": task.name, "post_id": f"{task.name}{number}",
                    "label": label, "aspect": aspect, "goldens": sentence,
                    "generated_text": sentence.format(aspect=aspect) if right else "Hard to say.",
                }
            )  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", WIDTHS)
def test_tables_of_commands_keep_the_names_of_data_sets(
    tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    good, bad = predictions(tmp_path / "a-good-system.jsonl", True), predictions(tmp_path / "bad.jsonl", False)
    for command in (
        ["evaluate", good, "--out", tmp_path / "one"],
        ["evaluate", good, bad, "--out", tmp_path / "two"],
        ["compare", good, bad, "--out", tmp_path / "comparison"],
        ["data", "check", "sample"],
        ["configs", "list"],
    ):
        assert main([str(word) for word in command]) == 0
        text = capsys.readouterr().out
        tables = [line for line in text.splitlines() if LINES.search(line)]
        limit = max(width, 120) if command[0] == "data" else width  # in a pipe it is as wide as a file
        assert max(map(len, tables)) <= limit, command[0]
        assert "…" not in text
        if command[0] in ("evaluate", "compare", "data"):
            assert {name for name in TASKS if name not in words(text)} == set(), command[0]


def test_a_table_that_loses_a_figure_or_a_name_is_found() -> None:
    """Every table that any test prints is looked at in this way (`tests/conftest.py`)."""
    table = Table("data set", "figure")
    table.add_row("dreaddit", "81.25")
    assert_readable(table)
    table.columns[1].max_width = 3
    with pytest.raises(AssertionError, match="60 columns"):
        assert_readable(table)


def test_tables_of_plan_bench_and_agree_are_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ["configs/llama2-7b.yaml", "--topology", "h100-8"]
    for command in (
        ["plan", *config, "--details"],
        ["plan", *config, "--search", "--limit", "2"],
        ["plan", *config, "--generate", "--details"],
    ):
        assert main(command) == 0
    mesh = {"data": 1, "fsdp": 8, "tensor": 1, "sequence": 1}
    one = Measurement("decode", mesh, "NVIDIA H200", 64, 4096, 1.4e10, 31.5, 0.5, (0.25, 0.5), 9_876_543_210)
    bench_command._show([replace(one, what="prefill"), one], load_config(config[0], []))
    marks = ["text,label,model,fluency,completeness,reliability,overall"]
    for number in range(12):
        given = [f'"[{number % 4}, 1, {number % 3}]"'] * 4
        marks.append(",".join([f"Post {number}", str(number % 2), f"Because {'of it ' * (number % 7)}", *given]))
    (tmp_path / "marks.csv").write_text("\n".join(marks) + "\n")
    command = ["agree", str(tmp_path / "marks.csv"), "--metrics", "chrf", "--against", "post"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("memory of a device", "fluency", "8 x NVIDIA H200"))
