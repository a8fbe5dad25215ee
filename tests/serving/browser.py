"""Chromium driven over its own pipe: tabs of any width and scheme, keys, pictures, axe-core. No package is needed.

Set CHROMIUM to the program and AXE_CORE to `axe.min.js` where they are not found.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome-headless-shell")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
AXE = Path(os.environ.get("AXE_CORE") or ROOT / "node_modules/axe-core/axe.min.js")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--mute-audio", "--remote-debugging-pipe",
)  # fmt: skip
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# Chromium reads commands from descriptor 3 and writes to 4.
LAUNCHER = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3]]
for place, pipe in zip((3, 4), pipes): os.dup2(pipe, place)
os.execvp(sys.argv[3], sys.argv[3:])
"""
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38, "End": 35, "Home": 36, " ": 32}


class Browser:
    """The running program; tabs of it share nothing."""

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM
        to_read, self._commands = os.pipe()
        self._answers, to_write = os.pipe()
        os.set_blocking(self._answers, False)
        launch = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(to_read), str(to_write)]
        self._program = subprocess.Popen(
            [*launch, CHROMIUM, *FLAGS, f"--user-data-dir={folder}"],
            pass_fds=(to_read, to_write), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        self._numbers, self._buffer = count(1), b""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, timeout: float = 60, **parameters: Any) -> dict[str, Any]:
        """The answer to a command of the DevTools protocol."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._commands, content) :]
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            for answer in self._read():
                if answer.get("id") == number:
                    assert "error" not in answer, f"{method}: {answer['error']}"
                    return answer["result"]
                self.events.append(answer)
        raise TimeoutError(method)

    def _read(self) -> list[dict[str, Any]]:
        try:
            self._buffer += os.read(self._answers, 1 << 20)
        except BlockingIOError:
            assert self._program.poll() is None, "the browser has ended"
            time.sleep(0.002)
        *whole, self._buffer = self._buffer.split(b"\0")
        return [json.loads(each) for each in whole]

    def open(self, url: str, width: int = 1280, language: str = "en-GB") -> "Tab":
        """A tab of a fresh profile that shows a page."""
        return Tab(self, url, width, language)

    def close(self) -> None:
        try:
            self.call("Browser.close", timeout=10)
        except (TimeoutError, AssertionError, OSError):
            self._program.kill()
        self._program.wait(20)
        os.close(self._commands)
        os.close(self._answers)


class Tab:
    """A page in a profile of its own."""

    def __init__(self, browser: Browser, url: str, width: int, language: str) -> None:
        self._browser = browser
        browser.events.clear()
        self._context = browser.call("Target.createBrowserContext")["browserContextId"]
        target = browser.call("Target.createTarget", url="about:blank", browserContextId=self._context)["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        agent = browser.call("Browser.getVersion")["userAgent"]
        self.call("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage=language)
        self.look(width)
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def look(self, width: int = 1280, height: int = 900, *, dark: bool = False, still: bool = False) -> None:
        """Take another width, scheme or wish for less motion."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce" if still else "",
        }
        self.call("Emulation.setEmulatedMedia", features=[{"name": n, "value": v} for n, v in features.items()])

    def run(self, script: str) -> Any:
        """The value of an expression, awaited where it is a promise."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str, timeout: float = 20) -> None:
        """Wait until an expression holds."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.run(f"Boolean({script})"):
                return
            time.sleep(0.01)
        raise AssertionError(f"not in {timeout} s: {script}")

    def press(self, key: str, *, shift: bool = False, control: bool = False) -> None:
        """Press a key and let it go."""
        code = KEYS.get(key, ord(key[0].upper()))
        common = {
            "key": key, "code": {" ": "Space"}.get(key, key), "windowsVirtualKeyCode": code,
            "modifiers": 2 * control + 8 * shift,
        }  # fmt: skip
        text = {"Enter": "\r", " ": " "}.get(key, "" if key in KEYS else key)
        self.call("Input.dispatchKeyEvent", type="keyDown", text="" if control else text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        """Put a text in where the focus is."""
        self.call("Input.insertText", text=text)

    def text(self, selector: str) -> str:
        """What a reader sees of an element; "" of one that is hidden."""
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def shown(self, selector: str) -> bool:
        return self.run(f"document.querySelector({json.dumps(selector)}).checkVisibility()")

    def focus(self) -> str:
        """Id of the element with the focus, else its class or name."""
        return self.run("(e => e.id || e.className || e.localName)(document.activeElement)")

    def picture(self, path: Path, *, whole: bool = True) -> None:
        content = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(content))

    def pdf(self) -> bytes:
        return base64.b64decode(self.call("Page.printToPDF")["data"])

    def violations(self) -> list[str]:
        """What axe-core finds wrong, of the levels A and AA and of good practice."""
        if not self.run("'axe' in window"):
            self.run(AXE.read_text("utf-8") + "; 0")
        found = self.run(f"axe.run(document, {{runOnly: {json.dumps(LEVELS)}}})")
        assert len(found["passes"]) > 15
        return [f"{each['id']}: {each['nodes'][0]['html'][:160]}" for each in found["violations"]]

    def complaints(self) -> list[str]:
        """Exceptions of the page, and what its policy refused."""
        self.run("0")
        found = []
        for event in self._browser.events:
            if event["method"] == "Runtime.exceptionThrown":
                found.append(event["params"]["exceptionDetails"]["exception"].get("description", "?"))
            elif event["method"] == "Log.entryAdded" and event["params"]["entry"]["source"] in (
                "security",
                "javascript",
            ):
                found.append(event["params"]["entry"]["text"])
        return found

    def asked(self) -> list[str]:
        """Addresses that the page asked for."""
        self.run("0")
        sent = [event for event in self._browser.events if event["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def close(self) -> None:
        self._browser.call("Target.disposeBrowserContext", browserContextId=self._context)
