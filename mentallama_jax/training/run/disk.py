"""Errors of the disk that name the file, and locks on file systems that have none."""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


@contextmanager
def naming(path: object) -> Iterator[None]:
    """Let an `OSError` of the block that names no file name this one: a full disk is told of by number alone."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def lock(stream: IO[Any]) -> bool:
    """Lock an open file for this process alone; False where the file system has no locks (Lustre, some NFS).

    Raises:
        BlockingIOError: another process holds it.
        OSError: the file system fails otherwise.
    """
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True
