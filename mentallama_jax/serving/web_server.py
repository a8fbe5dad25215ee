"""The web server: it stops when nothing is being answered any more, and refuses what comes until then."""

import socket
import sys
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from mentallama_jax.serving.service import Service


class WebServer(uvicorn.Server):
    """uvicorn with a stop in two steps: at the first signal new requests get 503, at the second one all is dropped."""

    def __init__(self, app: ASGIApp, service: Service, on_ready: Callable[[], None] = lambda: None) -> None:
        """Make a server that does not run yet; `on_ready` is called once the model is warm."""
        config = uvicorn.Config(
            app,
            log_config=None,  # the logging of the whole process is not for the server to set up anew
            log_level="critical",  # its warnings and tracebacks may hold what was sent
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=5,
        )
        super().__init__(config)
        self._service = service
        self._on_ready, self._is_ready, self._told = on_ready, False, False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; at once, if it was begun already."""
        if self._service.stopping:
            self.should_exit = self.force_exit = True
        self._service.stopping = True

    async def on_tick(self, counter: int) -> bool:
        """Look whether the model is warm, or it is time to end."""
        state = self._service.engine.state
        if state == "ready" and not self._is_ready:
            self._is_ready = True
            self._on_ready()
        if state == "failed":  # whoever watches over the process starts it anew
            self.should_exit = True
        if self._service.stopping and not self.should_exit:
            if not self._service.open:
                self.should_exit = True
            elif not self._told:
                self._told = True
                print(f"finishing {self._service.open} requests; Ctrl-C drops them", file=sys.stderr, flush=True)
        return await super().on_tick(counter)


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        OSError: the place is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.create_server((host, port), family=family, backlog=256, reuse_port=False)
    bound.setblocking(False)
    return bound
