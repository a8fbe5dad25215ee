"""A stand-in of the Hugging Face hub on loopback: accounts, repositories and commits, as far as uploads need them."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

TOKEN = "hf_of_the_stand_in"


class FakeHub:
    """Repositories in memory, served while it is entered.

    Attributes:
        repositories: name -> whether it is private, and its files.
        asked: method and path of each request.
        refuse: status of every answer, to be refused; 0 answers.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.refuse = 0
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self, b"")

            def do_POST(self) -> None:
                hub.answer(self, self.rfile.read(int(self.headers["Content-Length"] or 0)))

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        self.asked.append(f"{request.command} {request.path}")
        status, value = self._answer(request, body)
        content = json.dumps(value).encode()
        request.send_response(status)
        if status == 404:
            request.send_header("X-Error-Code", "RepoNotFound")
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def _answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, Any]:
        path = request.path.partition("?")[0].strip("/").split("/")
        if self.refuse:
            return self.refuse, {"error": "refused"}
        if request.headers["Authorization"] != f"Bearer {TOKEN}":
            return 401, {"error": "no token"}
        if path == ["api", "whoami-v2"]:
            return 200, {"name": "me", "type": "user", "orgs": []}
        if path == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            if name in self.repositories:
                return 409, {"error": "exists", "url": f"{self.url}/{name}"}
            private = asked.get("private", asked.get("visibility") == "private")
            self.repositories[name] = {"private": private, "files": {}}
            return 200, {"url": f"{self.url}/{name}", "name": name}
        if path == ["api", "validate-yaml"]:  # of a card
            return 200, {"errors": [], "warnings": []}
        name = "/".join(path[2:4])
        if name not in self.repositories:
            return 404, {"error": "not found"}
        repository = self.repositories[name]
        if path[4:5] == ["preupload"]:
            files = json.loads(body)["files"]
            return 200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
        if path[4:5] == ["commit"]:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    repository["files"][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return 200, {"commitUrl": f"{self.url}/{name}/commit/1", "commitOid": "1" * 40, "success": True}
        return 200, {"id": name, "private": repository["private"], "siblings": [], "sha": "0" * 40}
