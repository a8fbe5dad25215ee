"""The one thread that computes: requests join and leave its running batch by way of a queue.

The event loop submits and cancels; the thread tells what is new by `call_soon_threadsafe`. Nothing else is shared.
Label scores are computed between two loops of steps.
"""

import asyncio
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Literal

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import one_line
from mentallama_jax.generation.decoding import Decoding
from mentallama_jax.generation.requests import Event, Request
from mentallama_jax.serving.api_errors import ApiError, busy, not_now, refuse

EngineState = Literal["starting", "ready", "failed"]

STEPS_BETWEEN_VISITS = 8
"""Tokens of each slot between two looks at who came or left."""
_FAILURES = 3
"""Failures in a row, of steps or of scores, after which the server says that it is no longer well."""
_SECONDS_TO_RETRY = 2
_BATCH_FAILED = "the model failed over this batch of requests; the server's log says where"
_FAILED = "the model has failed; the server must be started anew"

News = tuple[int, Event | ApiError]
"""What the place of a request among those of its ticket is, and what is new of it."""


class Ticket:
    """Requests that one client waits for. Its `news` is read on the event loop."""

    def __init__(self, requests: Sequence[Request], loop: asyncio.AbstractEventLoop) -> None:
        self.requests, self._loop = tuple(requests), loop
        self.news: asyncio.Queue[News] = asyncio.Queue()
        self.is_released = False

    def tell(self, news: Sequence[News]) -> None:
        """Hand news over to the event loop, from the thread."""
        try:
            self._loop.call_soon_threadsafe(self._put, news)
        except RuntimeError:  # the loop is closed
            self.is_released = True

    def _put(self, news: Sequence[News]) -> None:
        for one in news:
            self.news.put_nowait(one)


@dataclass(frozen=True, slots=True)
class _Scoring:
    """Something to be scored, and where the scores go."""

    asked: Any
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"

    def tell(self, result: Any) -> None:
        def settle() -> None:
            if self.future.done():
                return
            if isinstance(result, ApiError):
                self.future.set_exception(result)
            else:
                self.future.set_result(result)

        try:
            self.loop.call_soon_threadsafe(settle)
        except RuntimeError:
            return


_Order = tuple[Literal["take", "drop"], Ticket] | _Scoring


@dataclass(frozen=True, slots=True)
class EngineWork:
    """What the thread calls; all of it runs on the thread.

    Attributes:
        decoding: makes the slots.
        context: in which the model computes.
        warm_up: compiles what usual requests need, in steps.
        score: finds what `EngineThread.scores` returns.
    """

    decoding: Callable[[], Decoding]
    context: Callable[[], AbstractContextManager[Any]]
    warm_up: Callable[[Decoding], Iterator[None]]
    score: Callable[[Any], Any]


class EngineThread:
    """Owns the engine. `room`, `submit`, `release` and `scores` are for the event loop.

    Attributes:
        work: what it calls.
        slots: answers that are written at once.
        rows: answers that are written or wait.
        state: whether it computes.
    """

    def __init__(self, work: EngineWork, slots: int, queue: int) -> None:
        """Make a thread that does not run yet.

        Args:
            work: see `EngineWork`.
            slots: answers that are written at once.
            queue: answers that may wait for a slot.
        """
        self.work, self.slots, self._queue = work, slots, queue
        self._orders: SimpleQueue[_Order | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._decoding: Decoding | None = None
        self._tickets: dict[int, tuple[Ticket, int]] = {}
        self._scorings: deque[_Scoring] = deque()
        self._failed_steps = self._failed_scores = 0
        self._ended = self._has_new = False
        self.rows = 0
        self.state: EngineState = "starting"

    def start(self) -> None:
        """Begin to warm up."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._ended = True
        self._orders.put(None)
        if self._thread.is_alive():
            self._thread.join()

    # On the event loop

    @contextmanager
    def room(self, rows: int) -> Iterator[None]:
        """Take up room for answers while the block runs; what is submitted inside belongs to it.

        Raises:
            ApiError: 429 where too many wait already, 400 where there would be too many in any case, 503 where the
                engine does not run.
        """
        if self.state == "failed":
            raise not_now(_FAILED, "engine_failed", 60)
        if self.state == "starting":
            raise not_now("the model is being made ready; ask again soon", "starting")
        most = self.slots + self._queue
        if rows > most:
            refuse(f"{rows} answers are more than this server takes at once, which is {most}", code="too_many_answers")
        if self.rows + rows > most:
            raise busy("too many requests wait already; ask again later", _SECONDS_TO_RETRY)
        self.rows += rows
        try:
            yield
        finally:
            self.rows -= rows

    def submit(self, requests: Sequence[Request]) -> Ticket:
        """Queue the requests of a client; `release` the ticket in the end."""
        ticket = Ticket(requests, asyncio.get_running_loop())
        self._orders.put(("take", ticket))
        return ticket

    def release(self, ticket: Ticket) -> None:
        """Forget a ticket; what is not complete yet is cancelled."""
        ticket.is_released = True
        self._orders.put(("drop", ticket))

    async def scores(self, asked: Any) -> Any:
        """What `EngineWork.score` finds for one thing.

        Raises:
            ApiError: it failed.
        """
        loop = asyncio.get_running_loop()
        scoring = _Scoring(asked, loop, loop.create_future())
        self._orders.put(scoring)
        return await scoring.future

    # On the thread

    def _run(self) -> None:
        try:
            with self.work.context():
                self._decoding = self.work.decoding()
                for _ in self.work.warm_up(self._decoding):
                    if self._ended:
                        return
                self.state = "ready"
                while self._take_orders():
                    self._advance()
        except BaseException as error:  # a panic of a library in Rust is no Exception; nobody else hears of it here
            self._report(error)
            self._give_up()

    def _take_orders(self) -> bool:
        """Do what was ordered since the last look; wait where there is nothing else to do. False at the end."""
        assert self._decoding is not None
        wait = self._decoding.is_idle and not self._scorings
        while wait or not self._orders.empty():
            order = self._orders.get()
            wait = False
            match order:
                case None:
                    return False
                case _Scoring():
                    self._scorings.append(order)
                case ("take", ticket):
                    self._take(ticket)
                case (_, ticket):
                    self._drop(ticket)
        return True

    def _take(self, ticket: Ticket) -> None:
        assert self._decoding is not None
        if not ticket.is_released:
            self._has_new = True
            for place, request in enumerate(ticket.requests):
                self._tickets[self._decoding.submit(request)] = (ticket, place)

    def _drop(self, ticket: Ticket) -> None:
        assert self._decoding is not None
        for number in [number for number, (owner, _) in self._tickets.items() if owner is ticket]:
            self._decoding.cancel(number)
            del self._tickets[number]

    def _advance(self) -> None:
        self._score()
        try:
            self._step()
        except BaseException as error:  # as above
            self._report(error)
            self._failed_steps += 1
            self._fail_all()
            if self._failed_steps >= _FAILURES:
                raise
            self._decoding = self.work.decoding()

    def _score(self) -> None:
        """Score what has waited longest; the others wait for another visit, so that answers go on meanwhile.

        Its failures in a row are counted apart from those of steps: that one works says nothing of the other.
        """
        while self._scorings:
            scoring = self._scorings.popleft()
            if scoring.future.done():  # its client has left
                continue
            try:
                scoring.tell(self.work.score(scoring.asked))
                self._failed_scores = 0
            except UserError as error:  # the weights are damaged; it says so
                scoring.tell(ApiError(500, one_line(error)))
            except BaseException as error:  # as above
                self._report(error)
                scoring.tell(ApiError(500, _BATCH_FAILED))
                self._failed_scores += 1
                if self._failed_scores >= _FAILURES:
                    raise
            return

    def _step(self) -> None:
        assert self._decoding is not None
        news: dict[Ticket, list[News]] = {}
        steps, self._has_new = 1 if self._has_new else STEPS_BETWEEN_VISITS, False  # the first token comes soon
        for event in self._decoding.step(steps):
            ticket, place = self._tickets[event.request]
            news.setdefault(ticket, []).append((place, event))
            self._failed_steps = 0
        for ticket, one in news.items():
            ticket.tell(one)

    def _fail_all(self) -> None:
        failed = ApiError(500, _BATCH_FAILED)
        for ticket in {id(ticket): ticket for ticket, _ in self._tickets.values()}.values():
            ticket.tell([(0, failed)])
        for one in self._scorings:
            one.tell(failed)
        self._tickets = {}
        self._scorings.clear()

    def _give_up(self) -> None:
        """Answer every order with a failure until the end."""
        self.state = "failed"
        self._fail_all()
        failed = not_now(_FAILED, "engine_failed", 60)
        while (order := self._orders.get()) is not None:
            match order:
                case _Scoring():
                    order.tell(failed)
                case ("take", ticket):
                    ticket.tell([(0, failed)])

    def _report(self, error: BaseException) -> None:
        """Say on standard error what failed and where; an exception's own words may quote a prompt."""
        print(f"error: the engine failed: {where_failed(error)}", file=sys.stderr, flush=True)


def where_failed(error: BaseException) -> str:
    """The type of an exception, and the places in files that it passed, without its words."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__} at {places}"
