"""Writes a safetensors file tensor by tensor, byte for byte as `safetensors.numpy.save_file` writes it."""

import json
import os
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from mentallama_jax.errors import UserError

_DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
_ITEM_SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}


def write_safetensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str, read: Callable[[str], np.ndarray[Any, Any]]
) -> None:
    """Write tensors of one dtype to a new file; one of them is in memory at a time.

    Args:
        path: the file to make.
        shapes: name -> shape of each tensor.
        dtype: "float32", "bfloat16" or "float16".
        read: name -> the tensor, contiguous, of that shape and dtype. It is called once for each name.

    Raises:
        UserError: the file cannot be written, for example on a full disk.
    """
    names = sorted(shapes)  # the format's own writer sorts them, and readers map the file in this order
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # readers ask for this mark to know the layout
    end = 0
    for name in names:
        begin, end = end, end + prod(shapes[name]) * _ITEM_SIZES[dtype]
        header[name] = {"dtype": _DTYPES[dtype], "shape": list(shapes[name]), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    try:
        with path.open("xb") as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
            for name in names:
                tensor = read(name)
                assert (tensor.shape, str(tensor.dtype)) == (shapes[name], dtype), name
                stream.write(tensor.reshape(-1).view(np.uint8).data)
                del tensor
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(f"{path.name}: could not be written ({reason}); make room and try again") from None
