"""Whether a checkpoint that orbax calls saved holds all that was saved: asked of its index, without decoding arrays."""

import json
import math
import os
from collections import Counter
from typing import Any

import jax
import tensorstore

from mentallama_jax.errors import UserError
from mentallama_jax.storage import AnyPath, RemotePath

Shapes = dict[str, dict[str, tuple[int, ...]]]
"""Part of a checkpoint -> name of an array -> its shape."""


def array_shapes(parts: dict[str, Any]) -> Shapes:
    """The arrays of each part by the names that orbax gives them."""
    return {
        part: {key(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for part, tree in parts.items()
    }


def key(path: Any) -> str:
    """The name of an array, such as `layers.norm.scale`, from its path in a tree."""
    return ".".join(str(getattr(part, "key", getattr(part, "idx", getattr(part, "name", part)))) for part in path)


def check_arrays(folder: AnyPath, shapes: Shapes) -> None:
    """Make sure that every piece of every array is in the index of its part.

    Raises:
        UserError: an array or a piece of one is not there; the part and the array are named.
    """
    for part, arrays in shapes.items():
        store = tensorstore.KvStore.open({"driver": "ocdbt", "base": _base(folder / part)}).result()
        keys = [bytes(name).decode() for name in store.list().result()]
        pieces = Counter(name.split("/c/")[0].removesuffix("/c") for name in keys if not name.endswith("zarr.json"))
        for name, shape in arrays.items():
            described = store.read(f"{name}/zarr.json").result().value if f"{name}/zarr.json" in keys else b""
            if not described:
                raise UserError(f"{part}: array {name} cannot be read back")
            grid = json.loads(described)["chunk_grid"]["configuration"]["chunk_shape"]
            wanted = math.prod(-(-size // piece) for size, piece in zip(shape, grid, strict=True))
            if pieces[name] != wanted:
                raise UserError(f"{part}: {pieces[name]} of {wanted} pieces of array {name} can be read back")


def _base(folder: AnyPath) -> Any:
    if isinstance(folder, RemotePath):
        return f"{folder.url}/"
    return {"driver": "file", "path": f"{os.fspath(folder.absolute())}/"}
