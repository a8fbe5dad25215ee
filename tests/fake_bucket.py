"""A stand-in of the bucket service on loopback: the part of its JSON interface that gcsfs and tensorstore use.

Objects are kept in memory, each with a generation that a write raises; preconditions are honoured. What the real
service has besides (rights, quotas, latency, errors that come and go) is not here.
"""

import base64
import email.parser
import json
import re
import threading
import zlib
from dataclasses import dataclass, field
from email.policy import HTTP
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

PAGE = 50
"""Objects of a page of a listing: few, so that readers must turn pages."""

_OBJECT = re.compile(r"(?:/download|/upload)?/storage/v1/b/([^/]+)/o(?:/(.*))?")
_BUCKET = re.compile(r"/storage/v1/b/([^/]+)")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass
class Object:
    """What is stored under a name."""

    data: bytes
    generation: int
    content_type: str = "application/octet-stream"


@dataclass
class RefusedError(Exception):
    """An answer with an error status."""

    status: int


@dataclass
class FakeBucket:
    """The objects, and what was asked, as `(method, name of the object)`."""

    objects: dict[str, Object] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    guard: threading.Lock = field(default_factory=threading.Lock)
    generation: int = 1000

    def write(self, name: str, data: bytes, query: dict[str, str] | None = None) -> dict[str, Any]:
        """Store an object whole, if the preconditions hold."""
        self.check(name, query or {})
        self.generation += 1
        self.objects[name] = Object(bytes(data), self.generation)
        return self.describe(name)

    def check(self, name: str, query: dict[str, str]) -> None:
        there = self.objects[name].generation if name in self.objects else 0
        if "ifGenerationMatch" in query and int(query["ifGenerationMatch"]) != there:
            raise RefusedError(412)
        if "ifGenerationNotMatch" in query and int(query["ifGenerationNotMatch"]) == there:
            raise RefusedError(304)

    def get(self, name: str, query: dict[str, str]) -> Object:
        if name not in self.objects:
            raise RefusedError(404)
        self.check(name, query)
        if "generation" in query and int(query["generation"]) != self.objects[name].generation:
            raise RefusedError(404)
        return self.objects[name]

    def describe(self, name: str) -> dict[str, Any]:
        found = self.objects[name]
        bucket, _, key = name.partition("/")
        return {
            "kind": "storage#object",
            "id": f"{name}/{found.generation}",
            "name": key,
            "bucket": bucket,
            "generation": str(found.generation),
            "metageneration": "1",
            "contentType": found.content_type,
            "size": str(len(found.data)),
            "md5Hash": base64.b64encode(md5(found.data).digest()).decode(),
            "crc32c": "AAAAAA==",
            "etag": f"{zlib.crc32(found.data)}",
            "timeCreated": "2024-01-01T00:00:00.000Z",
            "updated": "2024-01-01T00:00:00.000Z",
            "storageClass": "STANDARD",
        }

    def list(self, bucket: str, query: dict[str, str]) -> dict[str, Any]:
        """A page of names; with a delimiter, of the folders one level below the prefix too."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        entries: dict[str, bool] = {}
        for name in sorted(self.objects):
            owner, _, key = name.partition("/")
            if owner != bucket or not key.startswith(prefix):
                continue
            if key < query.get("startOffset", "") or ("endOffset" in query and key >= query["endOffset"]):
                continue
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            entries[key if cut < 0 else key[: cut + 1]] = cut < 0
        start = int(query.get("pageToken") or 0)
        page = list(entries.items())[start : start + PAGE]
        answer: dict[str, Any] = {"kind": "storage#objects"}
        answer["items"] = [self.describe(f"{bucket}/{key}") for key, is_object in page if is_object]
        answer["prefixes"] = [key for key, is_object in page if not is_object]
        if start + PAGE < len(entries):
            answer["nextPageToken"] = str(start + PAGE)
        return answer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # header and body are two small packets
    bucket: FakeBucket

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_PUT(self) -> None:
        self._answer(self._put)

    def do_DELETE(self) -> None:
        self._answer(self._delete)

    def _answer(self, method: Any) -> None:
        parts = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        self.body = self._read_body()
        match = _OBJECT.fullmatch(parts.path)
        self.name = f"{unquote(match[1])}/{unquote(match[2] or '')}" if match else ""
        with self.bucket.guard:
            self.bucket.asked.append((self.command, self.name))
            try:
                status, headers, data = method(parts.path)
            except RefusedError as refusal:
                status, headers = refusal.status, {}
                message = {"error": {"code": status, "message": f"status {status}", "errors": []}}
                data = b"" if status == 304 else json.dumps(message).encode()
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        if match := _BUCKET.fullmatch(path):
            return _json({"kind": "storage#bucket", "name": match[1], "id": match[1]})
        if not self.name:
            raise RefusedError(404)
        bucket, _, key = self.name.partition("/")
        if not key:
            return _json(self.bucket.list(bucket, self.query))
        found = self.bucket.get(self.name, self.query)
        if self.query.get("alt") != "media":
            return _json(self.bucket.describe(self.name))
        headers = {
            "Content-Type": found.content_type,
            "x-goog-generation": str(found.generation),
            "x-goog-hash": f"md5={base64.b64encode(md5(found.data).digest()).decode()}",
        }
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        if not wanted:
            return 200, headers, found.data
        size = len(found.data)
        if wanted[1]:
            start, end = int(wanted[1]), int(wanted[2]) + 1 if wanted[2] else size
        else:
            start, end = max(size - int(wanted[2]), 0), size
        if start >= size:
            raise RefusedError(416)
        end = min(end, size)
        return 206, headers | {"Content-Range": f"bytes {start}-{end - 1}/{size}"}, found.data[start:end]

    def _post(self, path: str) -> tuple[int, dict[str, str], bytes]:
        if not self.name:
            raise RefusedError(404)
        if "/rewriteTo/" in self.name:
            return self._rewrite()
        if "upload_id" in self.query:  # gcsfs posts the parts of an upload
            return self._put(path)
        bucket = self.name.partition("/")[0]
        kind = self.query.get("uploadType")
        if kind == "media":
            return _json(self.bucket.write(f"{bucket}/{self.query['name']}", self.body, self.query))
        if kind == "multipart":
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n"
            boundary = email.parser.Parser(policy=HTTP).parsestr(head).get_boundary()
            _, about, content, *_ = self.body.split(b"--" + str(boundary).encode())
            key = json.loads(_after_headers(about))["name"]
            return _json(self.bucket.write(f"{bucket}/{key}", _without_end(_after_headers(content)), self.query))
        if kind == "resumable":
            key = self.query.get("name") or json.loads(self.body)["name"]
            self.bucket.check(f"{bucket}/{key}", self.query)
            number = str(len(self.bucket.uploads))
            self.bucket.uploads[number] = bytearray()
            where = f"http://{self.headers['Host']}/upload/storage/v1/b/{bucket}/o?upload_id={number}&name={quote(key)}"
            return 200, {"Location": where}, b""
        raise RefusedError(400)

    def _rewrite(self) -> tuple[int, dict[str, str], bytes]:
        source, _, target = self.name.partition("/rewriteTo/b/")
        data = self.bucket.get(source, {}).data
        described = self.bucket.write(target.replace("/o/", "/", 1), data, self.query)
        size = str(len(data))
        return _json({"done": True, "objectSize": size, "totalBytesRewritten": size, "resource": described})

    def _put(self, path: str) -> tuple[int, dict[str, str], bytes]:
        number = self.query.get("upload_id", "")
        if number not in self.bucket.uploads:
            raise RefusedError(404)
        upload = self.bucket.uploads[number]
        upload += self.body
        total = self.headers.get("Content-Range", "bytes */*").rpartition("/")[2]
        if total == "*" or len(upload) < int(total):
            return 308, {"Range": f"bytes=0-{len(upload) - 1}"} if upload else {}, b""
        name = f"{self.name.partition('/')[0]}/{self.query['name']}"
        return _json(self.bucket.write(name, bytes(self.bucket.uploads.pop(number)), self.query))

    def _delete(self, path: str) -> tuple[int, dict[str, str], bytes]:
        if self.bucket.uploads.pop(self.query.get("upload_id", ""), None) is not None:
            return 499, {}, b""
        self.bucket.get(self.name, self.query)
        del self.bucket.objects[self.name]
        return 204, {}, b""


def _json(value: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json; charset=UTF-8"}, json.dumps(value).encode()


def _after_headers(part: bytes) -> bytes:
    return re.split(rb"\r?\n\r?\n", part, maxsplit=1)[1]


def _without_end(content: bytes) -> bytes:
    return content[:-2] if content.endswith(b"\r\n") else content[:-1]


class FakeBucketServer(ThreadingHTTPServer):
    """Serves a `FakeBucket` in a thread. Use as a context manager."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        self.bucket = FakeBucket()
        super().__init__(("127.0.0.1", 0), type("Handler", (_Handler,), {"bucket": self.bucket}))
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.environment = {
            "STORAGE_EMULATOR_HOST": self.url,
            "TENSORSTORE_GCS_HTTP_URL": self.url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "nobody",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # it asks another service what kind of bucket this is
        }

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients hang up when they have what they want."""

    def __enter__(self) -> "FakeBucketServer":
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
