"""The processes of a run meet before jax connects them: where one is missing jax aborts the rest without its name."""

import json
import socket
import time
from contextlib import ExitStack, suppress
from typing import Any

from mentallama_jax.errors import UserError


class AbsentError(Exception):
    """Somebody did not come in time; the message says who."""


def call(coordinator: str, processes: int, process: int, seconds: float) -> list[str]:
    """Wait until all processes are there.

    Args:
        coordinator: HOST:PORT where process 0 listens; free again afterwards, for jax.
        processes: how many there are.
        process: which this one is, from 0.
        seconds: how long to wait.

    Returns:
        The host of each process.

    Raises:
        AbsentError: not all came in time.
        UserError: the processes contradict one another, or process 0 cannot listen.
    """
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--coordinator {coordinator}: must be HOST:PORT of process 0, such as 10.0.0.2:1234")
    deadline = time.monotonic() + seconds
    if process == 0:
        return _gather(coordinator, int(port), processes, deadline, seconds)
    me = {"process": process, "processes": processes, "host": socket.gethostname()}
    return _report(coordinator, (host.strip("[]"), int(port)), me, deadline, seconds)


def _gather(coordinator: str, port: int, processes: int, deadline: float, seconds: float) -> list[str]:
    hosts = {0: socket.gethostname()}
    with ExitStack() as stack:
        try:
            if socket.has_dualstack_ipv6():
                listening = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
            else:
                listening = socket.create_server(("", port))
        except OSError as error:
            raise UserError(f"--coordinator {coordinator}: cannot listen there ({error.strerror})") from None
        stack.enter_context(listening)
        present = []
        problem = ""
        while len(hosts) < processes and not problem:
            listening.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                link = stack.enter_context(listening.accept()[0])
            except TimeoutError:
                break
            told = _receive(link, 10)
            if told is None or told.keys() != {
                "process",
                "processes",
                "host",
            }:  # a port scan, or a process that gave up and comes again
                continue
            present.append(link)
            index, count, host = told["process"], told["processes"], told["host"]
            if count != processes:
                problem = f"process {index} on {host} says --processes {count} and process 0 says {processes}"
            elif index in hosts:
                problem = f"{host} and {hosts[index]} both say --process {index}; each needs its own"
            hosts[index] = host
        missing = [index for index in range(processes) if index not in hosts]
        absent = _absent(missing, processes, hosts, seconds) if missing and not problem else ""
        for link in present:
            _send(link, {"hosts": [hosts.get(i, "") for i in range(processes)], "problem": problem, "absent": absent})
        for link in present:
            _receive(link, 10)  # the other end closes first, so that the port is free at once
    _raise(problem, absent)
    return [hosts[index] for index in range(processes)]


def _report(
    coordinator: str, address: tuple[str, int], me: dict[str, Any], deadline: float, seconds: float
) -> list[str]:
    while True:
        left = deadline - time.monotonic()
        try:
            with socket.create_connection(address, timeout=max(min(left, 10), 0.001)) as link:
                _send(link, me)
                answer = _receive(link, max(left, 0) + 10)
            if answer is not None and answer.keys() == {"hosts", "problem", "absent"}:
                _raise(answer["problem"], answer["absent"])
                return list(answer["hosts"])
        except OSError:
            pass
        if left <= 0:
            raise AbsentError(
                f"process 0 does not answer at {coordinator} (waited {seconds:.0f} s); start it there, or correct the "
                "address"
            )
        time.sleep(0.3)


def _absent(missing: list[int], processes: int, hosts: dict[int, str], seconds: float) -> str:
    which = ", ".join(map(str, missing))
    here = ", ".join(f"{index} on {host}" for index, host in sorted(hosts.items()))
    return f"process {which} of {processes} did not come within {seconds:.0f} s (there are: {here}); start all of them"


def _raise(problem: str, absent: str) -> None:
    if problem:
        raise UserError(problem)
    if absent:
        raise AbsentError(absent)


def _send(link: socket.socket, message: dict[str, Any]) -> None:
    with suppress(OSError):  # it has gone; whoever misses it will say so
        link.sendall(json.dumps(message).encode() + b"\n")


def _receive(link: socket.socket, seconds: float) -> dict[str, Any] | None:
    """One message; None where there is none, or something else."""
    link.settimeout(seconds)
    try:
        with link.makefile("rb") as stream:
            message = json.loads(stream.readline(100_000))
    except (OSError, ValueError):
        return None
    return message if isinstance(message, dict) else None
