"""The choices of a completion as they grow, and their JSON in the two forms that OpenAI's clients know."""

from collections.abc import Sequence
from itertools import repeat
from typing import Any, NamedTuple

from mentallama_jax.generation.requests import Event
from mentallama_jax.serving.answer_text import AnswerText
from mentallama_jax.serving.service import ServedModel
from mentallama_jax.serving.token_places import TokenPlaces

_LEAST = -9999.0
"""In place of minus infinity, which JSON does not know; as OpenAI gives it."""


class _Token(NamedTuple):
    """A token of an answer: its log-probability, the likeliest in its place with theirs, where its text begins."""

    id: int
    log: float
    likely: Sequence[tuple[int, float]]
    place: int


class GrowingChoice:
    """One answer.

    Attributes:
        index: its place among all choices of the response.
        text: that was given so far.
        finish: "stop" or "length"; None while it grows.
    """

    def __init__(self, index: int, model: ServedModel, stops: Sequence[str], logprobs: int | None, *, chat: bool):
        """Begin an answer; `logprobs` is how many alternatives of each token are given, None for nothing."""
        self.index, self._model, self._top, self._chat = index, model, logprobs, chat
        decode = model.decoder(chat=chat)
        self._text = AnswerText(decode, stops, model.blank if chat else "")
        self.finish: str | None = None
        self._tokens: list[_Token] = []
        self._given = 0
        self._places = None if chat or logprobs is None else TokenPlaces(model.tokenizer, decode)

    @property
    def text(self) -> str:
        """What was given so far."""
        return self._text.so_far

    def add(self, event: Event) -> str:
        """Take over what is new; the text that it adds."""
        tokens = event.tokens
        if event.answer is not None:
            self.finish = "stop" if event.answer.ended or event.answer.stopped_by else "length"
            tokens = tokens[: len(tokens) - event.answer.ended]
        nothing: Sequence[Sequence[tuple[int, float]]] = [()] * len(tokens)
        likely = event.alternatives[: len(tokens)] or nothing
        places = map(self._places.add, tokens) if self._places else repeat(0)
        self._tokens += map(_Token, tokens, event.log_probabilities, likely, places)
        return self._text.add(event.tokens, event.answer)

    def cut(self) -> str:
        """End an answer that is not complete at the limit of time; the text that it adds."""
        if self.finish is not None:
            return ""
        self.finish = "length"
        return self._text.rest()

    def new_logprobs(self) -> dict[str, Any] | None:
        """The log-probabilities of tokens since the last call; None where they are not asked for."""
        if self._top is None:
            return None
        new, self._given = self._tokens[self._given :], len(self._tokens)
        return self._chat_logprobs(new) if self._chat else self._plain_logprobs(new)

    def _chat_logprobs(self, tokens: Sequence[_Token]) -> dict[str, Any]:
        content = []
        for one in tokens:
            top = [self._spelt(other, value) for other, value in one.likely[: self._top]]
            content.append({**self._spelt(one.id, one.log), "top_logprobs": top})
        return {"content": content, "refusal": None}

    def _spelt(self, token: int, log: float) -> dict[str, Any]:
        spelling = self._model.tokenizer.token_bytes(token)
        return {"token": spelling.decode("utf-8", "replace"), "bytes": list(spelling), "logprob": max(log, _LEAST)}

    def _plain_logprobs(self, tokens: Sequence[_Token]) -> dict[str, Any]:
        likeliest: list[dict[str, float]] = []
        for one in tokens:
            likeliest.append({})
            for other, log in one.likely[: self._top]:
                likeliest[-1].setdefault(self._name(other), max(log, _LEAST))  # the likelier of those of one name
        return {
            "tokens": [self._name(one.id) for one in tokens],
            "token_logprobs": [max(one.log, _LEAST) for one in tokens],
            "top_logprobs": likeliest,
            "text_offset": [one.place for one in tokens],
        }

    def _name(self, token: int) -> str:
        """The text of a token; bytes that are no text by themselves as OpenAI spells them, so that each has a name."""
        spelling = self._model.tokenizer.token_bytes(token)
        try:
            return spelling.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelling)

    def to_json(self) -> dict[str, Any]:
        """The whole answer."""
        said: dict[str, Any] = {"index": self.index}
        if self._chat:
            said["message"] = {"role": "assistant", "content": self.text, "refusal": None}
        else:
            said["text"] = self.text
        return said | {"logprobs": self.new_logprobs(), "finish_reason": self.finish}

    def piece(self, text: str, *, begins: bool = False) -> dict[str, Any]:
        """New text as a piece of a stream."""
        said: dict[str, Any] = {"index": self.index}
        if self._chat:
            said["delta"] = {"role": "assistant", "content": text} if begins else {"content": text} if text else {}
        else:
            said["text"] = text
        return said | {"logprobs": self.new_logprobs(), "finish_reason": self.finish}


def usage(prompt_tokens: int, new_tokens: int) -> dict[str, int]:
    """What was read and written."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": new_tokens,
        "total_tokens": prompt_tokens + new_tokens,
    }
