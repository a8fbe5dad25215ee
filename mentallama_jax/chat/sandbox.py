"""Keeps one program for each chat template and asks it to render; what takes too long is ended."""

import json
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from mentallama_jax.chat import worker
from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown

_SECONDS = 5.0
_SECONDS_TO_START = 60.0
_LONGEST_TEMPLATE = 1 << 18


class Sandbox:
    """A template in a program of its own, started at the first use."""

    def __init__(self, template: str) -> None:
        self._template = template
        self._process: subprocess.Popen[bytes] | None = None
        self._end: Callable[[], object] | None = None
        self._lock = threading.Lock()
        self._rest = b""

    def render(self, messages: Sequence[Mapping[str, str]], names: Mapping[str, str], *, prompt: bool) -> str:
        """The text of a conversation.

        Args:
            messages: `role` and `content` of each.
            names: spellings of special tokens, such as `bos_token`.
            prompt: whether the assistant is to answer next.

        Raises:
            UserError: the template is no template, refuses the conversation, or needs too much time or memory.
        """
        question = {"messages": [dict(m) for m in messages], "add_generation_prompt": prompt, **names}
        with self._lock:
            if self._process is None:
                self._start()
            reply = self._ask(question)
        if "error" in reply:
            raise UserError(f"the chat template cannot render a conversation ({shown(reply['error'], 160)})")
        return str(reply["text"])

    def close(self) -> None:
        """End the program."""
        end, self._end, self._process, self._rest = self._end, None, None, b""
        if end is not None:
            end()

    def _start(self) -> None:
        if len(self._template) > _LONGEST_TEMPLATE:
            raise UserError(f"the chat template has {len(self._template):,} characters, which is too long")
        self._process = subprocess.Popen(
            [sys.executable, "-P", worker.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the program that asks
        )
        # Also when nobody holds this any more, before Python finds the pipes open, and at the end of this process.
        self._end = weakref.finalize(self, _end, self._process)
        assert self._process.stdout is not None
        if not self._line(self._process.stdout, _SECONDS_TO_START):
            self.close()
            raise UserError(
                "chat templates cannot be rendered: the program for it does not start; is jinja2 installed?"
            )
        reply = self._ask(self._template)
        if "error" in reply:
            self.close()
            raise UserError(f"the chat template cannot be read ({shown(reply['error'], 160)})")

    def _ask(self, question: Any) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
            line = self._line(process.stdout, _SECONDS)
        except BrokenPipeError:
            line = b""
        except BaseException:
            self.close()
            raise
        if line:
            value: dict[str, Any] = json.loads(line)
            return value
        self.close()
        return {"error": f"it does not end within {_SECONDS:.0f} s or needs more than 1 GB of memory"}

    def _line(self, stream: Any, seconds: float) -> bytes:
        """The next line of the program; empty where it ended or took too long."""
        until = time.monotonic() + seconds
        while b"\n" not in self._rest:
            ready, _, _ = select.select([stream], [], [], max(0.0, until - time.monotonic()))
            part = stream.read1(1 << 16) if ready else b""
            if not part:
                return b""
            self._rest += part
        line, self._rest = self._rest.split(b"\n", 1)
        return line


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()


@lru_cache(maxsize=8)
def sandbox(template: str) -> Sandbox:
    """The sandbox of a template; its program ends when nobody uses the template any more, or with this process."""
    return Sandbox(template)
