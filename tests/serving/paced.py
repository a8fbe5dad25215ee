"""An engine that writes only when it is let, for the tests of what surrounds it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

from live_server import LiveServer, live
from toy_answerer import TOKENIZER

from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer, load_tokenizer
from mentallama_jax.generation.requests import Answer, Event, Request, TokenMask
from mentallama_jax.serving.engine_thread import EngineThread, EngineWork
from mentallama_jax.serving.grammars import Grammars
from mentallama_jax.serving.service import ServedModel, ServeLimits, Service

ENGINE_FAULT = "the engine's own words, which may quote a prompt"


class PacedDecoding:
    """In the place of `Decoding`: a token for each row at each step, while it is let.

    Attributes:
        going: whether steps write.
        faults: how many of the next steps fail.
        log: log-probability of each token.
        rows: (request, sample) -> tokens so far.
        masks: of those that have one; they are asked and told of each token, and change none.
        cancelled: requests that were.
    """

    def __init__(self) -> None:
        self.going = threading.Event()
        self.going.set()
        self.faults = 0
        self.log = -1.0
        self.rows: dict[tuple[int, int], list[int]] = {}
        self.masks: dict[tuple[int, int], TokenMask] = {}
        self.requests: list[Request] = []
        self.cancelled: list[int] = []

    @property
    def is_idle(self) -> bool:
        return not self.rows

    def submit(self, request: Request) -> int:
        self.requests.append(request)
        number = len(self.requests) - 1
        self.rows |= {(number, sample): [] for sample in range(request.samples)}
        if request.masks is not None:
            self.masks |= {(number, sample): request.masks() for sample in range(request.samples)}
        return number

    def cancel(self, number: int) -> None:
        if any(owner == number for owner, _ in self.rows):
            self.cancelled.append(number)
        self.rows = {row: tokens for row, tokens in self.rows.items() if row[0] != number}

    def step(self, at_most: int) -> list[Event]:
        time.sleep(0.001)
        if self.faults and self.rows:
            self.faults -= 1
            raise RuntimeError(ENGINE_FAULT)
        if not self.going.is_set():
            return []
        return [self._write(*row) for row in list(self.rows)]

    def _write(self, number: int, sample: int) -> Event:
        tokens = self.rows[number, sample]
        mask = self.masks.get((number, sample))
        if mask is not None:
            mask.allowed()
        tokens.append(300 + len(tokens))
        if mask is not None:
            mask.take(tokens[-1])
        answer = None
        if len(tokens) == self.requests[number].settings.max_new_tokens:
            answer = Answer(tuple(tokens), (self.log,) * len(tokens), False)
            del self.rows[number, sample]
        return Event(number, sample, (tokens[-1],), (self.log,), answer)


class NoAnalyser:
    """In the place of the analysis, which these tests do not ask for."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


@cache
def _tokenizer() -> Tokenizer:
    return load_tokenizer(TOKENIZER)


def paced_service(decoding: PacedDecoding, key: str = "", **limits: Any) -> Service:
    tokenizer = _tokenizer()
    limited = ServeLimits(**({"slots": 2, "queue": 1, "max_new_tokens": 8, "body_bytes": 4000} | limits))

    def emptied() -> PacedDecoding:
        decoding.rows = {}
        return decoding

    work = EngineWork(emptied, nullcontext, lambda _: iter(()), lambda _: None)  # type: ignore[arg-type, return-value]
    model = ServedModel("paced", "fp", 0, 1024, "plain", " ", (2,), tokenizer)
    engine = EngineThread(work, limited.slots, limited.queue)
    return Service(model, limited, engine, Grammars(tokenizer, 1024, (2,)), NoAnalyser(), key)  # type: ignore[arg-type]


@contextmanager
def paced(key: str = "", names: tuple[str, ...] = (), **limits: Any) -> Iterator[tuple[LiveServer, PacedDecoding]]:
    """A server and its engine."""
    decoding = PacedDecoding()
    with live(paced_service(decoding, key, **limits), names) as server:
        yield server, decoding
