"""Answers that were paid for are kept: a journal of attempts and answers that only grows, and survives `kill -9`.

Each line is a JSON object. `{"attempt": n, "of": KEY, "most": dollars}` is written before a request is sent,
`{"over": n, "perhaps": dollars}` when it failed, and `{"over": n, "key": KEY, "text": ...}` when its answer is there;
an answer is on disk (fsync) before it counts. A last line that was cut off is removed. An attempt that is not over
when the file is opened belongs to a program that was killed: it may have to be paid, and counts as such.

KEY is a digest of address, model, messages and settings. The file holds answers, which may quote posts; it holds no
posts, no prompts and no key of an endpoint.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from mentallama_jax.baselines.endpoints.spending import Spending
from mentallama_jax.errors import UserError
from mentallama_jax.files import lock_file, regular_file
from mentallama_jax.foreign import parse_json

_FIRST = {"form": "mentallama answers 1"}
_TEXTS, _COUNTS = ("text", "finish", "model"), ("prompt_tokens", "answer_tokens")

TokenChoice = tuple[str, float, Mapping[str, float]]
"""A token of an answer, its log-probability, and those of its alternatives (nats)."""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer of an endpoint.

    Attributes:
        text: whole; may be empty.
        finish: why it ended, as the endpoint says: "stop", "length", "content_filter" or another word.
        model: as the endpoint names it.
        prompt_tokens: as the endpoint counts them; 0 where it does not.
        answer_tokens: likewise.
        tokens: its first tokens with their alternatives; None where the endpoint gives none.
    """

    text: str
    finish: str
    model: str
    prompt_tokens: int = 0
    answer_tokens: int = 0
    tokens: Sequence[TokenChoice] | None = None


class AnswerJournal:
    """The open file. `answers` holds what is kept, by key; `spending` what all of it cost.

    Use `open_journal` to make one.
    """

    def __init__(self, path: Path, stream: FileIO, spending: Spending) -> None:
        self.path, self.spending = path, spending
        self.answers: dict[str, KeptAnswer] = {}
        self._stream = stream
        self._next = 0

    def begin(self, key: str, bound: float) -> int:
        """Note that a request is about to be sent for at most `bound` dollars; return the number of the attempt."""
        number, self._next = self._next, self._next + 1
        self._append({"attempt": number, "of": key, "most": bound})
        return number

    def fail(self, number: int, bound: float, *, perhaps: float) -> None:
        """Note that an attempt is over without an answer, and what it may cost all the same."""
        self._append({"over": number, "perhaps": perhaps})
        self.spending.settle(bound, perhaps=perhaps)

    def keep(self, number: int, bound: float, key: str, answer: KeptAnswer, cost: float) -> None:
        """Put an answer on disk; it counts from here on."""
        self._append({"over": number, "key": key, "cost": cost, **asdict(answer)}, sync=True)
        self.answers[key] = answer
        self.spending.settle(bound, paid=cost)

    def _append(self, row: Mapping[str, Any], *, sync: bool = False) -> None:
        # One write for a line: a program that is killed leaves all of it or a cut last line.
        rest = memoryview((json.dumps(row, ensure_ascii=True, allow_nan=False) + "\n").encode())
        try:
            while rest:
                rest = rest[self._stream.write(rest) :]
            if sync:
                os.fsync(self._stream.fileno())
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror}); the same command goes on") from None

    def read(self, content: bytes) -> None:
        """Take in the whole lines that the file holds; begin it where there are none."""
        open_attempts: dict[int, float] = {}
        lines = content.splitlines()
        for number, line in enumerate(lines[1:], start=2):
            self._take(line, f"{self.path}, line {number}", open_attempts)
        self.spending.perhaps += sum(open_attempts.values())
        if not lines:
            self._append(_FIRST, sync=True)

    def _take(self, line: bytes, place: str, open_attempts: dict[int, float]) -> None:
        row = parse_json(line, place, may_hold_posts=True, allow_surrogates=True)
        damaged = UserError(f"{place}: is damaged; remove the line, and what it held is asked again")
        if not isinstance(row, dict):
            raise damaged
        try:
            if "attempt" in row:
                open_attempts[int(row["attempt"])] = float(row["most"])
                self._next = max(self._next, int(row["attempt"]) + 1)
                return
            open_attempts.pop(int(row["over"]), None)
            if "key" not in row:
                self.spending.perhaps += float(row["perhaps"])
                return
            self.answers[str(row["key"])] = _answer(row)
            self.spending.paid += float(row["cost"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise damaged from None


@contextmanager
def open_journal(path: Path, limit: float | None) -> Iterator[AnswerJournal]:
    """Open a journal, or begin one; no other process may hold it.

    Args:
        path: of the file.
        limit: dollars that all its attempts together may cost; None for no limit.

    Raises:
        UserError: it is no such file, is damaged, cannot be written, or another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        regular_file(path)
    # Answers may quote posts: nobody else is to read them.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with FileIO(descriptor, "r+b") as stream:
        try:
            lock_file(stream)
        except BlockingIOError:
            raise UserError(f"{path}: another process is writing it; wait for it, or name another file") from None
        content = stream.readall() or b""
        _require_journal(path, content)
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            stream.truncate(whole)
        journal = AnswerJournal(path, stream, Spending(limit))
        journal.read(content[:whole])
        yield journal


def _require_journal(path: Path, content: bytes) -> None:
    """Refuse a file of something else before a byte of it is changed; the first line may be cut off.

    Raises:
        UserError: the file begins otherwise than a journal.
    """
    first = json.dumps(_FIRST).encode() + b"\n"
    if not content.startswith(first) and not first.startswith(content):
        raise UserError(f"{path}: is no file of kept answers; name another one")


def _answer(row: Mapping[str, Any]) -> KeptAnswer:
    texts = {name: row[name] for name in _TEXTS}
    counts = {name: row[name] for name in _COUNTS}
    if not all(isinstance(text, str) for text in texts.values()) or not all(type(n) is int for n in counts.values()):
        raise ValueError
    tokens = row["tokens"]
    if tokens is not None:
        tokens = tuple((str(text), float(log), {str(t): float(p) for t, p in top.items()}) for text, log, top in tokens)
    return KeptAnswer(**texts, **counts, tokens=tokens)
