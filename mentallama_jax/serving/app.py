"""The application: which handler answers which path."""

from collections.abc import Iterable

from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp

from mentallama_jax.serving.analysis_routes import analyse_post, list_tasks
from mentallama_jax.serving.exchange import Handler, HttpEndpoint, HttpExchange
from mentallama_jax.serving.gate import Gate
from mentallama_jax.serving.openai_routes import chat_completion, completion, list_models, show_model
from mentallama_jax.serving.prometheus import CONTENT_TYPE
from mentallama_jax.serving.service import Service

_HANDLERS: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/v1/chat/completions", chat_completion),
    ("POST", "/v1/completions", completion),
    ("GET", "/v1/models", list_models),
    ("GET", "/v1/models/{name:path}", show_model),
    ("GET", "/v1/tasks", list_tasks),
    ("POST", "/v1/analyse", analyse_post),
)


def make_app(service: Service, names: Iterable[str] = (), more: Iterable[BaseRoute] = ()) -> ASGIApp:
    """The ASGI application of a server.

    Args:
        service: see `Service`.
        names: by which the server may be asked for, see `Gate`.
        more: further routes, such as those of a page.
    """
    handlers = (*_HANDLERS, ("GET", "/health", health), ("GET", "/metrics", show_figures))
    routes = [Route(path, HttpEndpoint(service, handler), methods=[method]) for method, path, handler in handlers]
    router = Router([*routes, *more], redirect_slashes=False)
    return Gate(router, service, names, {path: path for _, path, _ in handlers})


async def health(exchange: HttpExchange) -> None:
    """Answer `GET /health`: whether requests are taken, and whether they need a key."""
    service = exchange.service
    state = "stopping" if service.stopping else service.engine.state
    await exchange.send_json({"status": state, "needs_key": bool(service.key)}, 200 if state == "ready" else 503)


async def show_figures(exchange: HttpExchange) -> None:
    """Answer `GET /metrics`."""
    await exchange.send_text(exchange.service.figures.text(exchange.service.gauges), CONTENT_TYPE)
