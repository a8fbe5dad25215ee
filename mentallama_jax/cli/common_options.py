"""What all commands share: short options, the nearest option to a wrong one, and checks of what was given."""

import argparse
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mentallama_jax.errors import UserError

SHORT = {"--out": "-o", "--data": "-d", "--max-rows": "-n"}
"""The options that are typed most; their short forms mean the same in every command that has them."""


def add_short_options(parser: argparse.ArgumentParser) -> None:
    """Give the common options of a parser, and of all below it, their short forms."""
    for one in _with_all_below(parser):
        for action in one._actions:
            for option in set(action.option_strings) & set(SHORT):
                short = SHORT[option]
                if action.nargs != 0 and short not in one._option_string_actions:
                    action.option_strings = [*action.option_strings, short]
                    one._option_string_actions[short] = action


def _with_all_below(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from _with_all_below(child)


def parser_of(parser: argparse.ArgumentParser, options: argparse.Namespace) -> argparse.ArgumentParser:
    """The parser of the command that was chosen."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            child = action.choices.get(getattr(options, action.dest, None) or "")
            return parser_of(child, options) if child else parser
    return parser


def nearest(parser: argparse.ArgumentParser, words: list[str]) -> str:
    """A hint to the options that wrong ones were meant to be; "" where none is near."""
    import difflib

    known = [option for option in parser._option_string_actions if option.startswith("--")]
    wrong = [word.partition("=")[0] for word in words if word.startswith("--")]
    near = [difflib.get_close_matches(word, known, 1, 0.75) for word in wrong]
    found = dict.fromkeys(option for options in near for option in options)
    return f"; did you mean {' and '.join(found)}?" if found else ""


def nearest_command(parser: argparse.ArgumentParser, words: Iterable[str]) -> str:
    """A hint to the command that a wrong one was meant to be; "" where none is near."""
    import difflib

    known = [
        name for action in parser._actions if isinstance(action, argparse._SubParsersAction) for name in action.choices
    ]
    near = [name for word in words if word not in known for name in difflib.get_close_matches(word, known, 1)]
    return f"; did you mean {near[0]}?" if near else ""


def as_config_keys(words: list[str]) -> str:
    """A hint to the keys of a config that wrong options were meant to be, as in `--epochs 3`; "" where none is one."""
    from mentallama_jax.config import RunConfig, known_keys

    wrong = [word.partition("=")[0].lstrip("-").replace("-", "_") for word in words if word.startswith("--")]
    meant = [key for key in known_keys(RunConfig) if any(word in (key, key.rpartition(".")[2]) for word in wrong)]
    return f"; keys of the config have no dashes: {' '.join(f'{name}=VALUE' for name in meant)}" if meant else ""


def unknown_options(parser: argparse.ArgumentParser, words: Iterable[str]) -> list[str]:
    """The words that look like options and are none of this parser, nor the beginning of one."""
    known = list(parser._option_string_actions)
    names = [word.partition("=")[0] for word in words]
    return [name for name in names if name[:2] == "--" and name[2:] and not any(one.startswith(name) for one in known)]


def short_usage(parser: argparse.ArgumentParser) -> str:
    """The usage in a line: what must be given, and where the rest is told."""
    words = [parser.prog, "[options]"]
    for action in parser._actions:
        name = action.metavar if isinstance(action.metavar, str) else action.dest
        if action.option_strings and action.required:
            words.append(f"{action.option_strings[0]} {name}")
        elif not action.option_strings:
            words.append(f"[{name} ...]" if action.nargs == "*" else f"[{name}]" if action.nargs == "?" else str(name))
    return f"usage: {' '.join(words)}    ({parser.prog} --help tells all)\n"


def check_numbers(options: argparse.Namespace, least: Mapping[str, int]) -> None:
    """Refuse numbers that are too small; those that were not given pass.

    Args:
        options: of the command.
        least: name, as `options` has it -> the smallest number that makes sense.

    Raises:
        UserError: names the first.
    """
    for name, smallest in least.items():
        value = getattr(options, name)
        if value is not None and value < smallest:
            raise UserError(f"--{name.replace('_', '-')} {value}: give a number from {smallest}")


def check_out(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse an `--out` that cannot be written, before anything is loaded or computed.

    Raises:
        UserError: a file stands where a folder is wanted, or the reverse, or the folder above may not be written to.
    """
    out = getattr(options, "out", None)
    action = parser_of(parser, options)._option_string_actions.get("--out")
    if not isinstance(out, Path) or action is None:
        return
    if action.metavar == "FILE" and out.is_dir():
        raise UserError(f"--out {out}: is a folder; name a file")
    if action.metavar in ("DIR", "FOLDER") and out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; name a folder")
    above = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    if above == out.absolute() and not above.is_dir():
        above = above.parent
    if not above.is_dir():
        raise UserError(f"--out {out}: {above} is a file, so that nothing can be written below it")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"--out {out}: {above} may not be written to; name another place")
