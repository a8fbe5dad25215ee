"""Who may ask: sites of other names, keys, wrong paths and bodies; and that nothing of what is asked is said again."""

import json
from typing import Any

import httpx
import pytest
from paced import paced

MARKER = "zanzibarquokka"
CHAT = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}


@pytest.fixture(scope="module")
def http() -> Any:
    with paced(names=("research.example",)) as (server, _):
        yield server.http


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost:8000"}, 200),
        ({"Host": "LOCALHOST"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "192.168.1.7:8000"}, 200),
        ({"Host": "research.example"}, 200),
        ({"Host": "evil.example:8000"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "localhost:8000", "Origin": "http://localhost:8000"}, 200),
        ({"Host": "localhost:8000", "Origin": "http://localhost:3000"}, 403),
        ({"Host": "localhost:8000", "Origin": "https://evil.example"}, 403),
        ({"Host": "localhost:8000", "Origin": "null"}, 403),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 403),
    ],
)
def test_pages_of_other_sites_cannot_use_a_local_server(
    http: httpx.Client, headers: dict[str, str], status: int
) -> None:
    for response in (http.post("/v1/chat/completions", json=CHAT, headers=headers), http.get("/", headers=headers)):
        assert response.status_code == status
        assert not [name for name in response.headers if name.startswith("access-control")]
    asked_before = http.options("/v1/chat/completions", headers=headers | {"Access-Control-Request-Method": "POST"})
    assert asked_before.status_code >= 400


def test_what_a_browser_sends_without_asking_first_is_refused(http: httpx.Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        headers = {"Content-Type": kind} if kind else {}
        refused = http.post("/v1/chat/completions", content=json.dumps(CHAT), headers=headers)
        assert refused.status_code == 415
    as_json = http.post(
        "/v1/chat/completions", content=json.dumps(CHAT), headers={"Content-Type": "Application/JSON; charset=utf-8"}
    )
    assert as_json.status_code == 200


def test_a_key_is_wanted_where_there_is_one() -> None:
    with paced(key="long-secret-key") as (server, _):
        http = server.http
        assert http.get("/health").json()["needs_key"] is True
        for path in ("/v1/models", "/v1/tasks", "/metrics"):
            for wrong in ("", "Bearer long-secret-kez", "Basic long-secret-key", "Bearer", "Bearer lóng"):
                refused = http.get(path, headers={"Authorization": wrong.encode()} if wrong else {})
                assert refused.status_code == 401
                assert refused.headers["www-authenticate"] == "Bearer"
                assert refused.json()["error"]["code"] == "invalid_api_key"
                assert "long" not in refused.text
            assert http.get(path, headers={"Authorization": "Bearer long-secret-key"}).status_code == 200
        by_name = {"Host": "proxy.example", "Authorization": "Bearer long-secret-key"}
        assert http.get("/v1/models", headers=by_name).status_code == 200
        assert "long-secret" not in repr(server.service)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/v1/embeddings", 404),
        ("GET", f"/{MARKER}", 404),
        ("GET", "/v1/models/other", 404),
        ("GET", "/../etc/passwd", 404),
    ],
)
def test_what_is_not_there_is_refused_in_the_form_of_openai(
    http: httpx.Client, method: str, path: str, status: int
) -> None:
    refused = http.request(method, path)
    assert refused.status_code == status
    assert refused.json()["error"].keys() == {"message", "type", "param", "code"}
    assert MARKER not in refused.text


BROKEN = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"\xff\xfe",
    b'{"messages": [], "messages": []}',
    b'{"temperature": NaN}',
    b'{"seed": ' + b"9" * 400 + b"}",
    b"[" * 3000,
    f'{{"{MARKER} {MARKER}": 1}}'.encode(),
    f'{{"messages": "{MARKER}"}}'.encode(),
    f'{{"messages": [{{"role": "{MARKER}", "content": "x"}}]}}'.encode(),
    f'{{"messages": [{{"role": "user", "content": "{MARKER}"}}, {{"role": "user", "content": "x"}}]}}'.encode(),
    f'{{"messages": [{{"role": "user", "content": "\\ud800{MARKER}"}}]}}'.encode(),
    f'{{"messages": [{{"role": "user", "content": "{MARKER}"}}], "n": "{MARKER}"}}'.encode(),
    f'{{"messages": [{{"role": "user", "content": "{MARKER}"}}], "model": "{MARKER}"}}'.encode(),
    f'{{"messages": [{{"role": "user", "content": "{MARKER}"}}], "stop": ["{MARKER}", 1]}}'.encode(),
    f'{{"post": "{MARKER}", "task": "{MARKER}"}}'.encode(),
    f'{{"post": "{MARKER}", "task": "IRF", "aspect": "{MARKER}"}}'.encode(),
    f'{{"post": "{MARKER}", "task": "DR", "aspect": "{MARKER}"}}'.encode(),
    f'{{"post": "{MARKER}", "task": "DR", "abstain_below": "{MARKER}"}}'.encode(),
    f'{{"prompt": "{MARKER}", "echo": true}}'.encode(),
    f'{{"prompt": [1, "{MARKER}"]}}'.encode(),
]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/analyse"])
def test_broken_bodies_are_refused_and_not_said_again(
    http: httpx.Client, path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for body in BROKEN:
        refused = http.post(path, content=body, headers={"Content-Type": "application/json"})
        assert 400 <= refused.status_code < 500, body[:60]
        assert refused.json()["error"]["message"]
        assert MARKER not in refused.text
        assert MARKER not in str(refused.headers)
    assert capfd.readouterr() == ("", "")
    assert MARKER not in http.get("/metrics").text


@pytest.mark.parametrize("stream", [False, True])
def test_a_fault_of_the_server_is_told_without_its_words(
    stream: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(schema: Any) -> None:
        raise ValueError(f"cannot follow {MARKER}")

    with paced() as (server, _):
        monkeypatch.setattr(server.service.grammars, "masks", broken)
        asked = CHAT | {"response_format": {"type": "json_object"}, "stream": stream}
        failed = server.http.post("/v1/chat/completions", json=asked)
        server.wait_until_idle()
    said = capfd.readouterr().err
    assert failed.status_code == 500
    assert failed.json()["error"]["type"] == "server_error"
    assert "error: a request failed: ValueError at test_gate.py:" in said
    assert MARKER not in failed.text + said


def test_headers_of_every_response_keep_it_out_of_caches(http: httpx.Client) -> None:
    for response in (http.get("/health"), http.get("/nothing"), http.post("/v1/completions", json={})):
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "server" not in response.headers
