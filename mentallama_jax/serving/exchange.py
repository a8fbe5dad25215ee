"""One HTTP request with its response: bodies within limits, JSON and streams of events, and clients that leave."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope, Send

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import parse_json
from mentallama_jax.serving.api_errors import ApiError, ClientLeft, failed, of_user_error
from mentallama_jax.serving.service import Service

_SECONDS_FOR_A_BODY = 30.0
_SECONDS_TO_READ = 30.0
_STREAM = "text/event-stream; charset=utf-8"


class HttpExchange:
    """What a handler needs of a request and its response.

    Attributes:
        service: see `Service`.
        started: when the request came, by the clock of the event loop.
    """

    def __init__(self, service: Service, scope: Scope, receive: Receive, send: Send) -> None:
        self.service, self._send = service, send
        self._request = Request(scope, receive)
        self.started = asyncio.get_running_loop().time()

    def path_value(self, name: str) -> str:
        """What stands in the path in place of a name."""
        return str(self._request.path_params[name])

    async def json_body(self) -> Any:
        """The parsed body.

        Raises:
            ApiError: too large, too slow, of another type, or not JSON.
        """
        kind = self._request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise ApiError(415, "send the body as JSON, with the header Content-Type: application/json")
        try:
            async with asyncio.timeout(_SECONDS_FOR_A_BODY):
                body = await self._body()
        except TimeoutError:
            raise ApiError(408, f"the body did not arrive within {_SECONDS_FOR_A_BODY:g} seconds") from None
        except ClientDisconnect:
            raise ClientLeft from None
        try:
            return parse_json(body, "the body", may_hold_posts=True)
        except UserError as error:
            raise of_user_error(error) from None

    async def _body(self) -> bytes:
        limit = self.service.limits.body_bytes
        too_large = ApiError(413, f"the body is larger than {limit:,} bytes", headers={"Connection": "close"})
        length = self._request.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > limit:
            raise too_large
        body = bytearray()
        async for chunk in self._request.stream():
            body += chunk
            if len(body) > limit:
                raise too_large
        return bytes(body)

    async def while_here(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of work, which is cancelled as soon as the client leaves; the body must have been read.

        A client that does not read what it is sent has left some time behind the limit of time.

        Raises:
            ClientLeft: it did.
        """
        limit = self.service.limits.seconds + _SECONDS_TO_READ
        task, gone = asyncio.create_task(work), asyncio.create_task(self._until_gone())
        try:
            await asyncio.wait((task, gone), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ClientLeft
            return task.result()
        finally:
            for one in (task, gone):
                one.cancel()
            if not task.done():  # another look at what it raised would forget where that was
                with suppress(asyncio.CancelledError, Exception):
                    await task

    async def _until_gone(self) -> None:
        while True:
            message: Message = await self._request.receive()
            if message["type"] == "http.disconnect":
                return

    async def send_json(self, value: Any, status: int = 200) -> None:
        """The whole response."""
        await self.send_text(json.dumps(value, ensure_ascii=False, allow_nan=False), "application/json", status)

    async def send_text(self, text: str, content_type: str, status: int = 200) -> None:
        """The whole response."""
        body = text.encode("utf-8", "replace")
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def send_events(self, events: AsyncGenerator[Any, None]) -> None:
        """A stream of events. It begins with the first one, so that a failure before it has its own status.

        A failure behind it is the last event.
        """
        begun = False
        try:
            async with aclosing(events) as each:
                async for event in each:
                    if not begun:
                        begun = True
                        headers = [(b"content-type", _STREAM.encode())]
                        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
                    await self._send_event(json.dumps(event, allow_nan=False))
        except ApiError as error:
            if not begun:
                raise
            await self._send_event(json.dumps(error.to_json()))
        except Exception:
            if begun:
                await self._send_event(json.dumps(failed().to_json()))
                await self._send({"type": "http.response.body", "body": b""})
            raise
        else:
            await self._send_event("[DONE]")
        await self._send({"type": "http.response.body", "body": b""})

    async def _send_event(self, data: str) -> None:
        # All of it is ASCII: many clients take U+2028 or U+0085 for the end of a line, and so of an event.
        body = f"data: {data}\n\n".encode("ascii")
        await self._send({"type": "http.response.body", "body": body, "more_body": True})


Handler = Callable[[HttpExchange], Awaitable[None]]


class HttpEndpoint:
    """A handler as an ASGI application."""

    def __init__(self, service: Service, handler: Handler) -> None:
        self._service, self._handler = service, handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self._handler(HttpExchange(self._service, scope, receive, send))
