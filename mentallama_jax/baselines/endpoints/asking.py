"""Asks an endpoint many requests at a time, into a journal of answers that survives being stopped."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mentallama_jax.baselines.endpoints.chat_requests import ChatRequest
from mentallama_jax.baselines.endpoints.endpoint import ApiKey, Endpoint
from mentallama_jax.baselines.endpoints.endpoint_client import EndpointClient, NoAnswerError, import_openai
from mentallama_jax.baselines.endpoints.kept_answers import AnswerJournal, KeptAnswer
from mentallama_jax.baselines.endpoints.rate_limits import RateLimits
from mentallama_jax.baselines.endpoints.spending import Prices
from mentallama_jax.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How an endpoint is asked; nothing here changes an answer.

    Attributes:
        concurrency: requests under way at once.
        requests_per_minute: None for no limit.
        tokens_per_minute: of questions and longest answers; None for no limit.
        retries: of each request.
        timeout: seconds for an answer.
        prices: None only for what costs nothing.
    """

    concurrency: int = 16
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    retries: int = 5
    timeout: float = 120.0
    prices: Prices = field(default_factory=lambda: Prices(0.0, 0.0))


@dataclass(slots=True)
class AskingResult:
    """What came of asking.

    Attributes:
        new: answers that were not kept before.
        unanswered: reason -> requests without an answer after all retries.
        stopped: why asking ended before its end; "" where it did not.
    """

    new: int = 0
    unanswered: Counter[str] = field(default_factory=Counter)
    stopped: str = ""


def unasked(requests: Sequence[ChatRequest], journal: AnswerJournal) -> list[ChatRequest]:
    """The requests whose answers are not kept yet; of equal ones the first."""
    return list({request.key: request for request in requests if request.key not in journal.answers}.values())


def ask_all(
    requests: Sequence[ChatRequest],
    endpoint: Endpoint,
    key: ApiKey,
    journal: AnswerJournal,
    pace: Pace,
    on_answer: Callable[[KeptAnswer], None] = lambda answer: None,
) -> AskingResult:
    """Ask what the journal does not hold yet. Equal requests are asked once.

    What stops all (a refused key, the limit of cost, an endpoint that no longer answers) lets the answers that are
    under way arrive first, and is told in `stopped`.

    Raises:
        UserError: the extra is missing, or a limit that is none.
    """
    import_openai()
    if pace.concurrency < 1 or pace.retries < 0 or not 0 < pace.timeout < float("inf"):
        raise UserError("--concurrency is 1 or more, --retries 0 or more, and --timeout more than 0 seconds")
    left = unasked(requests, journal)
    return asyncio.run(_ask(left, endpoint, key, journal, pace, on_answer)) if left else AskingResult()


async def _ask(
    left: Sequence[ChatRequest],
    endpoint: Endpoint,
    key: ApiKey,
    journal: AnswerJournal,
    pace: Pace,
    on_answer: Callable[[KeptAnswer], None],
) -> AskingResult:
    largest = max(request.prompt_bound + request.answer_bound for request in left)
    limits = RateLimits(pace.requests_per_minute, pace.tokens_per_minute, largest)
    client = EndpointClient(
        endpoint,
        key,
        journal,
        prices=pace.prices,
        limits=limits,
        retries=pace.retries,
        timeout=pace.timeout,
    )
    asked, todo = AskingResult(), iter(left)
    failed_in_a_row = 0

    async def worker() -> None:
        nonlocal failed_in_a_row
        for request in todo:
            if asked.stopped:
                return
            try:
                answer = await client.ask(request)
            except NoAnswerError as error:
                asked.unanswered[str(error)] += 1
                failed_in_a_row += 1
                if failed_in_a_row > pace.concurrency:
                    asked.stopped = f"{endpoint.host}: {failed_in_a_row} requests in a row got no answer; last: {error}"
            except UserError as error:
                asked.stopped = asked.stopped or str(error)
            else:
                failed_in_a_row = 0
                asked.new += 1
                on_answer(answer)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(pace.concurrency, len(left))):
                group.create_task(worker())
    finally:
        await client.close()
    return asked
