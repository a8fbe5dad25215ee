"""`mentallama configs`: the configs that are shipped, listed, and copied to be changed."""

import argparse
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.storage import local_path

_DESCRIPTION = """\
The configs that come with the package, also where it was installed without its repository. Each can be named as it
is listed: `mentallama train toy` is `mentallama train configs/toy.yaml` of a clone. A copy is yours to change; every
key of llama2-7b has a line on what it does.
"""

_EPILOG = """\
examples:
  mentallama configs list
  mentallama configs copy llama2-7b
  mentallama configs copy toy mine.yaml
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its own."""
    parser = subparsers.add_parser(
        "configs",
        help="list the configs that are shipped, or copy one",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inner = parser.add_subparsers(dest="configs_command", metavar="COMMAND", required=True)
    listing = inner.add_parser("list", help="name and purpose of each")
    listing.set_defaults(run=list_configs)
    copying = inner.add_parser("copy", help="write a copy to change")
    copying.add_argument("name", metavar="NAME", help="as listed, such as llama2-7b")
    copying.add_argument("to", metavar="FILE", type=local_path, nargs="?", help="default: NAME.yaml here")
    copying.set_defaults(run=copy_config)


def list_configs(options: argparse.Namespace) -> int:
    """Print the name of each config and what it is for."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from mentallama_jax.config.shipped import shipped_configs, summary
    from mentallama_jax.terminal import Console

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("config", no_wrap=True)
    table.add_column("what it is")
    for name, path in shipped_configs().items():
        table.add_row(name, summary(path))
    console = Console(highlight=False)
    console.print(table)
    console.print("mentallama train NAME runs one; mentallama configs copy NAME makes a copy to change", soft_wrap=True)
    return 0


def copy_config(options: argparse.Namespace) -> int:
    """Write a copy; nothing is overwritten."""
    from pathlib import Path

    from mentallama_jax.config.shipped import near_config, shipped_configs
    from mentallama_jax.files import atomic_open
    from mentallama_jax.foreign import shown

    name = options.name.removeprefix("configs/").removesuffix(".yaml")
    source = shipped_configs().get(name)
    if source is None:
        raise UserError(f"{shown(options.name)[1:-1]}: no such config; {near_config(Path(name))}")
    target = Path(options.to or f"{name}.yaml")
    if target.exists():
        raise UserError(f"{target}: is there already; name another file")
    with atomic_open(target) as stream:
        stream.write(source.read_text("utf-8"))
    print(f"{target} written; change it, then: mentallama train {target}")
    return 0
