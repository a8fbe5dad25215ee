"""A stand-in of the server: the real page, and canned answers by the contract of `/v1/tasks` and `/v1/analyse`."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mentallama_jax.evaluation.trust.risk_words import speaks_of_risk
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.serving.page_files import PAGE_HEADERS, page_files

NOTICE = "For research only. A model's reading of a text: no diagnosis, no advice."
Reply = tuple[int, Any, dict[str, str]]


def analysis(asked: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """An answer of the contract's form: the first label, 0.9 likely, and the post's first two words quoted."""
    task, post = TASKS[asked["task"]], asked["post"]
    rest = 0.1 / (len(task.labels) - 1)
    chances = {label: 0.9 if place == 0 else rest for place, label in enumerate(task.labels)}
    quoted = " ".join(post.split()[:2])
    start = post.index(post.split()[0])
    end = (
        start + len(post.split()[0])
        if len(post.split()) < 2
        else post.index(post.split()[1], start) + len(post.split()[1])
    )
    because = (["label"] if task.labels[0] in task.high_risk else []) + (["words"] if speaks_of_risk(post) else [])
    return {
        "task": task.name,
        "aspect": asked["aspect"],
        "label": task.labels[0],
        "probabilities": chances,
        "calibrated": False,
        "confidence": 0.9,
        "abstained": asked["abstain_below"] > 0.9,
        "explanation": f'{task.sentences[task.labels[0]]} Reasoning: The post says "{quoted}", which points to it.',
        "explanation_complete": True,
        "quotes": [{"text": post[start:end], "start": start, "end": end}],
        "risk": {"high": bool(because), "because": because},
        "notice": NOTICE,
        **changed,
    }


def error(status: int, message: str, **headers: str) -> Reply:
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
    return status, body, {name.replace("_", "-"): value for name, value in headers.items()}


class StandIn:
    """The running server.

    Attributes:
        url: of the page.
        analyse: what answers `/v1/analyse`, from the request's body.
        asked: bodies of `/v1/analyse` so far.
        seen: the first lines of all requests.
        tasks_reply: what answers `/v1/tasks` in place of the tasks.
        key: that requests to `/v1` must carry.
        going_on: set once the slow answer may be given.
        left: set when the client of a slow answer has gone.
    """

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self.files = page_files()
        self.reset()

    def reset(self) -> None:
        self.analyse: Callable[[dict[str, Any]], Reply | None] = lambda asked: (200, analysis(asked), {})
        self.asked: list[dict[str, Any]] = []
        self.seen: list[str] = []
        self.tasks_reply: Reply | None = None
        self.key = ""
        self.going_on, self.left = threading.Event(), threading.Event()

    def close(self) -> None:
        self.going_on.set()
        self._server.shutdown()
        self._server.server_close()

    def tasks(self) -> Reply:
        named = [
            {
                "name": task.name,
                "question": task.question,
                "aspects": list(task.aspects),
                "labels": list(task.labels),
                "high_risk": list(task.high_risk),
            }
            for task in TASKS.values()
        ]
        return self.tasks_reply or (200, {"tasks": named}, {})

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                server.seen.append(self.requestline)
                if self.path in server.files:
                    file = server.files[self.path]
                    self._send(200, file.content, {"Content-Type": file.media_type, **PAGE_HEADERS})
                elif self.path == "/v1/tasks":
                    self._answer(server.tasks)
                elif self.path == "/v1/models":
                    self._answer(lambda: (200, {"data": [{"id": "<i>toy</i>"}]}, {}))
                else:
                    self._send(404, b"", {})

            def do_POST(self) -> None:
                server.seen.append(self.requestline)
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))

                def analysed() -> Reply:
                    server.asked.append(body)
                    return server.analyse(body) or self._slowly(body)

                self._answer(analysed)

            def _slowly(self, body: dict[str, Any]) -> Reply:
                """Answer once it is allowed; see whether the client leaves before."""
                self.connection.settimeout(0.02)
                while not server.going_on.is_set():
                    try:
                        if not self.connection.recv(1):
                            server.left.set()
                            break
                    except TimeoutError:
                        pass
                self.connection.settimeout(None)
                return 200, analysis(body), {}

            def _answer(self, reply: Callable[[], Reply]) -> None:
                if server.key and self.headers.get("Authorization") != f"Bearer {server.key}":
                    status, value, headers = error(401, "no such key")
                else:
                    status, value, headers = reply()
                content = value if isinstance(value, bytes) else json.dumps(value).encode()
                self._send(status, content, {"Content-Type": "application/json", **headers})

            def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
                try:
                    self.send_response(status)
                    for name, value in {**headers, "Content-Length": str(len(content))}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:
                    pass  # the client has left

        return Handler
