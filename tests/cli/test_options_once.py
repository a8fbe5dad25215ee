"""A second use of an option that holds one value is refused, in every command."""

import argparse
from collections.abc import Iterator

import pytest

from mentallama_jax.cli.main import build_parser, main


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from parsers(inner)


ONE_VALUE = [
    (parser, action)
    for parser in parsers(build_parser())
    for action in parser._actions
    if isinstance(action, argparse._StoreAction) and action.option_strings
]


def test_every_option_of_one_value_is_of_the_kind_that_refuses_a_second() -> None:
    assert len(ONE_VALUE) > 100
    assert {type(action).__name__ for _, action in ONE_VALUE} == {"_StoreOnce"}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("evaluate a.jsonl --out x --out y", "argument --out/-o: given twice, and takes one value; give one of them"),
        ("generate m --data a --data b --out o", "argument --data/-d: given twice, and takes one list"),
        ("report a --out x --out x", "argument --out/-o: given twice"),
    ],
)
def test_the_message_says_so(command: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_one_parser_parses_again() -> None:
    parser = build_parser()
    for _ in range(2):
        assert parser.parse_args(["report", "a", "--out", "x"]).command == "report"
    assert parser.parse_args(["evaluate", "a", "--out", "x", "--calibrate-on", "b", "--calibrate-on", "c"])
