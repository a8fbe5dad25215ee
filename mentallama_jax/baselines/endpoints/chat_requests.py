"""What is asked of an endpoint: messages and settings, and the key by which an answer is kept."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mentallama_jax.baselines.endpoints.endpoint import Endpoint
from mentallama_jax.baselines.endpoints.spending import Message

LEFT_OUT = ("temperature", "seed", "logprobs")
"""Settings that some endpoints refuse; they can be left out of requests."""
ALTERNATIVES = 20
"""Alternatives of each token that are asked for, with `log_probabilities`; the most that OpenAI gives."""


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """How answers are made.

    Attributes:
        temperature: 0 takes the likeliest token, as far as the endpoint does.
        seed: of sampling; an endpoint promises no more than to try.
        max_new_tokens: the longest answer.
        log_probabilities: whether those of its first tokens are asked for.
        left_out: names of `LEFT_OUT` that are not sent.
    """

    temperature: float = 0.0
    seed: int = 0
    max_new_tokens: int = 256
    log_probabilities: bool = True
    left_out: tuple[str, ...] = ()

    def to_json(self, endpoint: Endpoint) -> dict[str, Any]:
        """The keys of a request."""
        limit = "max_completion_tokens" if endpoint.takes_max_completion_tokens else "max_tokens"
        keys: dict[str, Any] = {limit: self.max_new_tokens, "temperature": self.temperature, "seed": self.seed}
        if self.log_probabilities and "logprobs" not in self.left_out:
            keys |= {"logprobs": True, "top_logprobs": ALTERNATIVES}
        return {key: value for key, value in keys.items() if key not in self.left_out}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question to an endpoint.

    Attributes:
        name: of the row, for messages; no text of a post.
        body: of the request: model, messages and settings.
        key: digest of address and body.
        prompt_bound: the most tokens that its messages have.
        answer_bound: the most tokens of an answer.
    """

    name: str
    body: dict[str, Any] = field(repr=False)
    key: str
    prompt_bound: int
    answer_bound: int


def chat_request(
    name: str, messages: Sequence[Message], model: str, endpoint: Endpoint, settings: ChatSettings, prompt_bound: int
) -> ChatRequest:
    """A request of messages, with the key that its answer is kept by."""
    body = {"model": model, "messages": [dict(message) for message in messages], **settings.to_json(endpoint)}
    content = json.dumps({"url": endpoint.url, **body}, sort_keys=True).encode()
    return ChatRequest(name, body, hashlib.sha256(content).hexdigest(), prompt_bound, settings.max_new_tokens)


def digest(requests: Sequence[ChatRequest]) -> str:
    """SHA-256 of all that is asked, in order."""
    return hashlib.sha256("\n".join(request.key for request in requests).encode()).hexdigest()
