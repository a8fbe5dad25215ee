"""Several processes that train as one: how they start, agree, and end together when one is lost."""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from mentallama_jax.errors import UserError

START_SECONDS = 300
"""How long the processes wait for one another at the start."""
LOST_SECONDS = 20
"""How long a process may stay silent before the others end."""
LOST = 76
"""Exit status of a process that ends because of another one (run the command again)."""

_BEAT_SECONDS = 1.0
_ALIVE, _ERRORS = "mentallama/alive", "mentallama/errors"


def connect(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> None:
    """Join the other processes; before anything else is asked of jax.

    Without arguments jax finds them itself: on TPU pods, Slurm, Kubernetes and Open MPI.

    Args:
        coordinator: HOST:PORT of process 0.
        processes: how many there are.
        process: which this one is, from 0.

    Raises:
        UserError: they did not all come in time, or nothing tells how many there are.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # Else the coordination service aborts every process, with a page of text, before `_Watch` can name the lost one.
    jax.config.update("jax_enable_recoverability", True)
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            initialization_timeout=START_SECONDS,
            shutdown_timeout_seconds=LOST_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"the processes did not find one another ({reason}); start all of them within {START_SECONDS} s, with the "
            "same --coordinator and --processes and each its own --process"
        ) from None


def writes_files() -> bool:
    """Whether this process is the one that writes the files of a run."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Wait until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def any_says(number: int) -> int:
    """The largest of the numbers of all processes, the same everywhere."""
    if jax.process_count() == 1:
        return number
    return int(np.max(multihost_utils.process_allgather(np.array(number, np.int32))))


def first_says(answer: bool) -> bool:
    """What process 0 says, on every process."""
    if jax.process_count() == 1:
        return answer
    return bool(multihost_utils.broadcast_one_to_all(np.array(answer, np.int32)))


@contextmanager
def together() -> Iterator[None]:
    """Inside, a lost process or an error in one ends all of them, each with a line that names it."""
    if jax.process_count() == 1:
        yield
        return
    watch = _Watch()
    watch.start()
    try:
        yield
    except Exception as error:
        watch.fail(error)
    watch.stop()


class _Watch(threading.Thread):
    """Tells the others that this process lives, and looks whether they do."""

    def __init__(self) -> None:
        super().__init__(name="processes", daemon=True)
        from jax._src.distributed import global_state  # jax has no public way to its key-value store

        self._client: Any = global_state.client
        self._me, self._count = jax.process_index(), jax.process_count()
        self._done = threading.Event()
        now = time.monotonic()
        self._seen = dict.fromkeys(range(self._count), ("", now))
        self._hosts: dict[int, str] = {}

    def run(self) -> None:
        """Beat and look until stopped."""
        beat = 0
        while not self._done.wait(_BEAT_SECONDS):
            beat += 1
            try:
                value = json.dumps([beat, socket.gethostname()])
                self._client.key_value_set(f"{_ALIVE}/{self._me}", value, allow_overwrite=True)
                alive = dict(self._client.key_value_dir_get(_ALIVE))
                errors = dict(self._client.key_value_dir_get(_ERRORS))
            except Exception:
                if not self._done.is_set():
                    self._end(f"process 0 ({self._hosts.get(0, 'the coordinator')}) is lost")
                return
            for key, message in errors.items():
                index = int(key.rsplit("/", 1)[-1])
                if index != self._me and not self._done.is_set():
                    self._end(f"process {index} ({self._hosts.get(index, '?')}) failed: {message}")
            self._look(alive)

    def stop(self) -> None:
        """Wait for the others to come to their end as well, then look no more."""
        barrier("end of the run")
        self._done.set()
        self.join()

    def fail(self, error: Exception) -> NoReturn:
        """End this process for its own error, or for that of another where that is what it ran into."""
        if not isinstance(error, UserError):  # a collective fails at once where a process is lost: wait for its name
            time.sleep(LOST_SECONDS + 5 * _BEAT_SECONDS)
        self._done.set()
        message = " ".join(str(error).split())[:500] or type(error).__name__
        self._client.key_value_set(f"{_ERRORS}/{self._me}", message, allow_overwrite=True)
        if not isinstance(error, UserError):
            sys.excepthook(type(error), error, error.__traceback__)
        else:
            print(f"error: {message}", file=sys.stderr, flush=True)
        time.sleep(5 * _BEAT_SECONDS)  # the others read it; without process 0 nobody can
        os._exit(2)

    def _look(self, alive: dict[str, str]) -> None:
        now = time.monotonic()
        for key, value in alive.items():
            index = int(key.rsplit("/", 1)[-1])
            self._hosts[index] = json.loads(value)[1]
            if self._seen[index][0] != value:
                self._seen[index] = (value, now)
        for index, (_, when) in self._seen.items():
            if index != self._me and now - when > LOST_SECONDS and not self._done.is_set():
                host = self._hosts.get(index, "unknown host")
                self._end(f"process {index} ({host}) is lost: silent for {LOST_SECONDS} s")

    def _end(self, reason: str) -> NoReturn:
        line = f"error: {reason}; run the same command on all hosts again: it goes on from the last checkpoint\n"
        os.write(2, line.encode())
        if self._me == 0:
            time.sleep(3 * _BEAT_SECONDS)  # process 0 holds the store that the others learn it from
        os._exit(LOST)
