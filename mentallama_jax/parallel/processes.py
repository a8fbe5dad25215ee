"""Several processes that work as one: how they start, agree, and end together when one is lost."""

import ctypes
import hashlib
import os
import signal
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
from mentallama_jax.foreign import one_line
from mentallama_jax.parallel.roll_call import AbsentError, call

START_SECONDS = 300
"""How long the processes wait for one another at the start."""
LOST_SECONDS = 20
"""How long a process may stay silent before the others end."""
LOST = 76
"""Exit status of a process that ends because of another one (run the command again)."""

_BEAT_SECONDS = 1.0
_QUIET_SECONDS = 5.0
_NO_PROXY = "NO_GRPC_PROXY".lower()  # gRPC reads the small letters only
_KEPT: list[Any] = []  # what C calls must outlive the call that handed it over
_ALIVE, _ERRORS = "mentallama/alive", "mentallama/errors"


@contextmanager
def joined(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> Iterator[None]:
    """Join the other processes, before anything else is asked of jax; inside, all of them end where one does.

    Without arguments jax finds the others: on TPU pods, Slurm, Kubernetes and Open MPI. A process that waits in vain
    for another, or loses it, ends with status `LOST` and a line that names it; one that fails names itself.

    Args:
        coordinator: HOST:PORT of process 0.
        processes: how many there are.
        process: which this one is, from 0.

    Raises:
        UserError: the processes contradict one another, or nothing tells how many there are.
    """
    coordinator, processes, process, devices = _place(coordinator, processes, process)
    _reach_directly(coordinator)
    try:
        with _said_while_waiting(f"process {process} of {processes}", coordinator):
            hosts = call(coordinator, processes, process, START_SECONDS)
    except AbsentError as absent:
        print(f"error: {one_line(absent)}", file=sys.stderr, flush=True)
        sys.exit(LOST)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would swallow SIGTERM; `StopRequest` listens to it
    _silence_gloo()
    try:
        jax.distributed.initialize(
            coordinator, processes, process, devices, initialization_timeout=START_SECONDS, shutdown_timeout_seconds=60
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"process {process}: jax cannot connect to {coordinator} ({reason})") from None
    if process:
        _name_process_0_on_abort(coordinator, hosts[0])
    watch = _Watch(hosts)
    watch.start()
    try:
        yield
    except Exception as error:
        watch.fail(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        os._exit(130)  # without waiting for the others, who miss it soon
    watch.stop()


@contextmanager
def _said_while_waiting(who: str, coordinator: str) -> Iterator[None]:
    """Say, where it takes more than a moment, that this process waits for others, and how long it will."""
    said = f"{who}: waiting for the others, at {coordinator} where process 0 listens, up to {START_SECONDS} s"
    timer = threading.Timer(_QUIET_SECONDS, print, [said], {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _place(coordinator: str | None, processes: int | None, process: int | None) -> tuple[str, int, int, Any]:
    """Where process 0 listens, how many there are, which this one is, and its devices (None: all that it sees)."""
    from jax._src.clusters import ClusterEnv  # jax asks it as well, but too late to name who is missing

    try:
        found = ClusterEnv.auto_detect_unset_distributed_params(
            coordinator, processes, process, None, None, START_SECONDS
        )
    except (RuntimeError, ValueError, OSError, KeyError) as error:
        raise UserError(f"--distributed: jax cannot find the other processes ({error}); give --coordinator") from None
    address, count, index, devices = found
    if address is None or count is None or index is None:
        raise UserError(
            "--distributed: nothing here tells who the other processes are (a TPU pod, Slurm, Kubernetes, Open MPI); "
            "give --coordinator, --processes and --process"
        )
    return address, count, index, devices


def _reach_directly(coordinator: str) -> None:
    """Keep jax's connection to process 0 away from the proxy that `http_proxy` names, which cannot reach it."""
    host = coordinator.rpartition(":")[0].strip("[]")
    others = os.environ.get(_NO_PROXY) or os.environ.get("NO_PROXY".lower()) or ""
    os.environ[_NO_PROXY] = ",".join(filter(None, [others, host]))


def _silence_gloo() -> None:
    """It tells the standard output of each connection; what is ours still goes where it went."""
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _name_process_0_on_abort(coordinator: str, host: str) -> None:
    """Where process 0 is lost jax aborts this process at once, with its reasons and no name: add a line, and a status.

    jax (0.10 and 0.12) takes no callback for it: its own conversion of the error fails.
    """
    address, _, port = coordinator.rpartition(":")

    def aborted(_: int) -> None:
        try:
            socket.create_connection((address.strip("[]"), int(port)), timeout=5).close()
        except OSError:
            _end(f"process 0 ({host}) is lost")

    _KEPT.append(ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted))
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(signal.SIGABRT, ctypes.cast(_KEPT[-1], ctypes.c_void_p))  # Python's own handlers run too late


def _end(reason: str, first: str = "") -> NoReturn:
    line = f"error: {reason}; {first}run the same command on all hosts again: it goes on from what is saved\n"
    os.write(2, line.encode())
    os._exit(LOST)


def are_several() -> bool:
    """Whether this process works with others; asked before there are any, it leaves the devices alone."""
    return bool(jax.distributed.is_initialized()) and jax.process_count() > 1


def writes_files() -> bool:
    """Whether this process is the one that writes the files of a run."""
    return not are_several() or jax.process_index() == 0


def barrier(name: str) -> None:
    """Wait until every process is here."""
    if are_several():
        multihost_utils.sync_global_devices(name)


def any_says(number: int) -> int:
    """The largest of the numbers of all processes, the same everywhere."""
    if not are_several():
        return number
    return int(np.max(multihost_utils.process_allgather(np.array(number, np.int32))))


def first_says(answer: bool) -> bool:
    """What process 0 says, on every process."""
    if not are_several():
        return answer
    return bool(multihost_utils.broadcast_one_to_all(np.array(answer, np.int32)))


def first_tells(data: bytes) -> bytes:
    """The bytes that process 0 hands over, on every process; what the others hand over does not count."""
    if not are_several():
        return data
    size = int(multihost_utils.broadcast_one_to_all(np.array(len(data), np.int32)))
    mine = data if writes_files() else bytes(size)
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(np.frombuffer(mine, np.uint8)))) if size else b""


def check_alike(what: str, text: str) -> None:
    """Refuse processes that were told something else than process 0.

    Args:
        what: the text is, for people.
        text: the same on all processes, where all is well.

    Raises:
        UserError: names the processes whose text is another one; on all of them.
    """
    if others := strangers(text):
        raise UserError(
            f"process {', '.join(map(str, others))}: another {what} than that of process 0; give all hosts the same"
        )


def strangers(text: str) -> list[int]:
    """The processes whose text is another than that of process 0, the same everywhere."""
    if not are_several():
        return []
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    all_PB = multihost_utils.process_allgather(digest)
    return np.flatnonzero((all_PB != all_PB[0]).any(axis=1)).tolist()


class _Watch(threading.Thread):
    """Tells the others that this process lives, and looks whether they do."""

    def __init__(self, hosts: list[str]) -> None:
        super().__init__(name="processes", daemon=True)
        from jax._src.distributed import global_state  # jax has no public way to its key-value store

        self._client: Any = global_state.client
        self._me, self._count = jax.process_index(), jax.process_count()
        self._done = threading.Event()
        now = time.monotonic()
        self._seen = dict.fromkeys(range(self._count), ("", now))
        self._hosts = hosts

    def run(self) -> None:
        """Beat and look until stopped."""
        beat = 0
        while not self._done.wait(_BEAT_SECONDS):
            beat += 1
            try:
                self._client.key_value_set(f"{_ALIVE}/{self._me}", str(beat), allow_overwrite=True)
                alive = dict(self._client.key_value_dir_get(_ALIVE))
                errors = dict(self._client.key_value_dir_get(_ERRORS))
            except Exception:
                if not self._done.is_set():
                    self._end(f"process 0 ({self._hosts[0]}) is lost")
                return
            for key, message in errors.items():
                index = int(key.rsplit("/", 1)[-1])
                if index != self._me and not self._done.is_set():
                    self._end(f"process {index} ({self._hosts[index]}) failed: {message}", "mend that, then ")
            self._look(alive)

    def stop(self) -> None:
        """Wait for the others to come to their end as well, then look no more."""
        barrier("end of the run")
        self._done.set()
        self.join()

    def fail(self, error: Exception) -> NoReturn:
        """End this process for its own error, or for that of another where that is what it ran into."""
        if not isinstance(error, UserError | OSError):  # a collective fails at once where a process is lost
            time.sleep(LOST_SECONDS + 5 * _BEAT_SECONDS)  # `run` names it, and ends this
        self._done.set()
        message = " ".join(str(error).split())[:500] or type(error).__name__
        me = f"process {self._me} ({self._hosts[self._me]})"
        self._client.key_value_set(f"{_ERRORS}/{self._me}", message, allow_overwrite=True)
        if isinstance(error, UserError | OSError):
            print(f"error: {one_line(f'{me}: {message}')}", file=sys.stderr, flush=True)
        else:
            sys.excepthook(type(error), error, error.__traceback__)
            print(f"error: {me} failed", file=sys.stderr, flush=True)
        if self._me == 0:
            time.sleep(5 * _BEAT_SECONDS)  # it holds the store that the others read it from
        os._exit(2 if isinstance(error, UserError | OSError) else 1)

    def _look(self, alive: dict[str, str]) -> None:
        now = time.monotonic()
        for key, value in alive.items():
            index = int(key.rsplit("/", 1)[-1])
            if self._seen[index][0] != value:
                self._seen[index] = (value, now)
        for index, (_, when) in self._seen.items():
            if index != self._me and now - when > LOST_SECONDS and not self._done.is_set():
                self._end(f"process {index} ({self._hosts[index]}) is lost: silent for {LOST_SECONDS} s")

    def _end(self, reason: str, first: str = "") -> NoReturn:
        if self._me == 0:
            time.sleep(3 * _BEAT_SECONDS)  # it holds the store that the others learn it from
        _end(reason, first)
