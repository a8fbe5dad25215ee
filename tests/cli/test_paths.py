"""`~` is the home folder wherever a place is named: options of every command, keys of a config."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from mentallama_jax.cli.main import build_parser
from mentallama_jax.config import RunConfig, parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.storage import as_path, local_path

NO_PLACES = {
    "ACTION", "COMMAND", "NAME", "NAMES", "NAME=W", "NAME=FILE", "ROLE=COLUMN",
    "SPLIT", "ASPECT", "AXIS=N", "N", "K", "P", "T", "W", "X", "GB", "DOLLARS",
    "HOST:PORT", "I", "TEXT", "key=value", "QUESTION", "URL", "OWNER/NAME",
}  # fmt: skip
"""What options stand for that are no places, beside the tokenizer's T, which is one."""

NO_PLACE_KEYS = {"model.revision", "data.datasets", "data.exclude"}


def actions(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from actions(child)
        else:
            yield parser.prog, action


def takes_a_place(action: argparse.Action) -> bool:
    takes_text = action.nargs != 0 and action.choices is None and action.type not in (int, float)
    name = action.metavar or action.dest.upper()
    return takes_text and (name not in NO_PLACES or action.dest == "tokenizer") and action.dest != "revision"


PLACES = [
    pytest.param(action, id=f"{prog} {action.dest}")
    for prog, action in actions(build_parser())
    if takes_a_place(action)
]


def test_the_list_of_places_is_not_empty() -> None:
    assert len(PLACES) > 15


@pytest.mark.parametrize("action", PLACES)
def test_every_option_that_takes_a_place_expands_the_home_folder(
    action: argparse.Action, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert action.type is not None, action
    assert str(action.type("~/a b/x")) == "/home/somebody/a b/x"
    assert str(action.type("x~y/~")) == "x~y/~"


def text_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from text_keys(info.annotation, f"{prefix}{name}.")
        elif holds_text(info.annotation):
            yield prefix + name


def holds_text(annotation: Any) -> bool:
    if annotation is str:
        return True
    if get_origin(annotation) is dict:
        return False
    arguments = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    return any(holds_text(part) for part in arguments if not isinstance(part, str))


def test_every_key_of_a_config_that_names_a_place_expands_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    places = set(text_keys(RunConfig)) - NO_PLACE_KEYS
    assert {"data.train", "data.drop_posts_in", "training.run_dir", "model.source", "data.cache_dir"} <= places
    values: dict[str, dict[str, Any]] = {"model": {}, "data": {}, "training": {"epochs": 1}}
    lists = {"data.train", "data.validation", "data.tasks", "data.drop_posts_in"}
    for key in places:
        section, name = key.split(".")
        values[section][name] = ["~/x"] if key in lists else "~/x"
    config = parse_config(values, "test").model_dump()
    for key in places:
        section, name = key.split(".")
        assert config[section][name] in ("/home/somebody/x", ("/home/somebody/x",)), key


def test_data_in_the_home_folder_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "rows.jsonl").write_text('{"dataset": "DR", "post": "p", "label": "no", "split": "test"}\n')
    for source in ("~/rows.jsonl", "~/rows.jsonl:test", "~"):
        assert read_records([source]).records[0].source == f"{tmp_path}/rows.jsonl:1"
    assert as_path("~/x") == local_path("~/x") == tmp_path / "x"


def test_without_a_home_folder_the_place_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    def nobody(user: int) -> None:
        raise KeyError(user)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(UserError, match=r"^~/x\.csv: no home directory is known"):
        read_records(["~/x.csv"])
