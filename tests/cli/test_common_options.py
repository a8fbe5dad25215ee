"""Short options, wrong options, completion, the place of --out, and what comes next."""

import argparse
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mentallama_jax.cli import common_options
from mentallama_jax.cli.common_options import SHORT, check_out
from mentallama_jax.cli.completion_command import bash, commands_of, fish, zsh
from mentallama_jax.cli.main import build_parser, main, parse
from mentallama_jax.cli.train_command import _next as next_of_train
from mentallama_jax.config import load_config
from mentallama_jax.errors import UserError
from mentallama_jax.storage import local_path

PARSER = build_parser()
COMMANDS = list(commands_of(PARSER))


def test_without_words_it_helps(capsys):
    with pytest.raises(SystemExit, match="0"):
        main([])
    assert "the usual order:" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["data", "configs", "probe", "baseline"])
def test_a_command_of_several_helps_without_words_too(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command])
    assert "positional arguments:" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main([command, "--nothing"])


def test_changes_are_not_called_required(capsys):
    for words in (["train"], ["transfer"], ["bench", "step"]):
        with pytest.raises(SystemExit, match="2"):
            main(words)
        assert "key=value" not in capsys.readouterr().err.splitlines()[-1]


def test_the_package_is_a_program():
    source = (Path(common_options.__file__).parents[1] / "__main__.py").read_text("utf-8")
    assert "from mentallama_jax.cli.main import main" in source


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from parsers(child)


def test_short_options_mean_the_same_everywhere_and_help_says_so():
    found = 0
    for parser in parsers(PARSER):
        for long, short in SHORT.items():
            there = parser._option_string_actions.get(long)
            if there is None or there.nargs == 0:
                assert short not in parser._option_string_actions
                continue
            assert parser._option_string_actions[short] is there
            assert f"{short} " in parser.format_help()
            found += 1
    assert found > 20
    options = parse(["generate", "m", "-d", "sample:test", "-o", "p.jsonl", "-n", "3"])
    assert (options.data, options.out, options.max_rows) == (["sample:test"], Path("p.jsonl"), 3)


@pytest.mark.parametrize(
    ("words", "usage", "said"),
    [
        (["generate", "m", "-d", "x", "--max-row-s", "3"], "usage: mentallama generate [options] MODEL", "--max-rows"),
        (["generate", "--dta", "x"], "usage: mentallama generate [options] MODEL", "--data"),
        (["evaluate", "a", "--outt", "b"], "usage: mentallama evaluate [options] PREDICTIONS --out DIR", "--out"),
        (["data", "check", "a", "--repare"], "usage: mentallama data check [options]", "--repair"),
    ],
)
def test_a_wrong_flag_shows_the_usage_of_its_command_and_the_nearest_flag(words, usage, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(words)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith(usage)
    assert f"did you mean {said}" in last


@pytest.mark.parametrize(
    ("place", "kind", "said"),
    [
        ("a folder", "FILE", "is a folder; name a file"),
        ("a file", "DIR", "is a file; name a folder"),
        ("a file", "FOLDER", "is a file; name a folder"),
        ("a file/below", "FILE", "is a file, so that nothing can be written below it"),
        ("a folder/new/deep", "DIR", ""),
        ("a file", "FILE", ""),
        ("new", "OUT", ""),
    ],
)
def test_the_place_of_out_is_checked(place, kind, said, tmp_path):
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a file").touch()
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", metavar=kind, type=local_path)
    options = parser.parse_args(["--out", str(tmp_path / place)])
    if not said:
        check_out(parser, options)
        return
    with pytest.raises(UserError, match=said):
        check_out(parser, options)


def test_a_place_that_may_not_be_written_to_is_refused_before_anything_is_opened(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(common_options.os, "access", lambda *_: False)
    for words in (["generate", "no model", "-d", "nothing"], ["export", "no model"], ["evaluate", "nothing"]):
        assert main([*words, "-o", str(tmp_path / "x")]) == 2
        assert "may not be written to" in capsys.readouterr().err


def test_every_out_says_what_it_is():
    for parser in parsers(PARSER):
        if action := parser._option_string_actions.get("--out"):
            assert action.metavar in ("FILE", "DIR", "FOLDER", "OUT"), parser.prog


def complete(script: str, *words: str) -> set[str]:
    """What bash would offer for the last of the words."""
    place = " ".join(f"'{word}'" for word in words)
    code = f"{script}\nCOMP_WORDS=(mentallama {place}); COMP_CWORD={len(words)}; _mentallama; echo ${{COMPREPLY[@]}}"
    return set(subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_bash_completes_commands_options_and_choices():
    script = bash(COMMANDS)
    assert {"train", "generate", "completion"} <= complete(script, "")
    assert complete(script, "gen") == {"generate"}
    assert complete(script, "generate", "m", "--max-r") == {"--max-rows"}
    assert complete(script, "generate", "m", "--style", "") >= {"plain", "chatml"}
    assert complete(script, "data", "che") == {"check"}
    assert "--repair" in complete(script, "data", "check", "x", "--rep")
    assert complete(script, "completion", "") >= {"bash", "zsh", "fish"}
    assert "$(" not in script.replace("$(compgen", "")  # it starts no program


def test_every_option_is_in_every_script():
    options = {option for one in COMMANDS for option in one.options if option.startswith("--")}
    for script in (bash(COMMANDS), zsh(COMMANDS)):
        assert {option for option in options if option not in script} == set()
    lines = fish(COMMANDS).splitlines()
    assert all(line.startswith("complete -c mentallama -n ") for line in lines)
    assert {option for option in options if f"-l {option[2:]} " not in "\n".join(lines)} == set()


def test_what_comes_next_can_be_run():
    toy = load_config("configs/toy.yaml", ["data.train=[data/imhi:train]"])
    assert next_of_train(toy, "runs/x")[1:5] == ["generate", "runs/x", "--data", "data/imhi:test"]
    labels = load_config("configs/classifier-toy.yaml", [])
    assert next_of_train(labels, "runs/x")[:3] == ["mentallama", "report", "runs/x"]
    for config in (toy, labels):
        parse(next_of_train(config, "runs/x")[1:])


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--epochs", "3"], "; keys of the config have no dashes: training.epochs=VALUE"),
        (["--learning-rate=2e-5"], "; keys of the config have no dashes: optimizer.learning_rate=VALUE"),
        (["--training.steps", "9"], "; keys of the config have no dashes: training.steps=VALUE"),
        (["--nothing-of-the-kind"], ""),
    ],
)
def test_a_key_that_is_given_as_an_option_is_shown_as_one(words, hint, capsys) -> None:
    with pytest.raises(SystemExit):
        parse(["train", "toy", *words])
    told = capsys.readouterr().err.splitlines()[-1]
    assert hint in told
    assert ("keys of the config" in told) == bool(hint)
