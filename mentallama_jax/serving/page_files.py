"""The files of the page, and the headers that they are sent with.

The page is plain HTML, CSS and JavaScript without a framework. It asks this server alone, keeps nothing, and may be
shown in no other page. It needs no key to be read: it holds nothing but itself.
"""

import json
from dataclasses import dataclass
from importlib import resources

from mentallama_jax.evaluation.trust.risk_words import risk_patterns
from mentallama_jax.serving.crisis_lines import CrisisLines, read_crisis_lines

__all__ = ["PAGE_HEADERS", "PageFile", "page_files"]

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
}
PAGE_HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""Header -> value, of each file of the page."""


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the page.

    Attributes:
        content: its bytes.
        media_type: what the bytes are.
    """

    content: bytes
    media_type: str


def page_files(lines: CrisisLines | None = None) -> dict[str, PageFile]:
    """Path of the URL -> file, for all that the page is made of.

    Args:
        lines: crisis lines to show; None takes the shipped ones.
    """
    folder = resources.files("mentallama_jax.serving").joinpath("page")
    care = {"lines": (lines or read_crisis_lines()).to_json(), "risk_words": risk_patterns()}
    return {
        "/": PageFile(folder.joinpath("index.html").read_bytes(), "text/html; charset=utf-8"),
        "/page.css": PageFile(folder.joinpath("page.css").read_bytes(), "text/css; charset=utf-8"),
        "/page.js": PageFile(folder.joinpath("page.js").read_bytes(), "text/javascript; charset=utf-8"),
        "/care.json": PageFile(json.dumps(care, ensure_ascii=False).encode(), "application/json; charset=utf-8"),
    }
