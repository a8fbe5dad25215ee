"""`mentallama completion`: what a shell completes, as a script that asks no program."""

import argparse
import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

_DESCRIPTION = """\
Print a script that lets a shell complete commands, options and their choices. It is made from the commands themselves
and starts no program when it completes: print it again after an update.
"""

_EPILOG = """\
examples:
  mentallama completion bash
  mentallama completion zsh
  mentallama completion fish

to keep it:
  bash   mkdir -p ~/.local/share/bash-completion/completions
         mentallama completion bash > ~/.local/share/bash-completion/completions/mentallama
  zsh    mentallama completion zsh > ~/.zsh_mentallama; echo 'source ~/.zsh_mentallama' >> ~/.zshrc
  fish   mkdir -p ~/.config/fish/completions
         mentallama completion fish > ~/.config/fish/completions/mentallama.fish
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "completion",
        help="print a script that lets a shell complete options",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell to print it for")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    from mentallama_jax.cli.main import build_parser

    script = {"bash": bash, "zsh": zsh, "fish": fish}[options.shell]
    print(script(list(commands_of(build_parser()))), end="")
    return 0


class Completed(NamedTuple):
    """What stands behind a command.

    Attributes:
        path: the words of the command behind `mentallama`; none for `mentallama` itself.
        children: the commands below it, with what they do.
        options: each option with its help and its choices.
    """

    path: tuple[str, ...]
    children: dict[str, str]
    options: dict[str, tuple[str, tuple[str, ...]]]


def commands_of(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[Completed]:
    """A parser's command and, below it, those of its subcommands."""
    children: dict[str, argparse.ArgumentParser] = {}
    helps: dict[str, str] = {}
    options = {}
    for action in parser._actions:
        choices = tuple(map(str, action.choices or ()))
        if isinstance(action, argparse._SubParsersAction):
            children = dict(action.choices)
            helps = dict.fromkeys(children, "") | {one.dest: one.help or "" for one in action._choices_actions}
        elif not action.option_strings and choices:
            helps |= dict.fromkeys(choices, action.help or "")
        for option in action.option_strings:
            options[option] = ((action.help or "").replace("%%", "%"), choices)
    yield Completed(path, helps, options)
    for name, child in children.items():
        yield from commands_of(child, (*path, name))


def bash(commands: list[Completed]) -> str:
    """The script for bash; where nothing of ours fits, it completes files."""
    lines = [
        "_mentallama() {",
        "  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} place words=",
        '  place="${COMP_WORDS[1]-} ${COMP_WORDS[2]-}"',
        '  ((COMP_CWORD > 1)) || place=" "',
        '  ((COMP_CWORD > 2)) || place="${place%% *} "',
        '  case "$place|$before" in',
    ]
    for one in sorted(commands, key=lambda one: -len(one.path)):
        pattern = _pattern(one.path)
        for option, (_, choices) in one.options.items():
            if choices:
                lines.append(f"    {pattern}'|{option}') words={shlex.quote(' '.join(choices))} ;;")
    lines += ["    *)", '      case "$place" in']
    for one in sorted(commands, key=lambda one: -len(one.path)):
        words = " ".join([*one.children, *one.options])
        lines.append(f"        {_pattern(one.path)}) words={shlex.quote(words)} ;;")
    lines += [
        "      esac",
        "      ;;",
        "  esac",
        '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
        "}",
        "complete -o default -F _mentallama mentallama",
    ]
    return "\n".join(lines) + "\n"


def _pattern(path: tuple[str, ...]) -> str:
    return {0: "' '", 1: f"{path[0]}' '*" if path else ""}.get(len(path)) or f"'{' '.join(path)}'"


def zsh(commands: list[Completed]) -> str:
    """The script for zsh, which runs that of bash."""
    return "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n" + bash(commands)


def fish(commands: list[Completed]) -> str:
    """The script for fish."""
    lines = []
    for one in commands:
        seen = [f"__fish_seen_subcommand_from {word}" for word in one.path]
        where = shlex.quote("; and ".join(seen) if seen else "__fish_use_subcommand")
        if one.path and one.children:
            none = f"not __fish_seen_subcommand_from {' '.join(one.children)}"
            where_child = shlex.quote("; and ".join([*seen, none]))
        else:
            where_child = where
        for child, told in one.children.items():
            lines.append(f"complete -c mentallama -n {where_child} -a {child} -d {shlex.quote(told)}")
        for option, (told, choices) in one.options.items():
            name = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            values = f" -x -a {shlex.quote(' '.join(choices))}" if choices else ""
            lines.append(f"complete -c mentallama -n {where} {name}{values} -d {shlex.quote(told)}")
    return "\n".join(lines) + "\n"
