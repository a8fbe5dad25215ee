"""ONE table from logical names of array dimensions to axes of the mesh, and what follows from it.

Every array that is sharded names its dimensions in the words of `RULES`; `None` is a dimension that is never cut.
The functions read the mesh of the surrounding `parallel.mesh.use_mesh`, where one is needed.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

RULES: Mapping[str, tuple[str, ...]] = {
    "batch": ("data", "fsdp"),
    "length": ("sequence",),
    "heads": ("tensor",),
    "traded_heads": ("tensor", "sequence"),
    "feed_forward": ("tensor",),
    "vocabulary": ("tensor",),
    "width": ("fsdp",),
    "layers": (),
}
"""`width` is the model width of a parameter; that of an activation is `None`, as its rows are cut along `fsdp`.
`traded_heads` are those of attention once it has traded cut tokens for cut heads."""

Names = tuple[str | None, ...]


def spec(*names: str | None) -> PartitionSpec:
    """Where the dimensions of an array go.

    Raises:
        ValueError: an unknown name, or two dimensions that want the same axis.
    """
    unknown = [name for name in names if name is not None and name not in RULES]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no logical dimension; there are: {', '.join(RULES)}")
    axes = [RULES[name] if name is not None else () for name in names]
    flat = [axis for dimension in axes for axis in dimension]
    taken_twice = {axis for axis in flat if flat.count(axis) > 1}
    if taken_twice:
        raise ValueError(f"dimensions {names} of one array collide on mesh axis {', '.join(sorted(taken_twice))}")
    return PartitionSpec(*(dimension[0] if len(dimension) == 1 else dimension or None for dimension in axes))


def sharding(mesh: Mesh, names: Names, shape: tuple[int, ...], array: str) -> NamedSharding:
    """The sharding of an array of this shape.

    Raises:
        ValueError: the names do not match the shape, collide, or a dimension does not divide; it names `array`.
    """
    check_divides(mesh, names, shape, array)
    return NamedSharding(mesh, spec(*names))


def tree_shardings(mesh: Mesh, names: Any, shapes: Any) -> Any:
    """`sharding` for each array of a tree; `names` is the same tree with a tuple of names at each leaf.

    Raises:
        ValueError: see `sharding`; the array is named by its path, such as `layers.attention.query`.
    """

    def one(path: Any, shape: Any, leaf: Names) -> NamedSharding:
        return sharding(mesh, leaf, shape.shape, jax.tree_util.keystr(path, simple=True, separator="."))

    return jax.tree.map_with_path(one, shapes, names)


def check_divides(mesh: Mesh | AbstractMesh, names: Names, shape: tuple[int, ...], array: str) -> None:
    """Refuse an array whose dimensions do not divide along the mesh.

    Raises:
        ValueError: names `array`, the dimension and the axes.
    """
    if len(names) != len(shape):
        raise ValueError(f"{array} has shape {shape}, and {len(names)} names for its dimensions: {names}")
    for name, size in zip(names, shape, strict=True):
        axes = RULES[name] if name is not None else ()
        parts = math.prod(mesh.shape[axis] for axis in axes)
        if size % parts:
            raise ValueError(
                f"{array} {shape}: its {name} dimension of {size} does not divide along mesh axes "
                f"{' x '.join(f'{axis} {mesh.shape[axis]}' for axis in axes)}"
            )


def current_mesh() -> AbstractMesh | None:
    """The mesh of the surrounding `use_mesh`; None where there is none, or it is one device."""
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty or mesh.size == 1 else mesh


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """Tell the compiler where an activation goes; `x` itself where there is no mesh of several devices."""
    return x if current_mesh() is None else jax.lax.with_sharding_constraint(x, spec(*names))
