"""Reads a checkpoint tensor by tensor, so that an export never holds a whole model."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from mentallama_jax.foreign import reading
from mentallama_jax.training.run.manifest import Checkpoint

_STACKED = "layers"


class CheckpointTensors:
    """The parameters of a checkpoint, read one at a time; the devices stay empty."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._arrays: dict[tuple[str, ...], Any] = {}

    def read(self, path: tuple[str, ...], layer: int) -> np.ndarray[Any, Any]:
        """The parameter at `path` as it is stored; of one that is stacked over layers, the layer `layer`.

        A checkpoint that was saved before layers were stored apart is decoded by whole parameters.

        Raises:
            UserError: it cannot be read.
        """
        with reading(f"{self._checkpoint.path}: {'.'.join(path)}", "array of a checkpoint"):
            if path not in self._arrays:
                self._arrays[path] = self._open(path)
            array = self._arrays[path]
            return np.asarray((array[layer] if _STACKED in path else array).read().result())

    def _open(self, path: tuple[str, ...]) -> Any:
        import tensorstore

        folder = self._checkpoint.path.absolute() / "params"
        base: Any = f"{os.fspath(folder)}/"
        if isinstance(folder, Path):
            base = {"driver": "file", "path": base}
        store = {"driver": "ocdbt", "base": base, "path": f"{'.'.join(path)}/"}
        return tensorstore.open({"driver": "zarr3", "kvstore": store}, read=True).result()
