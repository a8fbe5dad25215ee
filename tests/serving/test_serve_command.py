"""`mentallama serve`: what it refuses before anything is loaded, and a whole life of a server."""

import signal
import threading
import time
from typing import Any

import httpx
import pytest
from paced import PacedDecoding, paced_service

from mentallama_jax.cli import serve_command
from mentallama_jax.cli.main import main, parse
from mentallama_jax.errors import UserError
from mentallama_jax.generation.drafts import Drafts
from mentallama_jax.generation.engine import Request, Settings
from mentallama_jax.generation.sampling import Sampling
from mentallama_jax.generation.slots import decode
from mentallama_jax.jobs import serve as serving_job
from mentallama_jax.jobs.answer import Answerer
from mentallama_jax.jobs.serve import open_service, serve
from mentallama_jax.serving.service import ServeLimits
from mentallama_jax.serving.warm_up import FEW_SLOTS, few_places, warm_up


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "other machines reach it, so a key is needed: set MENTALLAMA_API_KEY"),
        (["--host", "192.168.1.7"], "a key is needed"),
        (["--slots", "0"], "--slots 0: give a number from 1"),
        (["--queue", "-1"], "--queue -1: give a number from 0"),
        (["--timeout", "0"], "--timeout 0"),
        (["--timeout", "nan"], "--timeout nan"),
        (["--port", "65536"], "--port 65536"),
        (["--max-body", "10"], "--max-body 10: give a number from 1024"),
        (["--crisis-lines", "/nowhere.yaml"], "/nowhere.yaml: no such file of crisis lines"),
        ([], "/nowhere"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(serve_command.KEY_VARIABLE, raising=False)
    assert main(["serve", "/nowhere", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len([line for line in error.splitlines() if line != "opening /nowhere"]) == 1


@pytest.mark.parametrize("key", ["short", "with blanks in it", "schlüssel-schlüssel"])
def test_keys_that_no_header_can_hold_are_refused_and_not_shown(
    key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(serve_command.KEY_VARIABLE, key)
    assert main(["serve", "/nowhere"]) == 2
    error = capsys.readouterr().err
    assert "MENTALLAMA_API_KEY: give at least 8" in error
    assert key not in error


@pytest.mark.parametrize("words", [["--host", "localhost"], ["--host", "::1"], ["--host", "0.0.0.0", "--without-key"]])
def test_hosts_that_need_no_key(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(serve_command.KEY_VARIABLE, raising=False)
    assert serve_command._checked_key(parse(["serve", "m", *words])) == ""


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'mentallama-jax\[serving\]'"):
        serve_command._check_packages()


def test_a_server_lives_until_a_signal_and_says_where_it_is(
    answerer: Answerer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    service = paced_service(PacedDecoding())
    made: list[Any] = []

    class Watched(serving_job.WebServer):
        def __init__(self, *words: Any) -> None:
            super().__init__(*words)
            made.append(self)

    monkeypatch.setattr(serving_job, "WebServer", Watched)
    monkeypatch.setattr("mentallama_jax.jobs.answer.open_answerer", lambda *_, **__: answerer)
    monkeypatch.setattr(serving_job, "open_service", lambda *_, **__: service)
    status: list[int] = []
    thread = threading.Thread(target=lambda: status.append(main(["serve", "m", "--port", "0"])), daemon=True)
    thread.start()
    said, end = "", time.monotonic() + 60
    while "ready after" not in said:
        assert thread.is_alive(), f"ended with {status}: {said}"
        assert time.monotonic() < end, said
        time.sleep(0.02)
        said += capfd.readouterr().err
    url = said.partition(" at ")[2].partition(" ")[0]
    page = httpx.get(url, trust_env=False)
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert httpx.get(f"{url}/health", trust_env=False).json()["status"] == "ready"
    made[0].handle_exit(signal.SIGTERM, None)
    thread.join(20)
    assert status == [0]
    assert not service.engine._thread.is_alive()


def test_a_place_that_is_taken_is_one_line(answerer: Answerer) -> None:
    from mentallama_jax.serving.web_server import listening_socket

    with listening_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen at 127.0.0.1, port {port} .*another --port"):
            serve(paced_service(PacedDecoding()), "127.0.0.1", port, [], print, lambda: None)


def test_limits_that_leave_no_room_are_refused(answerer: Answerer) -> None:
    with pytest.raises(UserError, match="--max-new-tokens 160: give less than the 160 in all"):
        open_service(answerer, ServeLimits(max_new_tokens=160), name="toy")
    with pytest.raises(UserError, match="no such file"):
        open_service(answerer, ServeLimits(max_new_tokens=8), name="toy", calibration="/nowhere/scores.json")


def test_few_sizes_of_the_cache_hold_every_length() -> None:
    for longest in (100, 160, 2048):
        places = few_places(longest)
        sizes = [places(length) for length in range(1, longest)]
        assert all(size >= length + 32 for length, size in enumerate(sizes, 1))
        assert sizes == sorted(sizes)
        assert len(set(sizes)) <= 6
        assert sizes[-1] <= longest + 32 + 127


@pytest.mark.parametrize("drafts", [0, 3])
def test_warming_up_asks_for_every_width_few_and_many_greedy_and_sampled_with_drafts_and_without(drafts: int) -> None:
    class Counted(PacedDecoding):
        sizes = (1, 3)

        def __init__(self) -> None:
            super().__init__()
            self.drafts, self.drafted = Drafts(drafts), list[int]()

        def submit(self, request: Request) -> int:
            self.drafted.append(self.drafts.now)
            return super().submit(request)

        def step(self, at_most: int = 32) -> Any:
            return super().step(at_most)

    decoding = Counted()
    for _ in warm_up(decoding, 298, 7):  # type: ignore[arg-type]
        pass
    asked = [(len(request.tokens), request.samples) for request in decoding.requests]
    ways = [
        (request.settings.sampling.temperature, now)
        for request, now in zip(decoding.requests, decoding.drafted, strict=True)
    ]
    expected = [(0.0, 0), (1.0, 0), *([(0.0, drafts)] if drafts else [])]
    assert asked == [(length, samples) for length in (64, 128, 256, 298) for samples in (1, 3)] * len(expected)
    assert ways == [way for way in expected for _ in range(8)]
    assert decoding.drafts.worth == Drafts(drafts).worth


@pytest.mark.long
def test_nothing_is_compiled_for_usual_requests_however_many_after_warming_up(answerer: Answerer) -> None:
    decoding = answerer.engine.decoding(6, fewer=FEW_SLOTS, patience=False, places=few_places(300))
    for _ in warm_up(decoding, 140, 7):
        pass
    compiled = decode._cache_size()
    for clients in (1, 3, 6, 2, 1):
        for length in [9, 70, 130, 140, 30, 12][:clients]:
            decoding.submit(Request([7] * length, settings=Settings(8, Sampling(clients % 2))))
        while not decoding.is_idle:
            decoding.step()
    assert decode._cache_size() == compiled
