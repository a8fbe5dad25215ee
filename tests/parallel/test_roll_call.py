"""Who is there: all, or the message says who is not."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.parallel import processes
from mentallama_jax.parallel.roll_call import AbsentError, call


def answers(*claims, seconds=5.0):
    """What each process gets, for claims (processes, process) made at one time: its hosts or the error."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"

    def claim(processes, process):
        try:
            return call(coordinator, processes, process, seconds)
        except (UserError, AbsentError) as error:
            return f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor(len(claims)) as pool:
        return list(pool.map(lambda one: claim(*one), claims))


def test_all_meet_and_know_the_hosts_and_leave_the_port():
    for _ in range(3):
        assert answers((4, 2), (4, 1), (4, 0), (4, 3)) == [[socket.gethostname()] * 4] * 4


def test_a_missing_process_is_named_to_all():
    host = socket.gethostname()
    told = f"AbsentError: process 1, 3 of 4 did not come within 1 s (there are: 0 on {host}, 2 on {host}); start all"
    assert all(answer.startswith(told) for answer in answers((4, 0), (4, 2), seconds=1))


def test_a_missing_process_0_is_named():
    (answer,) = answers((2, 1), seconds=1)
    assert answer.startswith("AbsentError: process 0 does not answer at 127.0.0.1:")


def test_contradictions_are_refused_everywhere():
    host = socket.gethostname()
    same = answers((4, 0), (4, 1), (4, 1))
    assert same == [f"UserError: {host} and {host} both say --process 1; each needs its own"] * 3
    assert answers((2, 0), (3, 2)) == [f"UserError: process 2 on {host} says --processes 3 and process 0 says 2"] * 2


@pytest.mark.parametrize("coordinator", ["host", ":1234", "host:http"])
def test_an_address_without_host_or_port_is_refused(coordinator):
    with pytest.raises(UserError, match="must be HOST:PORT"):
        call(coordinator, 2, 1, 1)


def test_strangers_on_the_port_do_no_harm():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(call, f"127.0.0.1:{port}", 2, 0, 10)
        for message in (b"GET / HTTP/1.1\r\n", b"[]\n", b"{}\n", b""):
            with connect_when_open(port) as stranger:
                stranger.sendall(message)
        assert pool.submit(call, f"127.0.0.1:{port}", 2, 1, 10).result() == first.result()


def connect_when_open(port):
    for _ in range(1000):
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            pass
    raise AssertionError("nobody listens")


def test_who_waits_says_so_after_a_moment(monkeypatch, capsys):
    monkeypatch.setattr(processes, "_QUIET_SECONDS", 0.05)
    with processes._said_while_waiting("process 1 of 2", "10.0.0.2:1234"):
        time.sleep(0.5)
    assert capsys.readouterr().err == (
        "process 1 of 2: waiting for the others, at 10.0.0.2:1234 where process 0 listens, up to 300 s\n"
    )
    monkeypatch.setattr(processes, "_QUIET_SECONDS", 60)
    with processes._said_while_waiting("process 1 of 2", "10.0.0.2:1234"):
        pass
    assert capsys.readouterr().err == ""
