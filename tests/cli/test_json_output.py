"""`--json`: figures alone on standard output."""

import argparse

import pytest

from mentallama_jax.cli.json_output import add_json_option, figures_printed
from mentallama_jax.cli.main import build_parser
from mentallama_jax.errors import UserError

PRINTING_FIGURES = {
    "evaluate",
    "report",
    "agree",
    "compare",
    "probe faithfulness",
    "probe fairness",
    "probe robustness",
}


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_json_option(parser)
    return parser.parse_args(arguments)


def test_what_people_read_goes_to_standard_error(capsys, tmp_path):
    path = tmp_path / "figures.json"
    path.write_text('{"value": [1, "\u00e9"]}', "utf-8")
    for value in (path, {"value": [1, "\u00e9"]}):
        with figures_printed(options("--json")) as figures:
            print("a table")
            figures(value)
        shown = capsys.readouterr()
        assert shown.out == '{"value": [1, "é"]}\n'
        assert shown.err == "a table\n"


def test_without_it_only_people_are_told(capsys):
    with figures_printed(options()) as figures:
        print("a table")
        figures({"value": 1})
    assert capsys.readouterr() == ("a table\n", "")


def test_nothing_is_printed_of_a_command_that_failed(capsys):

    def fail() -> None:
        with figures_printed(options("--json")) as figures:
            figures({"value": 1})
            raise UserError("no such file")

    with pytest.raises(UserError, match="no such"):
        fail()
    assert capsys.readouterr().out == ""

    def print_no_number() -> None:
        with figures_printed(options("--json")) as figures:
            figures({"value": float("nan")})

    with pytest.raises(UserError, match="the figures: not valid JSON"):
        print_no_number()
    assert capsys.readouterr().out == ""


def test_every_command_that_prints_figures_has_it():
    found = set()

    def look(parser: argparse.ArgumentParser, name: str) -> None:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for child, below in action.choices.items():
                    look(below, f"{name} {child}".strip())
            elif "--json" in action.option_strings:
                found.add(name)

    look(build_parser(), "")
    assert found >= PRINTING_FIGURES
