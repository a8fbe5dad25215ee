"""The choices of a completion as they grow, and their JSON in the two forms that OpenAI's clients know."""

from codecs import getincrementaldecoder
from collections.abc import Sequence
from typing import Any

from mentallama_jax.generation.requests import Event
from mentallama_jax.serving.answer_text import AnswerText
from mentallama_jax.serving.service import ServedModel

_UTF8 = getincrementaldecoder("utf-8")
_LEAST = -9999.0
"""In place of minus infinity, which JSON does not know; as OpenAI gives it."""


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
        self._text = AnswerText(model.tokenizer.decode, stops, model.blank if chat else "")
        self.finish: str | None = None
        self._tokens: list[tuple[int, float, Sequence[tuple[int, float]]]] = []
        self._given = 0
        self._offset, self._characters = 0, _UTF8("replace")

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
        self._tokens += zip(tokens, event.log_probabilities, likely, strict=False)
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
        start, self._given = self._given, len(self._tokens)
        return self._chat_logprobs(self._tokens[start:]) if self._chat else self._plain_logprobs(start)

    def _chat_logprobs(self, tokens: Sequence[tuple[int, float, Sequence[tuple[int, float]]]]) -> dict[str, Any]:
        content = []
        for token, log, likely in tokens:
            top = [self._spelt(other, value) for other, value in likely[: self._top]]
            content.append({**self._spelt(token, log), "top_logprobs": top})
        return {"content": content, "refusal": None}

    def _spelt(self, token: int, log: float) -> dict[str, Any]:
        spelling = self._model.tokenizer.token_bytes(token)
        return {"token": spelling.decode("utf-8", "replace"), "bytes": list(spelling), "logprob": max(log, _LEAST)}

    def _plain_logprobs(self, start: int) -> dict[str, Any]:
        found: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        ids = [token for token, _, _ in self._tokens]
        for place, (token, log, likely) in enumerate(self._tokens[start:], start):
            spelt = self._spelt(token, log)
            top = {one["token"]: one["logprob"] for one in (self._spelt(*pair) for pair in likely[: self._top])}
            found["tokens"].append(spelt["token"])
            found["token_logprobs"].append(spelt["logprob"])
            found["top_logprobs"].append(top)
            if not self._goes_on(bytes(spelt["bytes"])):
                self._offset = len(self._model.tokenizer.decode(ids[:place]))
            found["text_offset"].append(self._offset)
        return found

    def _goes_on(self, added: bytes) -> bool:
        """Whether the bytes of a token go on with a character that the tokens before it began."""
        begun = bool(self._characters.getstate()[0])
        self._characters.decode(added)
        return begun and b"\x80" <= added[:1] < b"\xc0"

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
