"""What every request passes: the guard of local servers, the key, refusals while the server stops, and the last words
over whatever fails. Paths, bodies and exceptions' own words are never logged."""

import hmac
import ipaddress
import json
import sys
from collections.abc import Iterable, Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mentallama_jax.serving.api_errors import ApiError, ClientLeft, failed, not_now
from mentallama_jax.serving.engine_thread import where_failed
from mentallama_jax.serving.service import Service

_ALWAYS = {
    b"cache-control": b"no-store",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
}
_WORDS = {404: "there is nothing at this path", 405: "this path does not know this method"}
_LEFT = 499
"""The status that is counted where the client did not wait for one."""


class Gate:
    """Wraps the routes.

    A page of another site that runs in a browser beside a local server may send requests to it. Browsers name the site
    in `Origin`, which must be the server's own. A site whose name is made to point here (DNS rebinding) is known by the
    `Host` it asks for: without a key, a name must be `localhost` or one that was given; numbers cannot be rebound.
    """

    def __init__(self, app: ASGIApp, service: Service, names: Iterable[str], routes: Mapping[str, str]) -> None:
        """Wrap an application.

        Args:
            app: the routes.
            service: see `Service`.
            names: of this server, besides `localhost`.
            routes: path -> the name by which it is counted; all others are counted together.
        """
        self._app, self._service = app, service
        self._names = {"localhost", *(name.casefold().rstrip(".") for name in names)}
        self._routes = dict(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def send_safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name for name, _ in message.get("headers", ())}
                extra = [(name, value) for name, value in _ALWAYS.items() if name not in given]
                message = {**message, "headers": [*message.get("headers", ()), *extra]}
            await send(message)

        self._service.open += 1
        try:
            await self._within(scope, receive, send_safely)
        except ClientLeft:
            status = _LEFT
            self._service.figures.add(cancelled=1)
        except ApiError as error:
            await _send_error(send_safely, error)
        except HTTPException as error:
            what = _WORDS.get(error.status_code, "the request cannot be answered")
            await _send_error(send_safely, ApiError(error.status_code, what, headers=error.headers))
        except Exception as error:
            print(f"error: a request failed: {where_failed(error)}", file=sys.stderr, flush=True)
            if not status:
                await _send_error(send_safely, failed())
        finally:
            self._service.open -= 1
            self._service.figures.responded(self._routes.get(scope["path"], "other"), status)

    async def _within(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self._check_site(headers)
        if scope["path"].startswith("/v1/") or scope["path"] == "/metrics":
            self._check_key(headers)
        if self._service.stopping and scope["path"].startswith("/v1/"):
            raise not_now("the server is being stopped", "stopping")
        await self._app({**scope, "app": self}, receive, send)  # so that the router raises what it does not know

    def _check_site(self, headers: Headers) -> None:
        host = _name_of(headers.get("host", ""))
        if not self._service.key and not (host in self._names or _is_number(host)):
            raise ApiError(403, "this server does not go by the name in the Host header; see --allow-name", code="host")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host", ""):
            what = "pages of other sites may not use this server; a proxy before it must pass on the Host header"
            raise ApiError(403, what, code="origin")

    def _check_key(self, headers: Headers) -> None:
        key = self._service.key
        if not key:
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), key.encode()):
            raise ApiError(
                401,
                "a key is needed: send the header Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )


def _name_of(host: str) -> str:
    """The name or number in a `Host` header, without the port."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and not host.endswith("]") else host
    return name.casefold().rstrip(".").removeprefix("[").removesuffix("]")


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _send_error(send: Send, error: ApiError) -> None:
    body = json.dumps(error.to_json()).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **error.headers}
    start = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": start})
    await send({"type": "http.response.body", "body": body})
