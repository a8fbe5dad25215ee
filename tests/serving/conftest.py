"""One server with the toy model for all tests of serving."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "jobs"))

pytest.importorskip("starlette", reason="the extra `serving` is not installed")
pytest.importorskip("uvicorn", reason="the extra `serving` is not installed")

from browser import Browser
from live_server import LiveServer, live
from toy_answerer import toy_answerer

from mentallama_jax.jobs.answer import Answerer
from mentallama_jax.jobs.serve import open_service
from mentallama_jax.serving.engine_thread import EngineThread
from mentallama_jax.serving.service import ServeLimits

PLACES = 192
"""One size of the cache, so that little is compiled."""


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A real browser; ask for it only where `browser.CHROMIUM` is there."""
    started = Browser(tmp_path_factory.mktemp("browser"))
    yield started
    started.close()


@pytest.fixture(scope="session")
def answerer() -> Answerer:
    return toy_answerer(max_length=PLACES - 32)


@pytest.fixture(scope="session")
def server(answerer: Answerer) -> Iterator[LiveServer]:
    limits = ServeLimits(slots=4, queue=60, max_length=PLACES - 32, max_new_tokens=12, seconds=120, body_bytes=20_000)
    service = open_service(answerer, limits, name="toy")

    def decoding() -> object:
        text_of = answerer.tokenizer.decode
        return answerer.engine.decoding(4, fewer=[1], text_of=text_of, patience=False, places=lambda _: PLACES)

    work = replace(service.engine.work, decoding=decoding, warm_up=lambda _: iter(()))
    service.engine = EngineThread(work, limits.slots, limits.queue)
    with live(service) as running:
        yield running
