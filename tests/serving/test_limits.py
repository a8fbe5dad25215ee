"""What bounds a request: room, time, size, and clients that leave; with an engine that writes only when it is let."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import httpx
import pytest
from live_server import LiveServer, live
from paced import ENGINE_FAULT, PacedDecoding, paced, paced_service

from mentallama_jax.errors import UserError
from mentallama_jax.generation.requests import Event
from mentallama_jax.serving import exchange
from mentallama_jax.serving.api_errors import ClientLeft
from mentallama_jax.serving.choices import GrowingChoice
from mentallama_jax.serving.grammars import GrammarMask

CHAT = {"messages": [{"role": "user", "content": "Hello"}], "temperature": 0}


def ask(server: LiveServer, **changed: Any) -> httpx.Response:
    return server.http.post("/v1/chat/completions", json=CHAT | changed)


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def raw_request(body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n"
    return f"{head}Content-Type: application/json\r\n\r\n".encode() + content


def connect(server: LiveServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))


def error_of(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/json"
    (error,) = response.json().values()
    assert error.keys() == {"message", "type", "param", "code"}
    return error


def test_a_full_queue_is_refused_with_the_time_to_come_again() -> None:
    with paced() as (server, decoding), ThreadPoolExecutor(4) as pool:
        decoding.going.clear()
        first = pool.submit(ask, server, n=2)  # both slots
        until(lambda: len(decoding.rows) == 2)
        second = pool.submit(ask, server)  # the queue
        until(lambda: len(decoding.rows) == 3)
        refused = ask(server)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert error_of(refused)["code"] == "queue_full"
        decoding.going.set()
        assert [future.result().status_code for future in (first, second)] == [200, 200]
        server.wait_until_idle()
        assert ask(server).status_code == 200


def test_a_request_never_takes_more_room_than_there_is() -> None:
    with paced() as (server, decoding), ThreadPoolExecutor(1) as pool:
        refused = ask(server, n=4)
        assert (refused.status_code, error_of(refused)["code"]) == (400, "too_many_answers")
        decoding.going.clear()
        running = pool.submit(ask, server, n=2)
        until(lambda: len(decoding.rows) == 2)
        assert ask(server, n=2).status_code == 429, "one of the two would fit"
        decoding.going.set()
        assert running.result().status_code == 200


def test_time_is_up_while_a_prompt_is_made_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = threading.Event()
    with paced(seconds=0.1) as (server, decoding):
        monkeypatch.setattr(server.service.grammars, "masks", lambda schema: ready.wait(10))
        late = ask(server, response_format={"type": "json_object"})
        ready.set()
        assert late.status_code == 504
        server.wait_until_idle()
        assert decoding.requests == []


def test_time_is_up_before_the_first_token_or_after_some() -> None:
    with paced(seconds=0.3, max_new_tokens=90) as (server, decoding), ThreadPoolExecutor(4) as pool:
        decoding.going.clear()
        late = [pool.submit(ask, server, stream=stream) for stream in (False, True)]
        for future in late:
            assert future.result().status_code == 504
            assert error_of(future.result())["type"] == "timeout_error"
        server.wait_until_idle()

        def some_tokens() -> None:
            until(lambda: any(len(tokens) >= 3 for tokens in decoding.rows.values()))
            decoding.going.clear()

        for stream in (False, True):
            decoding.going.set()
            watch = threading.Thread(target=some_tokens)
            watch.start()
            response = ask(server, stream=stream)
            watch.join()
            assert response.status_code == 200
            if stream:
                pieces = [json.loads(line[6:]) for line in response.text.split("\n\n")[:-2]]
                assert pieces[-1]["choices"][0]["finish_reason"] == "length"
                assert response.text.endswith("data: [DONE]\n\n")
            else:
                assert response.json()["choices"][0]["finish_reason"] == "length"
                assert 3 <= response.json()["usage"]["completion_tokens"] < 90
            until(lambda: not decoding.rows)


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_client_leaves_is_cancelled(stream: bool) -> None:
    with paced(max_new_tokens=100) as (server, decoding):
        decoding.going.clear()
        with connect(server) as client:
            client.sendall(raw_request(CHAT | {"stream": stream, "n": 2}))
            until(lambda: len(decoding.rows) == 2)
            if stream:
                decoding.going.set()
                received = b""
                while b"data: " not in received:  # the head may come alone
                    received += (piece := client.recv(4000))
                    assert piece
                decoding.going.clear()
        until(lambda: decoding.cancelled == [0])
        server.wait_until_idle()
        assert "mentallama_requests_cancelled_total 1" in server.http.get("/metrics").text
        decoding.going.set()
        assert ask(server).status_code == 200


class MatcherOfOneThread:
    """In the place of llguidance's, whose matchers refuse every other thread while one works with them."""

    def __init__(self, fails: bool) -> None:
        self._fails, self._owner, self._worked = fails, threading.get_ident(), False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if threading.get_ident() != self._owner:
            raise RuntimeError("Already mutably borrowed")
        if name == "compute_bitmask":
            self._worked = True
            return lambda: b"\xff" * 128
        return {"is_error": lambda: self._fails and self._worked}.get(name, lambda *_: False)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("seconds", [60, 0.2])
@pytest.mark.parametrize("fails", [False, True])
def test_masks_are_asked_by_the_engine_alone(
    stream: bool, seconds: float, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether all choices are complete, or time is up while one is written."""
    with paced(seconds=seconds) as (server, _):
        monkeypatch.setattr(
            server.service.grammars,
            "masks",
            lambda schema: lambda: GrammarMask(MatcherOfOneThread(fails), 1024, (2,)),  # type: ignore[arg-type]
        )
        longest = 8 if seconds > 1 else 900
        asked = ask(server, n=2, stream=stream, max_tokens=longest, response_format={"type": "json_object"})
        what = "became too much to follow"
        if stream:
            assert asked.status_code == 200
            assert asked.text.endswith("data: [DONE]\n\n") is not fails
            assert (what in asked.text) is fails
        else:
            assert (asked.status_code, what in asked.text) == ((500, True) if fails else (200, False))
        server.wait_until_idle()


def test_a_client_that_leaves_before_its_body_is_whole() -> None:
    with paced() as (server, decoding):
        with connect(server) as client:
            client.sendall(raw_request(CHAT)[:-5])
            until(lambda: server.service.open)
        server.wait_until_idle()
        assert decoding.requests == []


def test_bodies_are_bounded_in_size_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_SECONDS_FOR_A_BODY", 0.2)
    with paced() as (server, decoding):
        told = server.http.post("/v1/chat/completions", json=CHAT | {"user": "x" * 5000})
        headers = {"Content-Type": "application/json"}
        untold = server.http.post("/v1/chat/completions", content=iter([b"[" * 3000, b"[" * 3000]), headers=headers)
        for response in (told, untold):
            assert response.status_code == 413
            assert "larger than 4,000 bytes" in error_of(response)["message"]
        with connect(server) as client:
            client.sendall(raw_request(CHAT)[:-5])
            assert b"408 Request Timeout" in client.recv(4000)
        assert decoding.requests == []


def test_prompts_and_answers_have_room_together() -> None:
    with paced(max_length=40) as (server, decoding):
        for asked in ({"messages": [{"role": "user", "content": "sleep " * 60}]}, {"max_tokens": 40}):
            refused = ask(server, **asked)
            assert refused.status_code == 400
            assert error_of(refused)["code"] == "context_length_exceeded"
        assert ask(server, max_tokens=20).json()["usage"]["completion_tokens"] == 20
        assert ask(server).json()["usage"]["completion_tokens"] == 8  # where a request does not say
        assert len(decoding.requests) == 2


def test_a_failure_of_the_engine_is_told_without_its_words_and_passes(capfd: pytest.CaptureFixture[str]) -> None:
    with paced() as (server, decoding):
        for stream in (False, True):
            decoding.faults = 1
            failed = ask(server, stream=stream)
            assert failed.status_code == 500
            assert ENGINE_FAULT not in failed.text
            assert ask(server).status_code == 200
        said = capfd.readouterr().err
        assert "RuntimeError at paced.py:" in said
        assert ENGINE_FAULT not in said


def test_a_panic_of_a_library_is_a_failure_like_others(capfd: pytest.CaptureFixture[str]) -> None:
    class Panic(BaseException):
        """As those of libraries in Rust, which are no exceptions."""

    with paced() as (server, decoding):
        usual, faults = decoding.step, iter([Panic(ENGINE_FAULT)])

        def step(at_most: int) -> list[Any]:
            for fault in faults:
                raise fault
            return usual(at_most)

        decoding.step = step  # type: ignore[method-assign]
        assert ask(server).status_code == 500
        assert ask(server).status_code == 200
        said = capfd.readouterr().err
        assert "Panic at test_limits.py:" in said
        assert ENGINE_FAULT not in said


def test_labels_of_a_post_whose_client_has_left_are_not_scored() -> None:
    scored: list[str] = []
    engine = paced_service(PacedDecoding()).engine
    engine.work = replace(engine.work, score=lambda asked: scored.append(asked))

    async def run() -> None:
        leaving = asyncio.create_task(engine.scores("of one who left"))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        engine.start()
        await engine.scores("of one who waits")

    asyncio.run(run())
    engine.stop()
    assert scored == ["of one who waits"]


def test_a_client_that_reads_nothing_has_left_some_time_behind_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_SECONDS_TO_READ", 0.05)
    service = paced_service(PacedDecoding(), seconds=0.05)
    ended: list[bool] = []

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def run() -> None:
        asked = exchange.HttpExchange(service, {"type": "http", "headers": []}, never, None)  # type: ignore[arg-type]
        with pytest.raises(ClientLeft):
            await asyncio.wait_for(asked.while_here(never()), 5)
        await asyncio.sleep(0)

    asyncio.run(run())
    assert ended == [True, True]


@pytest.mark.parametrize("separator", ["\u2028", "\u0085", "\u2029"])
def test_what_some_clients_take_for_an_end_of_line_stands_in_no_stream(separator: str) -> None:
    sent: list[bytes] = []

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    async def events() -> AsyncGenerator[dict[str, str], None]:
        yield {"content": f"one{separator}two"}

    async def run() -> None:
        scope = {"type": "http", "headers": []}
        await exchange.HttpExchange(None, scope, None, send).send_events(events())  # type: ignore[arg-type]

    asyncio.run(run())
    first = b"".join(sent).decode().splitlines()[0]
    assert json.loads(first.removeprefix("data: "))["content"] == f"one{separator}two"


def test_a_stream_that_fails_in_the_middle_says_so(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    usual = GrowingChoice.add

    def add(self: GrowingChoice, event: Event) -> str:
        if event.answer is not None:
            raise RuntimeError(ENGINE_FAULT)
        return usual(self, event)

    monkeypatch.setattr(GrowingChoice, "add", add)
    with paced() as (server, _):
        failed = ask(server, stream=True)
        assert failed.status_code == 200
        assert json.loads(failed.text.split("\n\n")[-2].removeprefix("data: "))["error"]["type"] == "server_error"
        assert "[DONE]" not in failed.text
        server.wait_until_idle()
        said = capfd.readouterr().err
        assert "RuntimeError at test_limits.py:" in said
        assert ENGINE_FAULT not in said + failed.text


@pytest.mark.parametrize("log", [float("nan"), float("-inf")])
def test_answers_by_numbers_that_are_none_are_not_given(log: float) -> None:
    with paced() as (server, decoding):
        decoding.log = log
        for stream in (False, True):
            failed = ask(server, stream=stream)
            assert failed.status_code == 500
            assert "not finite" in error_of(failed)["message"]
        until(lambda: not decoding.rows)


def test_an_engine_that_keeps_failing_is_given_up_and_the_server_ends() -> None:
    with paced() as (server, decoding):
        decoding.faults = 2
        assert [ask(server).status_code for _ in range(3)] == [500, 500, 200]
        decoding.faults = 3
        assert [ask(server).status_code for _ in range(3)] == [500] * 3
        until(lambda: server.service.engine.state == "failed")
        until(lambda: server.web.should_exit)


def test_labels_that_can_no_longer_be_scored_are_a_failure_of_the_server(capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever answers are written meanwhile; a score that works is a new beginning, weights that are bad are none."""
    well, damaged = "well", "damaged"

    def score(asked: str) -> str:
        if asked == damaged:
            raise UserError("the weights are damaged")
        if asked != well:
            raise RuntimeError(ENGINE_FAULT)
        return asked

    async def scored(*asked: str) -> list[object]:
        return await asyncio.gather(*map(server.service.engine.scores, asked), return_exceptions=True)

    with paced() as (server, _):
        server.service.engine.work = replace(server.service.engine.work, score=score)
        said = asyncio.run(scored("bad", damaged, "bad", well, "bad", damaged, "bad"))
        assert [getattr(each, "status", each) for each in said] == [500, 500, 500, well, 500, 500, 500]
        assert server.http.get("/health").status_code == 200
        assert ask(server).status_code == 200
        assert asyncio.run(scored("bad"))[0].status == 500  # type: ignore[attr-defined]
        until(lambda: server.service.engine.state == "failed")
        assert asyncio.run(scored(well))[0].status == 503  # type: ignore[attr-defined]
        until(lambda: server.web.should_exit)
    assert ENGINE_FAULT not in capfd.readouterr().err


def test_steps_that_keep_failing_are_given_up_though_labels_are_scored() -> None:
    with paced() as (server, decoding):
        for _ in range(3):
            assert asyncio.run(server.service.engine.scores("x")) is None
            decoding.faults = 1
            assert ask(server).status_code == 500
        until(lambda: server.service.engine.state == "failed")


def test_a_stop_lets_running_answers_finish_and_refuses_new_ones() -> None:
    with paced() as (server, decoding), ThreadPoolExecutor(1) as pool:
        decoding.going.clear()
        running = pool.submit(ask, server)
        until(lambda: decoding.rows)
        server.web.handle_exit(15, None)
        refused = ask(server)
        assert refused.status_code == 503
        assert error_of(refused)["code"] == "stopping"
        assert server.http.get("/health").json()["status"] == "stopping"
        assert not server.web.should_exit
        decoding.going.set()
        assert running.result().status_code == 200
        until(lambda: server.web.should_exit)


def test_a_second_signal_drops_what_runs() -> None:
    with paced() as (server, decoding), ThreadPoolExecutor(1) as pool:
        decoding.going.clear()
        running = pool.submit(ask, server)
        until(lambda: decoding.rows)
        server.web.handle_exit(15, None)
        server.web.handle_exit(2, None)
        assert server.web.should_exit
        with suppress(httpx.HTTPError):
            assert running.result().status_code == 500


def test_until_the_programs_are_compiled_requests_are_refused() -> None:
    with live(paced_service(PacedDecoding()), start_engine=False) as server:
        health = server.http.get("/health")
        assert (health.status_code, health.json()) == (503, {"status": "starting", "needs_key": False})
        refused = ask(server)
        assert (refused.status_code, error_of(refused)["code"]) == (503, "starting")
        assert int(refused.headers["retry-after"]) >= 1
        server.service.engine.start()
        until(lambda: server.http.get("/health").status_code == 200)
        assert ask(server).status_code == 200
        server.service.engine.stop()
