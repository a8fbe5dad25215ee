"""A server in this process: the toy model behind a real socket, for the tests of serving."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from mentallama_jax.serving.app import make_app
from mentallama_jax.serving.page_routes import page_routes
from mentallama_jax.serving.service import Service
from mentallama_jax.serving.web_server import WebServer, listening_socket


@dataclass
class LiveServer:
    """A server that answers.

    Attributes:
        url: where.
        service: its own.
        web: its own.
        http: asks it.
    """

    url: str
    service: Service
    web: WebServer
    http: httpx.Client = field(repr=False)

    def wait_until_idle(self, seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while self.service.engine.rows or self.service.open:
            assert time.monotonic() < end, "requests are left in the server"
            time.sleep(0.005)


@contextmanager
def live(service: Service, names: tuple[str, ...] = (), *, start_engine: bool = True) -> Iterator[LiveServer]:
    """Serve until the end of the block; the engine is stopped where it was started here."""
    listening = listening_socket("127.0.0.1", 0)
    web = WebServer(make_app(service, names, page_routes()), service)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    thread = threading.Thread(target=web.run, kwargs={"sockets": [listening]})
    thread.start()
    if start_engine:
        service.engine.start()
    try:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
            end = time.monotonic() + 120
            while start_engine and http.get("/health").status_code != 200:
                assert time.monotonic() < end, "the engine is never ready"
                time.sleep(0.01)
            yield LiveServer(url, service, web, http)
    finally:
        web.should_exit = web.force_exit = True
        thread.join()
        if start_engine:
            service.engine.stop()
