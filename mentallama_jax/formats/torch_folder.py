"""Reads the weights of a Hugging Face folder that has only `pytorch_model.bin`, whole or in several files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown, shown_tensor
from mentallama_jax.formats.architectures.parameter_names import Parameter
from mentallama_jax.formats.shards import TORCH, find_shards
from mentallama_jax.formats.torch_file import TorchFile

_FLOATS = ("float32", "float16", "bfloat16")


class TorchFolder:
    """The tensors of a folder's torch files (an `assembly.TensorFile`)."""

    table = "hf"

    def __init__(self, folder: Path) -> None:
        """Read all but the tensors' numbers.

        Raises:
            UserError: no such files, or one that is none of torch; or index and files contradict each other.
        """
        paths, weight_map = find_shards(folder, TORCH)
        self._read(folder, paths, weight_map)

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """The tensors of one file, whatever it is called.

        Raises:
            UserError: none of torch.
        """
        made = cls.__new__(cls)
        made._read(path, [path], None)
        return made

    def _read(self, origin: Path, paths: Sequence[Path], weight_map: Mapping[str, str] | None) -> None:
        self.origin = str(origin)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.unreadable: dict[str, str] = {}
        self._files: dict[str, TorchFile] = {}
        for path in paths:
            file = TorchFile(path)
            for name, (dtype, shape) in file.tensors.items():
                if name in self.shapes:
                    raise UserError(f"{path}: {shown_tensor(name)} is in another file too; which one counts?")
                if weight_map is not None and weight_map.get(name) != path.name:
                    where = shown(weight_map[name]) if name in weight_map else "no file"
                    raise UserError(f"{path}: holds {shown_tensor(name)}, which {TORCH.index} places in {where}")
                if dtype.name not in _FLOATS:
                    self.unreadable[name] = (
                        f"{path}: {shown_tensor(name)} is stored as {dtype.name}; only {', '.join(_FLOATS)} can be read"
                    )
                self.shapes[name] = shape
                self._files[name] = file
        if weight_map and (absent := next((name for name in weight_map if name not in self.shapes), None)):
            raise UserError(f"{origin / TORCH.index}: places {shown_tensor(absent)} in a file that does not hold it")

    def read(self, name: str, parameter: Parameter) -> np.ndarray[Any, Any]:
        """The tensor in its stored type (fp32, fp16 or ml_dtypes' bfloat16)."""
        return self._files[name].read(name)
