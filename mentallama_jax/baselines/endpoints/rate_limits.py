"""Limits of how fast an endpoint is asked: requests and tokens a minute, and the pauses that it asks for.

In any 60 s at most as many pass as the limit says: what may pass at once (one request; the largest request in tokens)
and what flows in 60 s together are the limit.
"""

import asyncio
import time
from typing import Any

from mentallama_jax.errors import UserError


class RateLimits:
    """Waits; made inside the event loop that waits."""

    def __init__(self, requests: int | None, tokens: int | None, largest: int) -> None:
        """Set the limits.

        Args:
            requests: a minute; None for no limit.
            tokens: of questions and longest answers, a minute; None for no limit.
            largest: tokens of the largest request.

        Raises:
            UserError: a limit below 1, or one that the largest request alone passes.
        """
        self._requests = self._tokens = None
        if requests is not None:
            if requests < 1:
                raise UserError(f"--requests-per-minute {requests}: give a number from 1")
            self._requests = _limiter(1, max(requests - 1, 1 if requests == 1 else 0))
        if tokens is not None:
            if tokens <= largest:
                raise UserError(f"--tokens-per-minute {tokens}: one request has up to {largest} tokens; give more")
            self._tokens = _limiter(largest, tokens - largest)
        self._not_before = 0.0

    def pause(self, seconds: float) -> None:
        """Let nothing pass for some seconds: an endpoint said so to one request, and means all."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)

    async def wait(self, tokens: int) -> None:
        """Return when a request of so many tokens may be sent."""
        if self._requests is not None:
            await self._requests.acquire()
        if self._tokens is not None:
            await self._tokens.acquire(tokens)
        while (left := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(left)


def _limiter(at_once: int, a_minute: int) -> Any:
    from aiolimiter import AsyncLimiter

    return AsyncLimiter(at_once, 60 * at_once / a_minute)
