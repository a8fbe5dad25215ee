"""The answers to one client's request while the engine writes them, within the limit of time."""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Any

from mentallama_jax.generation.requests import Event, Request
from mentallama_jax.serving.api_errors import ApiError
from mentallama_jax.serving.service import Service


class RunningAnswers:
    """Events of requests; when the iteration ends, however it ends, nothing of them is left in the engine.

    Attributes:
        new_tokens: that were written.
    """

    def __init__(self, service: Service, started: float) -> None:
        """Begin nothing yet.

        Args:
            service: see `Service`.
            started: when the client asked, by the clock of the event loop.
        """
        self._service, self._started = service, started
        self._deadline = started + service.limits.seconds
        self.new_tokens = 0

    async def in_time(self, work: Awaitable[Any]) -> Any:
        """The result of work that comes before the first token.

        Raises:
            ApiError: 504 where time is up before.
        """
        try:
            async with asyncio.timeout_at(self._deadline):
                return await work
        except TimeoutError:
            self._time_is_up()

    async def events(self, requests: Sequence[Request]) -> AsyncGenerator[tuple[int, Event], None]:
        """(place of the request, what is new of it), until all are complete or time is up.

        Args:
            requests: to be answered; there must be room for them.

        Raises:
            ApiError: 504 where time is up before the first token, 500 where the model failed.
        """
        service, loop = self._service, asyncio.get_running_loop()
        service.figures.add(prompt_tokens=sum(len(request.tokens) for request in requests))
        ticket = service.engine.submit(requests)
        left = sum(request.samples for request in requests)
        begun: dict[tuple[int, int], tuple[float, int]] = {}
        try:
            while left:
                try:
                    async with asyncio.timeout_at(self._deadline):
                        place, event = await ticket.news.get()
                except TimeoutError:
                    self._time_is_up()
                    return
                if isinstance(event, ApiError):
                    raise event
                self._note(event)
                now, row = loop.time(), (place, event.sample)
                first, before = begun.setdefault(row, (now, len(event.tokens)))
                if event.answer is not None:
                    left -= 1
                    more = len(event.answer.tokens) - before
                    if more > 0 and now > first:
                        service.figures.speed.observe(more / (now - first))
                yield place, event
        finally:
            service.engine.release(ticket)

    def _note(self, event: Event) -> None:
        if not self.new_tokens:
            self._service.figures.first_token.observe(asyncio.get_running_loop().time() - self._started)
        self.new_tokens += len(event.tokens)
        self._service.figures.add(new_tokens=len(event.tokens))
        if not all(map(math.isfinite, event.log_probabilities)):
            raise ApiError(
                500,
                "the model's log-probabilities are not finite; its weights are damaged, or too large for the server's "
                "--dtype",
            )

    def _time_is_up(self) -> None:
        self._service.figures.add(timed_out=1)
        if not self.new_tokens:
            seconds = self._service.limits.seconds
            raise ApiError(504, f"no answer was begun within {seconds:g} seconds; ask again later", code="timeout")
