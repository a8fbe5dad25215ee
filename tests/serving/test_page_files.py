"""The files of the page: their policy, what they must not hold, and that their parts fit each other."""

import json
import re

import pytest

from mentallama_jax.evaluation.trust.risk_words import risk_patterns
from mentallama_jax.serving.page_files import PAGE_HEADERS, page_files

FILES = {path: file.content.decode() for path, file in page_files().items()}
PAGE, SCRIPT, STYLE = FILES["/"], FILES["/page.js"], FILES["/page.css"]


def test_the_policy_lets_nothing_in_from_elsewhere():
    assert PAGE_HEADERS["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert PAGE_HEADERS["Referrer-Policy"] == "no-referrer"
    assert PAGE_HEADERS["Cache-Control"] == "no-store"


def test_nothing_of_strangers_becomes_html_and_nothing_is_stored():
    forbidden = (
        "innerHTML", "outerHTML", "insertAdjacent", "document.write", "DOMParser", "eval(", "new Function",
        "createContextualFragment", "localStorage", "sessionStorage", "indexedDB", "cookie", "pushState",
        "replaceState", "location", "console.",
    )  # fmt: skip
    assert [word for word in forbidden if word in SCRIPT] == []
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bon[a-z]+=|\bstyle=|<style|javascript:", PAGE)


def test_no_address_of_elsewhere_is_loaded():
    assert re.findall(r"(?:src|href)=\"(?!#)([^\"]+)\"", PAGE.split("<body>")[0]) == ["page.css", "page.js"]
    assert re.findall(r"<(?:img|iframe|object|embed|video|audio)", PAGE) == []
    assert "url(" not in STYLE
    assert "@import" not in STYLE


def test_every_part_that_the_script_asks_for_is_in_the_page():
    there = set(re.findall(r"\bid=\"([^\"]+)\"", PAGE))
    asked = set(re.findall(r"byId\(\"([^\"]+)\"\)", SCRIPT))
    assert asked <= there
    referred = re.findall(r"(?:for|aria-labelledby|aria-describedby)=\"([^\"]+)\"", PAGE)
    assert {name for each in referred for name in each.split()} <= there


def test_the_page_is_given_the_lines_and_the_words():
    care = json.loads(FILES["/care.json"])
    assert care["risk_words"] == risk_patterns()
    assert care["lines"]["countries"]["US"]["lines"][0]["call"] == "988"
    assert care["lines"]["elsewhere"]["web"] == "https://findahelpline.com"


def test_the_page_without_scripts_names_lines_of_all_countries():
    bare = re.search(r"<noscript>(.+?)</noscript>", PAGE)
    assert bare
    assert "https://findahelpline.com" in bare[1]
    assert "For research only." in PAGE


def test_the_routes_send_the_files_with_their_policy():
    testing = pytest.importorskip(
        "starlette.testclient", reason="starlette (the extra `serving`) is not installed here"
    )
    from starlette.applications import Starlette

    from mentallama_jax.serving.page_routes import page_routes

    client = testing.TestClient(Starlette(routes=page_routes()))
    for path, text in FILES.items():
        answer = client.get(path)
        assert answer.text == text
        assert {name: answer.headers[name] for name in PAGE_HEADERS} == PAGE_HEADERS
    assert client.get("/").headers["Content-Type"] == "text/html; charset=utf-8"
    assert client.get("/page.py").status_code == 404
    assert client.post("/").status_code == 405
