"""What the routes of the server share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from mentallama_jax.config import Style
from mentallama_jax.generation.answers import AnswerTokenizer
from mentallama_jax.generation.growing_text import Decode
from mentallama_jax.serving.engine_thread import EngineThread
from mentallama_jax.serving.grammars import Grammars, MaskTokenizer
from mentallama_jax.serving.post_analysis import PostAnalyser
from mentallama_jax.serving.prometheus import ServerFigures


class ServedTokenizer(AnswerTokenizer, MaskTokenizer, Protocol):
    """What serving needs of a tokenizer."""

    def decode(self, ids: Sequence[int], *, continues: bool = False) -> str:
        """Text of tokens, special ones left out; where they go on after others, with the blank that they begin with."""


@dataclass(frozen=True, slots=True)
class ServeLimits:
    """What a request may ask for, and how many may wait.

    Attributes:
        slots: answers that are written at once.
        queue: answers that may wait for a slot.
        max_length: tokens of prompt and answer together.
        max_new_tokens: of an answer where a request does not say.
        seconds: that a request may take.
        body_bytes: of a request.
        warm_up: tokens of the longest prompt that programs are compiled for before the first request.
    """

    slots: int = 16
    queue: int = 64
    max_length: int = 2048
    max_new_tokens: int = 256
    seconds: float = 120.0
    body_bytes: int = 1 << 20
    warm_up: int = 512


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model that answers.

    Attributes:
        name: by which clients know it.
        fingerprint: of weights and computation; with a seed and equal fingerprints, answers are equal.
        created: when it was loaded, in seconds since 1970.
        rows: of its embedding; token ids are below.
        style: how questions become prompts.
        blank: what this style puts before an answer.
        end_ids: tokens that end an answer.
        tokenizer: its own.
    """

    name: str
    fingerprint: str
    created: int
    rows: int
    style: Style
    blank: str
    end_ids: tuple[int, ...]
    tokenizer: ServedTokenizer

    def decoder(self, *, chat: bool) -> Decode:
        """What makes text of an answer's tokens; that of a completion goes on where its prompt ends."""
        return self.tokenizer.decode if chat else partial(self.tokenizer.decode, continues=True)


@dataclass
class Service:
    """A running server.

    Attributes:
        model: see `ServedModel`.
        limits: see `ServeLimits`.
        engine: the thread that computes.
        grammars: makes masks of JSON schemas.
        analyser: reads posts.
        key: that clients must send; "" for none.
        figures: what was done so far.
        stopping: whether new requests are refused.
        open: requests that are being answered.
    """

    model: ServedModel
    limits: ServeLimits
    engine: EngineThread
    grammars: Grammars
    analyser: PostAnalyser
    key: str = field(default="", repr=False)
    figures: ServerFigures = field(default_factory=ServerFigures)
    stopping: bool = False
    open: int = 0

    @property
    def gauges(self) -> tuple[tuple[str, str, Callable[[], float]], ...]:
        """What is read when figures are asked for."""
        return (
            ("rows", "Answers that are written or wait for a slot.", lambda: self.engine.rows),
            ("slots", "Answers that can be written at once.", lambda: self.limits.slots),
            ("ready", "Whether requests are taken.", lambda: self.engine.state == "ready" and not self.stopping),
        )
