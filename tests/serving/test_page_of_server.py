"""The page in a real browser in front of the real server, with the toy model."""

import pytest
from browser import CHROMIUM, NAMES, Browser
from live_server import LiveServer

from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.serving.page_files import PAGE_HEADERS, page_files

MARKER = "Zaunkönig-4711"


def test_the_server_sends_the_page_with_its_policy(server: LiveServer):
    for path, file in page_files().items():
        answer = server.http.get(path)
        assert answer.content == file.content
        assert {name: answer.headers[name] for name in PAGE_HEADERS} == PAGE_HEADERS


@pytest.mark.skipif(CHROMIUM is None, reason=f"no browser: none of {', '.join(NAMES)}; set CHROMIUM")
def test_a_post_is_read_by_the_real_server(server: LiveServer, browser: Browser, capfd: pytest.CaptureFixture[str]):
    tab = browser.open(f"{server.url}/")
    tab.wait(f"document.querySelectorAll('#task option').length === {len(TASKS)}")
    tab.run("document.getElementById('post').focus()")
    tab.type(f"{MARKER} 😀 wants to end her life")
    tab.run("document.getElementById('send').click()")
    tab.wait("running === null", 120)
    assert not tab.shown("#failure"), tab.text("#failure")
    assert tab.text("#verdict").startswith("The model reads this post as: ")
    assert tab.run("document.querySelectorAll('#chances li').length") == len(TASKS["DR"].labels)
    assert tab.run("document.getElementById('marked').textContent").startswith(MARKER)
    assert tab.run("document.getElementById('help').parentElement.id") == "care"
    assert "no diagnosis" in tab.text("#answer-notice")
    assert tab.text("#model").startswith("The model here is toy")
    assert tab.complaints() == []
    assert server.http.post("/v1/analyse", json={"post": f"{MARKER} " * 200, "task": "DR"}).status_code == 400
    tab.close()
    server.wait_until_idle()
    assert MARKER not in "".join(capfd.readouterr()) + server.http.get("/metrics").text
