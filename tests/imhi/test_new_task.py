"""Templates of tasks from tables: what they hold loads, and reads the table that they were made from."""

from pathlib import Path

import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.data_files.build import build_records
from mentallama_jax.imhi.data_files.json_values import json_lines
from mentallama_jax.imhi.task_files.new_task import NewTask, new_task
from mentallama_jax.imhi.tasks import own_tasks


def table(path: Path, cells: list[str], separator: str = ",") -> Path:
    rows = (f'"day {number} was grey"{separator}"{cell}"' for number, cell in enumerate(cells))
    path.write_text("\n".join([f"text{separator}state", *rows]) + "\n", "utf-8")
    return path


def made(path: Path, name: str = "mood") -> NewTask:
    return new_task(path, label_column="state", name=name)


@pytest.mark.parametrize(
    "cells",
    [
        ["yes", "Yes.", "no", "NO"],
        ["1", "0", "0"],
        ["0", "1", "1", "TRUE".lower(), "false"],
        ["True", "TRUE", "False"],
        ["#no", "no", "#yes", "yes!"],
        ["well-slept", "well slept", "Well_Slept", "awake"],
        ["0.0", "1.0", "2.0"],
        ["gut:", "gut", "Yes: really?", "'quoted'"],
    ],
)
def test_every_label_of_the_table_is_read_by_its_template(cells: list[str], tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", cells)
    template = made(path)
    with own_tasks([template.task]):
        built = build_records(path, "mood")
    assert built.problems == []
    assert {label: sum(row.label == label for row in built.records) for label in template.counts} == template.counts


@pytest.mark.parametrize("name", ["DR", "dr"])
def test_a_name_that_is_taken_is_refused(name: str, tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", ["well", "ill"])
    assert made(path, f"{name}-mine").task.name == f"{name}-mine"
    with pytest.raises(UserError, match="is a name of the shipped task DR"):
        made(path, name)


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_other_separators_are_named(separator: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"t.csv: {name} separate its columns; save it with commas"):
        made(table(tmp_path / "t.csv", ["well", "ill"], separator))


def test_a_line_that_only_other_programs_read_is_one_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n{"a": "\\ud800"}\n{"a": 2}\n')
    found = list(json_lines(path))
    assert [(line, value) for line, value, problem in found if not problem] == [(1, {"a": 1}), (4, {"a": 2})]
    assert [line for line, _, problem in found if problem] == [3]
    path.write_text('{"a": 1}\nno JSON\n')
    with pytest.raises(UserError, match="line 2"):
        list(json_lines(path))
