"""The client of an endpoint: the `openai` package with a gate before every attempt, retries of its own included.

The package retries what may pass (429, 408, 409, 5xx, cut connections, time that ran out), waits as `Retry-After` says
(up to two minutes) or longer each time, and calls `_prepare_request` before each attempt. There the gate waits for the
limits of rate and the pause that another request was told, reserves the cost, and notes the attempt in the journal.
Answers that cannot be read (no JSON, no choices) are not the package's business; `ask` asks again after them.

Nothing that a server says is shown beside status codes: it may repeat a post or a key. Redirects are not followed,
as they could lead posts elsewhere; a loopback address is never reached by way of a proxy.
"""

import asyncio
import logging
import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from mentallama_jax.baselines.endpoints.chat_requests import LEFT_OUT, ChatRequest
from mentallama_jax.baselines.endpoints.endpoint import ApiKey, Endpoint
from mentallama_jax.baselines.endpoints.kept_answers import AnswerJournal, KeptAnswer, TokenChoice
from mentallama_jax.baselines.endpoints.rate_limits import RateLimits
from mentallama_jax.baselines.endpoints.spending import Prices
from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown_cell

_FATAL = {401: "refuses the key", 403: "refuses access", 404: "has no such address or model"}
_WORD = re.compile(r"[a-z][a-z_]{0,39}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_WITHOUT_TEXT = frozenset({"content_filter", "length"})
"""Ends of answers that may have no text."""
_KEPT_TOKENS = 32
"""First tokens of an answer whose alternatives are kept: the label stands there, or nowhere that can be used."""
_LONGEST_PAUSE = 120.0
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 8.0


class LimitReachedError(UserError):
    """The next attempt could pass the limit of cost."""


class NoAnswerError(Exception):
    """A request got no answer after all retries; the reason holds nothing that a server said."""


class UnreadableAnswerError(NoAnswerError):
    """An answer came, and it is none."""


@dataclass(slots=True)
class _Call:
    """One request and its attempt that is under way."""

    request: ChatRequest
    bound: float
    number: int | None = None
    status: int | None = None
    never_sent: bool = False


_CALL: ContextVar[_Call] = ContextVar("call")


class EndpointClient:
    """Asks an endpoint, in one event loop."""

    def __init__(
        self,
        endpoint: Endpoint,
        key: ApiKey,
        journal: AnswerJournal,
        *,
        prices: Prices,
        limits: RateLimits,
        retries: int,
        timeout: float,
    ) -> None:
        """Make the client; see `asking.Pace` for the arguments."""
        openai = import_openai()
        self._openai, self._endpoint, self._journal = openai, endpoint, journal
        self._prices, self._limits, self._retries = prices, limits, retries
        self._settled = asyncio.Event()
        gate = self._gate

        class Gated(openai.AsyncOpenAI):  # type: ignore[name-defined]
            async def _prepare_request(self, request: Any) -> None:
                await super()._prepare_request(request)
                await gate(request)

        http = openai.DefaultAsyncHttpxClient(
            follow_redirects=False,
            trust_env=not endpoint.loopback,
            timeout=timeout,
            event_hooks={"response": [self._note_status]},
        )
        self._client = Gated(
            api_key=key.reveal(),
            base_url=endpoint.url,
            timeout=timeout,
            max_retries=retries,
            http_client=http,
        )
        # From the environment these would go to whatever endpoint is asked.
        self._client.organization = self._client.project = self._client.admin_api_key = None

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()

    async def ask(self, request: ChatRequest) -> KeptAnswer:
        """The answer to a request, which is on disk when this returns.

        Raises:
            NoAnswerError: none after all retries.
            UserError: what no retry mends, such as a refused key; or `LimitReachedError`.
        """
        bound = self._prices.cost(request.prompt_bound, request.answer_bound)
        call = _Call(request, bound)
        _CALL.set(call)
        for left in range(self._retries, -1, -1):
            try:
                answer = await self._once(request)
            except UnreadableAnswerError:
                self._over(call, perhaps=bound)
                if not left:
                    raise
                await asyncio.sleep(min(_FIRST_WAIT * 2 ** (self._retries - left), _LONGEST_WAIT))
                continue
            except NoAnswerError:
                self._over(call, perhaps=0.0 if call.never_sent else bound)
                raise
            except BaseException:
                self._over(call, perhaps=bound)
                raise
            assert call.number is not None
            number, call.number = call.number, None
            cost = self._prices.cost(answer.prompt_tokens, answer.answer_tokens) if answer.prompt_tokens else bound
            if call.status is not None and call.status >= 300:
                cost = 0.0  # a filter withheld it
            self._journal.keep(number, bound, request.key, answer, cost)
            self._settled.set()
            return answer
        raise AssertionError("the last attempt returns or raises")

    async def _once(self, request: ChatRequest) -> KeptAnswer:
        """One call of the package, with its retries.

        Raises:
            NoAnswerError: no answer, or one that cannot be read.
            UserError: what no retry mends.
        """
        openai = self._openai
        try:
            raw = await self._client.chat.completions.with_raw_response.create(
                **request.body, extra_headers={"Idempotency-Key": request.key}
            )
            content = raw.http_response.json()
        except openai.APIStatusError as error:
            filtered = self._explained(error, request)
            if filtered is None:
                raise NoAnswerError(f"HTTP status {error.status_code}") from None
            return filtered
        except openai.APITimeoutError:
            raise NoAnswerError("no answer in time (--timeout)") from None
        except openai.APIConnectionError as error:
            cause = type(error.__cause__).__name__
            raise NoAnswerError(f"the connection failed ({cause if cause.isidentifier() else 'unknown'})") from None
        except (openai.OpenAIError, ValueError, RecursionError):
            raise UnreadableAnswerError("an answer that is no JSON") from None
        except UserError:
            raise
        except Exception as error:  # whatever it says may hold a post
            raise NoAnswerError(f"the client failed ({type(error).__name__})") from None
        answer = read_answer(content)
        if answer is None:
            raise UnreadableAnswerError("an answer without choices or text")
        return answer

    def _explained(self, error: Any, request: ChatRequest) -> KeptAnswer | None:
        """What an HTTP status means: an answer that a filter withheld, or None for what may pass.

        Raises:
            UserError: what no retry mends.
        """
        status, host = error.status_code, self._endpoint.host
        code, parameter = (_word(getattr(error, name, None)) for name in ("code", "param"))
        if code in ("content_filter", "content_policy_violation"):
            return KeptAnswer("", "content_filter", request.body["model"])
        if code == "insufficient_quota":
            raise UserError(f"{host}: the account has no credit left (insufficient_quota)")
        if status in _FATAL:
            raise UserError(f"{host} {_FATAL[status]} (HTTP status {status})")
        if 300 <= status < 400:
            raise UserError(f"{host} sends requests on to another address, which is not followed; give that address")
        if status in (408, 409, 429) or status >= 500:
            return None
        if parameter in LEFT_OUT or parameter == "top_logprobs":
            name = "logprobs" if parameter == "top_logprobs" else parameter
            raise UserError(f"{host} does not take {parameter}; leave it out with --leave-out {name}")
        what = f" ({code})" if code else ""
        raise UserError(f"row {shown_cell(request.name)}: {host} refuses the request with HTTP status {status}{what}")

    async def _gate(self, request: Any) -> None:
        """Let an attempt pass when rate and cost allow it.

        Raises:
            LimitReachedError: nothing is under way, and the next attempt could pass the limit of cost.
        """
        call = _CALL.get()
        if call.number is not None:  # the package retries
            free = call.never_sent or (call.status is not None and call.status >= 300)
            self._over(call, perhaps=0.0 if free else call.bound)
        await self._limits.wait(call.request.prompt_bound + call.request.answer_bound)
        spending = self._journal.spending
        while not spending.reserve(call.bound):
            if not spending.under_way:
                raise LimitReachedError(
                    f"--max-cost {spending.limit:g}: the next request may cost {call.bound:.4g} dollars and "
                    f"{spending.most:.4g} are or may be spent"
                )
            self._settled.clear()
            await self._settled.wait()
        call.status, call.never_sent = None, False
        call.number = self._journal.begin(call.request.key, call.bound)
        request.extensions = {**request.extensions, "trace": _tracer(call)}

    def _over(self, call: _Call, *, perhaps: float) -> None:
        """Settle an attempt that brought no answer; one that was refused with a status costs nothing."""
        if call.number is None:
            return
        if call.status is not None and call.status >= 300:
            perhaps = 0.0
        self._journal.fail(call.number, call.bound, perhaps=perhaps)
        call.number = None
        self._settled.set()

    async def _note_status(self, response: Any) -> None:
        call = _CALL.get()
        call.status = response.status_code
        if response.status_code == 429:
            self._limits.pause(_seconds(response.headers))


def import_openai() -> Any:
    """The package, silenced: in its own logs it may write what requests hold.

    Raises:
        UserError: the extra is not installed.
    """
    try:
        import aiolimiter  # noqa: F401
        import openai
    except ImportError:
        raise UserError("endpoints need the extra baselines: pip install 'mentallama-jax[baselines]'") from None
    for name in ("openai", "httpx2", "httpcore2", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return openai


def read_answer(content: Any) -> KeptAnswer | None:
    """The answer in what an endpoint sent, by the rules of chat completions; None where there is none.

    A refusal that stands in a place of its own is the answer. One without text is an answer where its end says why:
    a filter withheld it, or thinking used up its tokens. Asked again, and billed again, it would be the same.
    """
    try:
        choice = content["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        text, refusal = message.get("content"), message.get("refusal")
    except (KeyError, IndexError, TypeError, AttributeError):
        return None
    if not text and isinstance(refusal, str):
        text = refusal
    if text is None and isinstance(finish, str) and finish in _WITHOUT_TEXT:
        text = ""
    if not isinstance(finish, str) or not isinstance(text, str):
        return None
    usage, model = content.get("usage"), content.get("model")
    return KeptAnswer(
        text=_SURROGATE.sub("\ufffd", text),
        finish=_word(finish) or "unknown",
        model=_SURROGATE.sub("\ufffd", model) if isinstance(model, str) else "",
        prompt_tokens=_count(usage, "prompt_tokens"),
        answer_tokens=_count(usage, "completion_tokens"),
        tokens=_tokens(choice.get("logprobs")),
    )


def _tokens(found: Any) -> tuple[TokenChoice, ...] | None:
    """The first tokens with their alternatives; None where they are not given, or not in the form of OpenAI."""
    try:
        rows = found["content"][:_KEPT_TOKENS]
        tokens = tuple(
            (
                _SURROGATE.sub("\ufffd", row["token"]),
                _log(row["logprob"]),
                {_SURROGATE.sub("\ufffd", other["token"]): _log(other["logprob"]) for other in row["top_logprobs"]},
            )
            for row in rows
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return tokens or None


def _log(value: Any) -> float:
    number = float(value)
    if not -1e6 < number <= 1e-3:  # also refuses NaN
        raise ValueError
    return min(number, 0.0)


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, Mapping) else None
    return value if type(value) is int and 0 <= value < 1 << 40 else 0


def _word(value: object) -> str:
    """A code of a server, where it is a plain word; never anything longer."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else ""


def _seconds(headers: Mapping[str, str]) -> float:
    try:
        milliseconds = headers.get("retry-after-ms")
        seconds = float(milliseconds) / 1000 if milliseconds else float(headers.get("retry-after", "0"))
    except ValueError:
        return 0.0  # a date; the request itself waits for it
    return seconds if 0 <= seconds <= _LONGEST_PAUSE else 0.0


def _tracer(call: _Call) -> Any:
    async def trace(event: str, info: object) -> None:
        if event.startswith("connection.") and event.endswith(".failed"):
            call.never_sent = True

    return trace
