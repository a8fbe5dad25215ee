"""What orbax and its store say when something fails, each brought to one line that names the file and the reason."""

import logging
import re
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

_LONGEST = 300
_DISK = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|Read-only file system|Input/output error"
)
_PATH = re.compile(r'"((?:/|\w+://)[^"]+)"')
_RAISED = "_SignalingThread.run() raised an exception"
"""orbax logs what a thread of it raises, and raises it again where the save is waited for, which this package tells."""

Hook = Callable[[type[BaseException], BaseException, TracebackType | None], Any]


class _OneLine(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        message = " ".join(record.getMessage().split())
        record.msg, record.args = message[:_LONGEST], ()
        record.exc_info = record.exc_text = record.stack_info = None
        return _RAISED not in message


_FILTER = _OneLine()


def one_line_each() -> None:
    """Keep the warnings of orbax, each cut to a line and without the traceback."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_FILTER)  # the same one again changes nothing


def brief(error: BaseException) -> str:
    """The first sentence of the first cause, without the store's own description of itself."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = " ".join(str(error).split())
    reason, path = _DISK.search(text), _PATH.search(text)
    if reason and path:
        return f"{path[1]}: {reason[0]}"
    return text.split(" [tensorstore_spec")[0][:200] or type(error).__name__


def without_stray_errors() -> Hook:
    """Leave out a traceback that the store prints from its threads after a save has failed: nobody waits for them.

    orbax closes its event loop at the first error of a save, and each write still under way then fails to tell it.

    Returns:
        The hook before, to be put back once all saves went well.
    """
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not (kind is RuntimeError and str(error) == "Event loop is closed"):
            usual(kind, error, trace)

    sys.excepthook = hook
    return usual
