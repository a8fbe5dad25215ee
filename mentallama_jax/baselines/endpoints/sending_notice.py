"""What is sent where, and what it may cost: said before a request leaves the machine."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.request import getproxies

from mentallama_jax.baselines.endpoints.chat_requests import ChatRequest
from mentallama_jax.baselines.endpoints.endpoint import Endpoint
from mentallama_jax.baselines.endpoints.spending import Prices
from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.imhi.records import Record

RESEARCH_ONLY = (
    "for research only, never to diagnose or to decide about a person. These are posts of people, some in distress; "
    "whether they may be sent to a third party is said by the terms of the platforms and data sets that they come "
    "from, and by your ethics board"
)
_BYTES_A_TOKEN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """What is about to be sent.

    Attributes:
        endpoint: where to.
        model: that is asked.
        records: all rows.
        requests: those that are not answered yet.
        counted: whether a tokenizer counted the tokens; otherwise they are a bound by bytes.
        prices: None where they are not known.
        limit: dollars at most, of all runs that keep their answers in the same file; None for no limit.
        spent: dollars that earlier runs cost or may have cost.
        examples: records that are shown before questions; their posts are sent, too.
    """

    endpoint: Endpoint
    model: str
    records: Sequence[Record]
    requests: Sequence[ChatRequest]
    counted: bool
    prices: Prices | None
    limit: float | None
    spent: float
    examples: int = 0

    def lines(self) -> list[str]:
        """The notice."""
        counts = Counter(record.dataset for record in self.records)
        rows = ", ".join(f"{name} {count}" for name, count in counts.items())
        prompt = sum(request.prompt_bound for request in self.requests)
        answer = sum(request.answer_bound for request in self.requests)
        about = "" if self.counted else f" (a bound by bytes; English has about {prompt // _BYTES_A_TOKEN:,})"
        shown_too = f", and the posts of {self.examples} examples with their explanations" if self.examples else ""
        lines = [
            f"sent to: {self._where()}",
            f"model: {shown(self.model)}",
            f"sent: the posts and questions of {len(self.requests)} requests, for {len(self.records)} rows ({rows})"
            + shown_too,
            f"tokens: at most {prompt:,} in questions{about} and {answer:,} in answers",
            f"cost: {self._cost(prompt, answer)}",
        ]
        return lines if self.endpoint.loopback else [*lines, f"note: {RESEARCH_ONLY}"]

    def require_consent(self, given: bool) -> None:
        """Refuse to send posts away unless the user said so.

        Raises:
            UserError: the endpoint is not on this machine, and `--send-posts` was not given.
        """
        if self.requests and not self.endpoint.loopback and not given:
            raise UserError(
                f"nothing was sent: posts would leave this machine for {self.endpoint.host}; "
                "give --send-posts if they may"
            )

    def require_price(self) -> None:
        """Refuse to ask where nobody said what it costs.

        Raises:
            UserError: the price is unknown, and the endpoint is not on this machine or a limit of cost is given.
        """
        if self.prices is None and (self.limit is not None or not self.endpoint.loopback):
            raise UserError(
                f"the price of {shown(self.model)} is not known: give --price-in and --price-out in dollars for a "
                "million tokens (0 and 0 for a server of your own), or --prices FILE"
            )

    def _where(self) -> str:
        if self.endpoint.loopback:
            return f"{self.endpoint.host} (this machine; what listens there may send it on)"
        way = "https" if self.endpoint.encrypted else "http: NOT encrypted, the key neither"
        proxy = getproxies().get("https" if self.endpoint.encrypted else "http")
        return f"{self.endpoint.host} ({way}{', by way of the proxy of the environment' if proxy else ''})"

    def _cost(self, prompt: int, answer: int) -> str:
        if self.prices is None:
            return "not known" if not self.endpoint.loopback else "none (this machine)"
        text = f"at most ${self.prices.cost(prompt, answer):.4f}"
        text += f" at ${self.prices.prompt:g} and ${self.prices.answer:g} a million tokens of questions and answers"
        if self.spent:
            text += f"; earlier runs cost at most ${self.spent:.4f}"
        return text + (f"; it stops before ${self.limit:g} in all" if self.limit is not None else "; no --max-cost")
