"""A small HTTP/1.1 client over asyncio for `serve.py`: it streams, leaves early and sends nonsense.

It costs little, as it shares the cores with the server that is measured, and it can do what good clients never do.
"""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

PROMPT, NEW = 128, 64
"""Tokens of a prompt, and of an answer at most."""


@dataclass
class Answer:
    """What came back of one request.

    Attributes:
        status: of HTTP; 0 where the connection ended before one came.
        text: of the completion, or of the body where it is none.
        tokens: new ones, by the server's count; pieces of the stream where it gives none.
        prompt_tokens: by the server's count.
        finish: why the completion ended; "" where it did not.
        first: seconds until the first text.
        seconds: in all.
        retry_after: of the header; 0 where there is none.
        body: the parsed body of an answer that is no stream.
        left: whether this client left before the end.
    """

    status: int = 0
    text: str = ""
    tokens: int = 0
    prompt_tokens: int = 0
    finish: str = ""
    first: float = 0.0
    seconds: float = 0.0
    retry_after: float = 0.0
    body: Any = None
    left: bool = False
    headers: dict[str, str] = field(default_factory=dict)


class Client:
    """Sends requests to one server, each on a connection of its own."""

    def __init__(self, url: str, key: str = "", extra: dict[str, Any] | None = None) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self._key, self._extra = key, extra or {}

    async def complete(
        self, prompt: list[int], new: int, *, stream: bool = True, leave_after: int | None = None
    ) -> Answer:
        """A greedy completion.

        Args:
            prompt: token ids.
            new: tokens at most.
            stream: by server-sent events.
            leave_after: pieces of the stream after which the connection is cut; 0 before the first.
        """
        body = {"prompt": prompt, "max_tokens": new, "temperature": 0, "stream": stream, **self._extra}
        if stream:
            body["stream_options"] = {"include_usage": True}
        return await self.send("POST", "/v1/completions", json.dumps(body).encode(), leave_after=leave_after)

    async def send(
        self, method: str, path: str, body: bytes = b"", *, leave_after: int | None = None, length: int | None = None
    ) -> Answer:
        """Send a request as it is, and read what comes back.

        Args:
            method: of HTTP.
            path: of the URL.
            body: bytes, sent as JSON whatever they are.
            leave_after: see `complete`.
            length: what the header says of the body's length where that is not true.
        """
        answer, start = Answer(), time.perf_counter()
        reader, writer = await asyncio.open_connection(self.host, self.port, limit=1 << 22)
        try:
            key = f"Authorization: Bearer {self._key}\r\n" if self._key else ""
            head = (
                f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nContent-Type: application/json\r\n{key}"
                f"Content-Length: {len(body) if length is None else length}\r\nConnection: close\r\n\r\n"
            )
            writer.write(head.encode() + body)
            await self._read(reader, answer, start, leave_after)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
        answer.seconds = time.perf_counter() - start
        return answer

    async def _read(self, reader: asyncio.StreamReader, answer: Answer, start: float, leave_after: int | None) -> None:
        if leave_after == 0:
            await asyncio.sleep(0.05)
            answer.left = True
            return
        answer.status = int((await reader.readline() or b"HTTP/1.1 0").split()[1])
        while (line := (await reader.readline()).strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            answer.headers[name.lower()] = value.strip()
        answer.retry_after = float(answer.headers.get("retry-after", 0))
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            await self._read_events(reader, answer, start, leave_after)
            return
        content = b"".join([piece async for piece in _pieces(reader, answer)])
        try:
            answer.body = json.loads(content)
        except ValueError:
            answer.text = content.decode("utf-8", "replace")
            return
        if isinstance(answer.body, dict) and "choices" in answer.body:
            _add(answer, answer.body)
            answer.first = time.perf_counter() - start

    async def _read_events(
        self, reader: asyncio.StreamReader, answer: Answer, start: float, leave_after: int | None
    ) -> None:
        pieces, buffer = 0, b""
        async for piece in _pieces(reader, answer):
            *events, buffer = (buffer + piece).split(b"\n\n")
            for event in events:
                data = event.removeprefix(b"data:").strip()
                if not event.startswith(b"data:") or data == b"[DONE]":
                    continue
                before = len(answer.text)
                _add(answer, json.loads(data))
                if len(answer.text) > before:
                    pieces += 1
                    answer.first = answer.first or time.perf_counter() - start
                if pieces == leave_after:
                    answer.left = True
                    return
        answer.tokens = answer.tokens or pieces


async def _pieces(reader: asyncio.StreamReader, answer: Answer):
    """The body as it comes, chunked or not."""
    if answer.headers.get("transfer-encoding", "").lower() != "chunked":
        while piece := await reader.read(1 << 16):
            yield piece
        return
    while size := int((await reader.readline()).strip() or b"0", 16):
        yield await reader.readexactly(size)
        await reader.readline()


def _add(answer: Answer, value: dict[str, Any]) -> None:
    for choice in value.get("choices", ()):
        answer.text += choice.get("text") or ""
        answer.finish = choice.get("finish_reason") or answer.finish
    usage = value.get("usage") or {}
    answer.tokens = usage.get("completion_tokens", answer.tokens)
    answer.prompt_tokens = usage.get("prompt_tokens", answer.prompt_tokens)


def prompts(count: int, seed: int = 0, size: int = PROMPT) -> list[list[int]]:
    """Random token ids; every prompt begins with tokens of its own, so that no cache of beginnings helps."""
    draw = random.Random(seed)
    return [[draw.randrange(1000, 20000) for _ in range(size)] for _ in range(count)]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    in_order = sorted(values)
    return in_order[min(len(in_order) - 1, int(share * len(in_order)))] if in_order else float("nan")


def failed(answer: Answer) -> bool:
    """Whether a request has no whole answer."""
    return answer.status != 200 or not answer.finish
