"""Stopping at the next update when asked to, in place of dying in the middle of one."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

import jax

from mentallama_jax.parallel.processes import any_says


class StopRequest:
    """Becomes true when SIGTERM or Ctrl-C arrives. Use as a context manager, in the main thread.

    A second Ctrl-C raises `KeyboardInterrupt`: for who would rather lose the updates since the last checkpoint.
    """

    def __init__(self) -> None:
        self.signal_name = ""
        self._asked = 0
        self._alone = jax.process_count() == 1
        self._before: dict[signal.Signals, Any] = {}

    def __bool__(self) -> bool:
        return bool(self.signal_name)

    def agreed(self) -> bool:
        """Whether to stop, the same on all processes, which all call this: the rest would wait for one that stopped."""
        if not self._alone and not self.signal_name and (number := any_says(self._asked)):
            self.signal_name = _name(number)
        return bool(self)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._asked:
            raise KeyboardInterrupt
        self._asked = number
        if self._alone:
            self.signal_name = _name(number)
        again = "; once more: at once, without saving" if number == signal.SIGINT else ""
        # Not through the console: the signal may have come while that holds its lock.
        os.write(2, f"\n{_name(number)}: stopping after this update{again}\n".encode())


def _name(number: int) -> str:
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
