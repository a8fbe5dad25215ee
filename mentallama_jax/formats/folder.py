"""Reads the small files of a model folder, which strangers wrote."""

import stat
from pathlib import Path
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import parse_json, reading

# A vocabulary of a quarter of a million pieces with its merges takes 35 MB.
_LARGEST_FILE = 256 * 2**20


def file_size(path: Path) -> int:
    """Bytes of a regular file, links followed. A pipe or a device would be waited for, or read, without end.

    Raises:
        UserError: it is something else, or cannot be looked at.
        FileNotFoundError: there is nothing.
    """
    with reading(path, "file"):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path}: not a regular file; put the file itself in its place")
    return status.st_size


def read_small(path: Path) -> bytes:
    """The bytes of a file that holds no weights.

    Raises:
        UserError: not a regular file, too large for its kind, or not readable.
        FileNotFoundError: there is none.
    """
    size = file_size(path)
    if size > _LARGEST_FILE:
        raise UserError(f"{path}: {size / 1e6:,.0f} MB is too large for a file of this kind")
    with reading(path, "file"):
        return path.read_bytes()


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. NaN and infinities are let through, so that who reads the key can name it.

    Raises:
        UserError: as `read_small`, or no JSON object.
        FileNotFoundError: there is none.
    """
    value = parse_json(read_small(path), path, allow_nan=True)
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object")
    return value
