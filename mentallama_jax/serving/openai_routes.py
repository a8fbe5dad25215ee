"""The routes that OpenAI's clients know: models, chat completions and completions."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

from mentallama_jax.errors import UserError
from mentallama_jax.generation.requests import Request
from mentallama_jax.imhi.conversations import ChatMessage, encode_conversation
from mentallama_jax.serving.api_errors import ApiError, of_user_error, refuse
from mentallama_jax.serving.choices import GrowingChoice, usage
from mentallama_jax.serving.exchange import HttpExchange
from mentallama_jax.serving.grammars import GrammarMask
from mentallama_jax.serving.requested import Wanted, read_chat, read_completion
from mentallama_jax.serving.running_answers import RunningAnswers
from mentallama_jax.serving.service import ServedModel, Service

Prompt = str | list[int] | list[ChatMessage]
_NAMES = {
    "chat": ("chatcmpl-", "chat.completion", "chat.completion.chunk"),
    "text": ("cmpl-", "text_completion", "text_completion"),
}


async def list_models(exchange: HttpExchange) -> None:
    """Answer `GET /v1/models`."""
    await exchange.send_json({"object": "list", "data": [_described(exchange.service.model)]})


async def show_model(exchange: HttpExchange) -> None:
    """Answer `GET /v1/models/NAME`."""
    _check_model(exchange.service.model, exchange.path_value("name"))
    await exchange.send_json(_described(exchange.service.model))


async def chat_completion(exchange: HttpExchange) -> None:
    """Answer `POST /v1/chat/completions`."""
    messages, wanted = read_chat(await exchange.json_body())
    await _answer(exchange, "chat", [messages], wanted)


async def completion(exchange: HttpExchange) -> None:
    """Answer `POST /v1/completions`."""
    prompts, wanted = read_completion(await exchange.json_body(), exchange.service.model.rows)
    await _answer(exchange, "text", prompts, wanted)


async def _answer(
    exchange: HttpExchange, kind: Literal["chat", "text"], prompts: Sequence[Prompt], wanted: Wanted
) -> None:
    service = exchange.service
    if wanted.model is not None:
        _check_model(service.model, wanted.model)
    answers = RunningAnswers(service, exchange.started)
    with service.engine.room(len(prompts) * wanted.choices):
        chat = kind == "chat"
        asked = await answers.in_time(asyncio.to_thread(_asked, service, prompts, wanted, chat=chat))
        response = _Response(service, kind, asked, wanted, answers)
        if wanted.stream:
            await exchange.while_here(exchange.send_events(response.pieces()))
        else:
            await exchange.send_json(await exchange.while_here(response.whole()))


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the engine is asked, and the masks that it made of a schema."""

    requests: list[Request]
    masks: list[GrammarMask]


def _asked(service: Service, prompts: Sequence[Prompt], wanted: Wanted, *, chat: bool) -> _Asked:
    """The requests of the engine. It tokenises, and compiles a schema; not for the event loop.

    Raises:
        ApiError: a prompt is too long, or cannot be rendered; or see `Grammars.masks`.
    """
    masks: list[GrammarMask] = []
    make: Callable[[], GrammarMask] | None = None
    if wanted.schema is not None:
        new_mask = service.grammars.masks(wanted.schema)

        def make() -> GrammarMask:
            masks.append(new_mask())
            return masks[-1]

    requests = []
    for place, prompt in enumerate(prompts):
        tokens = _tokens(service.model, prompt)
        longest = _room(service, len(tokens), wanted.max_tokens)
        settings = wanted.settings(longest)
        name = str(place) if place else ""  # equal prompts draw each their own
        ends, text_of = service.model.end_ids, service.model.decoder(chat=chat)
        requests.append(Request(tokens, name, settings, ends, wanted.choices, masks=make, text_of=text_of))
    return _Asked(requests, masks)


def _tokens(model: ServedModel, prompt: Prompt) -> list[int]:
    tokenizer = model.tokenizer
    if isinstance(prompt, str):
        begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
        tokens = [*begin, *tokenizer.encode(prompt)]
    elif prompt and isinstance(prompt[0], ChatMessage):
        try:
            tokens = encode_conversation(
                [one for one in prompt if isinstance(one, ChatMessage)], model.style, tokenizer
            )
        except UserError as error:
            raise of_user_error(error, param="messages") from None
    else:
        tokens = [token for token in prompt if isinstance(token, int)]
    if not tokens:
        refuse("the prompt has no tokens", param="prompt")
    return tokens


def _room(service: Service, prompt: int, wanted: int | None) -> int:
    """The tokens that an answer may have.

    Raises:
        ApiError: prompt and answer together are too long.
    """
    limits = service.limits
    left = limits.max_length - prompt
    if left < (wanted or 1):
        what = f"{prompt} tokens of the prompt" + (f" and {wanted} of the answer" if wanted else "")
        refuse(f"{what} are too many: this server takes {limits.max_length} together", code="context_length_exceeded")
    return min(left, limits.max_new_tokens) if wanted is None else wanted


class _Response:
    """The response to a completion, whole or in pieces."""

    def __init__(
        self,
        service: Service,
        kind: Literal["chat", "text"],
        asked: _Asked,
        wanted: Wanted,
        answers: RunningAnswers,
    ) -> None:
        self._asked, self._wanted, self._chat, self._answers = asked, wanted, kind == "chat", answers
        self._choices = [
            GrowingChoice(index, service.model, wanted.stops, wanted.logprobs, chat=self._chat)
            for index in range(len(asked.requests) * wanted.choices)
        ]
        begin, self._object, self._object_of_pieces = _NAMES[kind]
        self._head = {
            "id": f"{begin}{uuid4().hex}",
            "created": int(time.time()),
            "model": service.model.name,
            "system_fingerprint": service.model.fingerprint,
        }

    async def whole(self) -> dict[str, Any]:
        """The response as one object."""
        async with aclosing(self._answers.events(self._asked.requests)) as events:
            async for place, event in events:
                self._choice(place, event.sample).add(event)
        self._check_masks()
        for choice in self._choices:
            choice.cut()
        choices = [choice.to_json() for choice in self._choices]
        return {**self._head, "object": self._object, "choices": choices, "usage": self._usage()}

    async def pieces(self) -> AsyncGenerator[dict[str, Any], None]:
        """The response as the objects of a stream."""
        begun: set[int] = set()
        async with aclosing(self._answers.events(self._asked.requests)) as events:
            async for place, event in events:
                choice = self._choice(place, event.sample)
                if self._chat and choice.index not in begun:
                    yield self._piece([{**choice.piece("", begins=True), "finish_reason": None}])
                begun.add(choice.index)
                text = choice.add(event)
                if event.answer is not None:
                    self._check_masks()
                if text or event.answer is not None:
                    yield self._piece([choice.piece(text)])
        self._check_masks()
        for choice in self._choices:
            if choice.finish is None:
                yield self._piece([choice.piece(choice.cut(), begins=self._chat and choice.index not in begun)])
        if self._wanted.usage_in_stream:
            yield {**self._piece([]), "usage": self._usage()}

    def _choice(self, place: int, sample: int) -> GrowingChoice:
        return self._choices[place * self._wanted.choices + sample]

    def _piece(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        none_yet = {"usage": None} if self._wanted.usage_in_stream else {}
        return {**self._head, "object": self._object_of_pieces, "choices": choices, **none_yet}

    def _check_masks(self) -> None:
        for mask in self._asked.masks:
            mask.check()

    def _usage(self) -> dict[str, int]:
        return usage(sum(len(request.tokens) for request in self._asked.requests), self._answers.new_tokens)


def _check_model(model: ServedModel, name: str) -> None:
    if name != model.name:
        raise ApiError(
            404, f"there is no such model here; this server has {model.name}", param="model", code="model_not_found"
        )


def _described(model: ServedModel) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": model.created, "owned_by": "mentallama-jax"}
