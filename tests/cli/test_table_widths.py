"""Every table is readable at 60, 80 and 120 columns: no cell is cut off, and each part names its rows."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mentallama_jax.cli.main import main
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.terminal import Console

WIDTHS = (60, 80, 120)
_LINES = re.compile(r"[─━│┃┏┓┗┛┡┩┠┨┬┴┼╇┳┻└┘├┤╞╡═]+")


def shown(table: Table, width: int) -> str:
    stream = io.StringIO()
    Console(width=width, file=stream).print(table)
    return stream.getvalue()


def words(text: str) -> list[str]:
    return _LINES.sub(" ", text).split()


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
        tables = [line for line in text.splitlines() if _LINES.search(line)]
        limit = max(width, 120) if command[0] == "data" else width  # in a pipe it is as wide as a file
        assert max(map(len, tables)) <= limit, command[0]
        assert "…" not in text
        if command[0] in ("evaluate", "compare", "data"):
            assert {name for name in TASKS if name not in words(text)} == set(), command[0]
