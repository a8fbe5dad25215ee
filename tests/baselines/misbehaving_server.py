"""A chat endpoint on this machine that misbehaves by seed, and keeps the books.

What it does to a request depends on the seed, the request and how often it came: so a run can be made again. It bills
an `Idempotency-Key` once, and gives a known key the answer that it has: an answer whose connection was cut is not made
twice. `delivered` counts answers that were written whole to a client that was still there.
"""

import json
import random
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("429", "500", "slow", "cut", "no JSON", "truncated", "no choices")
PROMPT_TOKENS, ANSWER_TOKENS = 50, 10
WRONG_KEY = "wrong-key"

Answerer = Callable[[Mapping[str, Any]], tuple[str | None, str]]
"""From the body of a request to the text of an answer, None for none, and its finish reason."""


def plain_answer(body: Mapping[str, Any]) -> tuple[str, str]:
    return "Yes, the poster suffers from depression. Reasoning: made up.", "stop"


class Books:
    """What a server did, by key of a request."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()
        self.made: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = 0
        self._at_once = 0
        self.lock = threading.Lock()

    @contextmanager
    def busy(self) -> Iterator[None]:
        with self.lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self.lock:
                self._at_once -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no news."""


@contextmanager
def server(
    *,
    seed: int = 0,
    share: float = 0.4,
    faults: tuple[str, ...] = FAULTS,
    answer: Answerer = plain_answer,
    delay: float = 0.0,
    logprobs: Any = None,
    echo: str = "",
) -> Iterator[tuple[str, Books]]:
    """The address of a running server, and its books.

    `share` of all attempts meet one of `faults`. Each request gets its answer after `delay` seconds. `logprobs` is put
    into each choice. `echo` stands in every error, as some servers repeat what they were sent.
    """
    books = Books()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            """Nothing."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            key = self.headers["Idempotency-Key"]
            with books.lock:
                books.seen[key] += 1
                books.bodies.append(body)
                books.headers.append({name.lower(): value for name, value in self.headers.items()})
                drawn = random.Random(f"{seed}/{json.dumps(body)}/{books.seen[key]}")
                fault = drawn.choice(faults) if drawn.random() < share else ""
                books.faults[fault or "none"] += 1
            with books.busy():
                self.answer(body, key, fault)

        def answer(self, body: dict[str, Any], key: str, fault: str) -> None:
            if WRONG_KEY in self.headers["Authorization"] or fault == "401":
                self.error(401, "invalid_api_key", f"Incorrect API key provided: {self.headers['Authorization']}")
            elif fault == "429":
                self.error(429, "rate_limit_exceeded", "slow down", {"Retry-After": "0.05"})
            elif fault == "500":
                self.error(500, "server_error", "oops", {"Retry-After-Ms": "20"})
            elif fault == "quota":
                self.error(429, "insufficient_quota", "no credit")
            elif fault == "refused setting":
                self.error(400, "unsupported_value", "no", param="temperature")
            elif fault == "too long":
                self.error(400, "context_length_exceeded", "too long")
            elif fault == "redirect":
                self.send(302, b"", {"Location": "http://example.invalid/v1/chat/completions"})
            elif fault == "no JSON":
                self.send(200, b"<html>welcome</html>")
            elif fault == "no choices":
                self.send(200, json.dumps({"choices": [], "usage": None}).encode())
            elif fault == "hang":
                time.sleep(1.0)
                self.close_connection = True
            else:
                time.sleep(delay + (0.2 if fault == "slow" else 0.0))
                with books.lock:
                    books.made[key] += not books.made[key]
                content = json.dumps(chat_answer(body, *answer(body), logprobs)).encode()
                self.deliver(key, content, fault)

        def deliver(self, key: str, content: bytes, fault: str) -> None:
            if fault == "cut":
                self.send(200, content[: len(content) // 2], {"Content-Length": str(len(content))})
                self.close_connection = True
            elif fault == "truncated":
                half = content[: len(content) // 2]
                self.send(200, b"%x\r\n%s\r\n" % (len(half), half), {"Transfer-Encoding": "chunked"})
                self.close_connection = True
            elif not _gone(self.connection):
                self.send(200, content)
                with books.lock:
                    books.delivered[key] += 1

        def error(
            self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None, param: str = ""
        ) -> None:
            said = {"message": f"{message} {echo}", "type": code, "code": code, "param": param or None}
            self.send(status, json.dumps({"error": said}).encode(), headers)

        def send(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(content))} | dict(headers or {})).items():
                if name != "Content-Length" or "Transfer-Encoding" not in (headers or {}):
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    with _Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_address[1]}/v1", books
        finally:
            running.shutdown()
            thread.join()


def chat_answer(body: Mapping[str, Any], text: str | None, finish: str, logprobs: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": f"{body['model']}-2026",
        "choices": [choice | ({"logprobs": logprobs} if logprobs is not None else {})],
        "usage": {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": ANSWER_TOKENS,
            "total_tokens": PROMPT_TOKENS + ANSWER_TOKENS,
        },
    }


def _gone(connection: socket.socket) -> bool:
    """Whether the client has closed its end, as a program does that is killed."""
    readable, _, _ = select.select([connection], [], [], 0)
    if not readable:
        return False
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True
