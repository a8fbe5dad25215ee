"""The option `--mesh` of commands that answer on several devices."""

import argparse
from typing import TYPE_CHECKING

from mentallama_jax.errors import UserError

if TYPE_CHECKING:
    from jax.sharding import Mesh


def add_mesh(parser: argparse.ArgumentParser) -> None:
    """Add `--mesh`."""
    parser.add_argument(
        "--mesh",
        nargs="+",
        default=[],
        metavar="AXIS=N",
        help="devices that share the model (fsdp, tensor) and the rows (data, fsdp) of answers, such as fsdp=4 "
        "tensor=2; the answers are those of one device (default: one device)",
    )


def mesh_of(words: list[str]) -> "Mesh | None":
    """The mesh that `--mesh` asks for; None for one device."""
    from mentallama_jax.config import MeshSection
    from mentallama_jax.parallel.mesh import make_mesh

    sizes = {}
    for word in words:
        axis, _, count = word.partition("=")
        if axis not in ("data", "fsdp", "tensor") or not count.isdecimal() or int(count) < 1:
            raise UserError(f"--mesh {word}: give data=N, fsdp=N or tensor=N")
        sizes[axis] = int(count)
    return make_mesh(MeshSection(**({"fsdp": 1} | sizes))) if sizes else None
