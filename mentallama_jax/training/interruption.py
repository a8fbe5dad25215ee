"""Stops a run at its next safe place when a signal asks for it, so that nothing dies in the middle of an update.

This module imports jax late: `mentallama train` listens to signals before it imports anything large, as an exception in
the middle of an import, or of a thread of a library, is lost or ends in a crash.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))


class StopRequest:
    """Becomes true when SIGTERM, SIGHUP or Ctrl-C arrives. Use as a context manager, in the main thread.

    A second Ctrl-C loses the updates since the last checkpoint. A signal that the process was started to ignore, as
    `nohup` does with SIGHUP, stays ignored.
    """

    def __init__(self, at_once: Callable[[], None] | None = None) -> None:
        """`at_once` is called on a second Ctrl-C; by default that raises `KeyboardInterrupt`.

        Such an exception is lost where the signal comes while Python collects garbage or calls back from C.
        """
        self.signal_name = ""
        self._at_once = at_once
        self.where = "after this update"
        """What the line on a signal says about when the run stops."""
        self._asked = 0
        self._before: dict[signal.Signals, Any] = {}

    def __bool__(self) -> bool:
        return bool(self.signal_name)

    @property
    def asked(self) -> bool:
        """Whether this process was asked, whatever the others say."""
        return bool(self._asked)

    def agreed(self) -> bool:
        """Whether to stop, the same on all processes. All call this, so that none waits for one that stopped."""
        from mentallama_jax.parallel.processes import any_says

        if not self.signal_name and (number := any_says(self._asked)):
            self.signal_name = _name(number)
        return bool(self)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._asked:
            if self._at_once is not None:
                self._at_once()
            raise KeyboardInterrupt
        self._asked = number
        if _alone():
            self.signal_name = _name(number)
        again = "; once more: at once, without saving" if number == signal.SIGINT else ""
        # Not through the console: the signal may have come while that holds its lock.
        os.write(2, f"\n{_name(number)}: stopping {self.where}{again}\n".encode())


def ignore_signals() -> None:
    """Ignore further signals: what is left is the end of the process, whose status would be another one."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _alone() -> bool:
    """Whether this is the only process of the run, without waking jax's devices up.

    A signal may come while jax is half imported; then no run of several processes has begun.
    """
    state = getattr(sys.modules.get("jax._src.distributed"), "global_state", None)
    return state is None or state.client is None


def _name(number: int) -> str:
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
