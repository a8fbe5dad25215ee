"""Errors of the disk that name the file."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def naming(path: object) -> Iterator[None]:
    """Let an `OSError` of the block that names no file name this one: a full disk is told of by number alone."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
