"""What the parser takes and refuses, and that whatever goes wrong is one line that a terminal survives."""

import argparse
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.progress import TextColumn
from rich.table import Table

from mentallama_jax.cli import main as main_module
from mentallama_jax.cli.main import main, parse
from mentallama_jax.cli.surroundings import explain
from mentallama_jax.errors import UserError
from mentallama_jax.terminal import Console

ROOT = Path(__file__).resolve().parents[2]

CHANGES = ["training.steps=5", "model.remat=full"]


@pytest.mark.parametrize("place", range(3))
def test_changes_to_the_config_may_stand_before_and_after_options(place):
    words = ["train", "run.yaml", *CHANGES[:place], "--distributed", *CHANGES[place:]]
    options = parse(words)
    assert (options.config, options.overrides, options.distributed) == ("run.yaml", CHANGES, True)


def test_options_may_come_first():
    options = parse(["plan", "--topology", "v5e-64", "run.yaml", *CHANGES])
    assert (options.config, options.overrides, options.topology) == ("run.yaml", CHANGES, ["v5e-64"])


@pytest.mark.parametrize(
    ("words", "unknown"),
    [
        (
            ["train", "run.yaml", "--distributed", "--steps=5"],
            "--steps=5; keys of the config have no dashes: training.steps=VALUE",
        ),
        (
            ["train", "run.yaml", "--steps", "training.seed=1"],
            "--steps; keys of the config have no dashes: training.steps=VALUE",
        ),
        (["train", "run.yaml", "--distributed", "another.yaml"], "another.yaml"),
        (["evaluate", "answers", "--out", "scores", "training.seed=1"], "training.seed=1"),
    ],
)
def test_what_is_neither_is_refused_by_its_name(words, unknown, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(words)
    assert capsys.readouterr().err.endswith(f"unrecognized arguments: {unknown}\n")


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    def run(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(main_module, "parse", lambda _: argparse.Namespace(run=run))
    return main([])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("a\x1b[31mb\nc\u202e"), r"error: a\x1b[31mb c\u202e"),
        (UserError("x" * 5000 + "; choose another"), "; choose another"),
        (RecursionError("maximum recursion depth exceeded"), "error: a file is nested too deeply to be read"),
        (MemoryError(), "error: out of memory on this host"),
        (OSError("no number and no name"), "error: no number and no name"),
        (OSError(), "error: OSError"),
        (OSError(28, "No space left on device", "a/file"), "error: a/file: No space left on device"),
        (ConnectionResetError(104, "Connection reset by peer"), "error: Connection reset by peer"),
        (RuntimeError("Could not determine home directory."), "error: no home directory is known; set HOME"),
    ],
)
def test_whatever_ends_a_command_is_one_short_printable_line(error, said, monkeypatch, capsys):
    assert fail_with(error, monkeypatch) == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert len(line) <= 310


def test_a_mistake_of_the_program_keeps_its_traceback(monkeypatch):
    for error in (
        RuntimeError("broken"),
        KeyError("x"),
        ImportError("no such name"),
        UnicodeEncodeError("a", "b", 0, 1, ""),
    ):
        assert explain(error) is None
        with pytest.raises(type(error)):
            fail_with(error, monkeypatch)


def run_command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return subprocess.run(
        [sys.executable, "-m", "mentallama_jax.cli.main", *words],
        cwd=ROOT, env=plain | environment, capture_output=True, text=True, check=False, errors="replace",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        (["data", "check", "hub:no/such"], {"ALL_PROXY": "socks5://127.0.0.1:9"}, "the proxy of this machine"),
        (["data", "check", "hub:no/such"], {"HTTPS_PROXY": "::bad::"}, "the proxy of this machine"),
        (["data", "check", "hub:no/such"], {"HF_TOKEN": "gehe\u00ef", "HTTPS_PROXY": ""}, "not ASCII; set HF_TOKEN"),
        (["data", "check", "no\udcff"], {}, r"an argument is not UTF-8: 'no\udcff'"),
        (["data", "check", "\u00e9"], {"PYTHONIOENCODING": "ascii"}, r"\xe9: no such file or folder"),
        (["data", "check", "x" * 20_000], {}, "File name too long"),
        (["train", "configs/toy.yaml", "training.run_dir=/dev/null/x"], {"JAX_PLATFORMS": "none"}, "no such device"),
    ],
)  # fmt: skip
def test_a_fault_of_the_surroundings_is_one_line(words, environment, said):
    done = run_command(*words, **environment)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()[-1]) <= 310


@pytest.mark.long
def test_a_reader_that_goes_away_ends_the_command_quietly():
    command = f"{sys.executable} -m mentallama_jax.cli.main data check sample"
    for rest, status in (("| head -c 1", "141"), (">/dev/full", "2"), (">&-", "0")):
        script = f"{command} {rest}; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout[-len(status) - 1 :] == f"{status}\n", rest
        assert done.stderr.splitlines() in ([], ["error: No space left on device"])


def test_what_python_cannot_raise_is_still_told_but_not_of_closed_loops(monkeypatch):
    told: list[str] = []
    monkeypatch.setattr(sys, "__unraisablehook__", lambda unraisable: told.append(str(unraisable.exc_value)))
    for error in (RuntimeError("Event loop is closed"), RuntimeError("something else"), ValueError("loop is closed")):
        main_module._without_loops_at_exit(argparse.Namespace(exc_value=error))
    assert told == ["something else", "loop is closed"]


def test_foreign_text_is_printed_as_it_is():
    stream = io.StringIO()
    console = Console(file=stream, width=80)
    table = Table("[red]", title="[/x] :smile:")
    table.add_row("[/y]\x1b[31m")
    console.print("[/x] [bold] :smile: \x1b[2J", "[red]")
    console.print(table)
    for text in ("[/x] [bold] :smile: \\x1b[2J [red]", "[/x] :smile:", "[red]", "[/y]\\x1b[31m"):
        assert text in stream.getvalue()


def test_every_console_is_the_literal_one():
    package = ROOT / "mentallama_jax"
    for path in package.rglob("*.py"):
        source = path.read_text("utf-8")
        if path.name != "terminal.py":
            assert not re.search(r"from rich(\.console)? import.*(Console|\bprint\b)", source), path
            assert "rich.console.Console" not in source, path
        # A bar takes its description for markup, whatever its console does.
        assert 'TextColumn("{task.description}")' not in source, path
    assert TextColumn("x").markup


@pytest.mark.parametrize("name", ["[/x]", "[red]", "we[i]rd \u00e9"])
def test_commands_work_in_folders_whose_names_look_like_markup(name, tmp_path, capsys):
    folder = tmp_path / name
    assert main(["data", "convert", "sample:test", "--out", str(folder)]) == 0
    assert main(["data", "check", str(folder), "--json", str(folder / "facts.json")]) == 0
    assert (folder / "facts.json").is_file()
    answers = folder / "answers"
    answers.mkdir()
    (answers / "DR.csv").write_text("goldens,generated_text\nyes.,Yes.\nno.,No.\n", "utf-8")
    assert main(["evaluate", str(answers), "--out", str(folder / "scores")]) == 0
    assert str(folder / "scores") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "hint"), [("tarin", "; did you mean train?"), ("evalaute", "; did you mean evaluate?"), ("xyz", "")]
)
def test_a_command_that_is_nearly_one_is_named(word, hint, capsys):
    with pytest.raises(SystemExit):
        main([word])
    told = capsys.readouterr().err
    assert told.rstrip().endswith(hint or ")")
    assert ("did you mean" in told) == bool(hint)
