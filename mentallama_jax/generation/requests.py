"""What the engine is asked, and what it answers: prompts of tokens in, tokens with log-probabilities out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mentallama_jax.errors import UserError
from mentallama_jax.generation.label_trie import FREE
from mentallama_jax.generation.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Settings:
    """How prompts are answered.

    Attributes:
        max_new_tokens: longest answer, end token included.
        sampling: how tokens are chosen.
        seed: of sampling; each row has its own stream from (seed, its name, number of the sample).
        batch_size: rows decoded together; changes speed and memory, not answers.
        stop_strings: an answer ends with the token that completes one of them; its text is cut before it.
        alternatives: whether the likeliest tokens at each place are given too.
    """

    max_new_tokens: int = 256
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    batch_size: int = 16
    stop_strings: tuple[str, ...] = ()
    alternatives: bool = False

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name.replace('_', '-')} {getattr(self, name)}: give a number from 1")
        if "" in self.stop_strings:
            raise UserError("a stop string is empty; every answer would end at once")


class TokenMask(Protocol):
    """What one answer may go on with, asked before each of its tokens."""

    def allowed(self) -> NDArray[np.int32]:
        """The tokens that may follow, 32 to a word, the lowest bit first; [W], W = vocabulary / 32, rounded up."""

    def take(self, token: int) -> None:
        """Go on behind a token, which `allowed` holds."""


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt that waits for answers.

    Attributes:
        tokens: of the prompt.
        name: what the answers draw depends on the seed, this and the number of the sample alone.
        settings: see `Settings`; the batch size does not matter here.
        end_ids: tokens that end an answer.
        samples: how many answers; they share the reading of the prompt.
        root: where the answer begins in the trees of the constraint; `label_trie.FREE` where it is free.
        shared: so many of the first tokens are those of other requests, and are read once for all of them.
        masks: makes the mask of an answer, one for each sample; None where any token may follow. While such an answer
            is written, the loops of all have one step.
        text_of: decodes the answers where stop strings are looked for; None as the decoding does for all.
    """

    tokens: Sequence[int]
    name: str = ""
    settings: Settings = field(default_factory=Settings)
    end_ids: Sequence[int] = ()
    samples: int = 1
    root: int = FREE
    shared: int = 0
    masks: Callable[[], TokenMask] | None = None
    text_of: Callable[[Sequence[int]], str] | None = None

    def __post_init__(self) -> None:
        if not self.tokens:
            raise ValueError("a prompt has no tokens")
        if self.samples < 1:
            raise ValueError(f"{self.samples} samples: at least one")
        if not 0 <= self.shared < len(self.tokens):
            raise ValueError(f"{self.shared} shared tokens of {len(self.tokens)}: the last one is the prompt's own")


@dataclass(frozen=True, slots=True)
class Answer:
    """What follows a prompt.

    Attributes:
        tokens: the end token included where there is one.
        log_probabilities: of each token under the model itself, before penalty, temperature, filters and constraint;
            nats, fp32.
        ended: whether the last token is an end token.
        stopped_by: the stop string that the last token completes, or nothing. Where neither, the limit was reached.
        alternatives: for each token the likeliest ones with their log-probabilities, where they are asked for.
    """

    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    ended: bool
    stopped_by: str = ""
    alternatives: tuple[tuple[tuple[int, float], ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """News of one answer.

    Attributes:
        request: what `Decoding.submit` returned.
        sample: number of the answer to it.
        tokens: new ones.
        log_probabilities: of the new ones.
        answer: the whole, once it is complete.
        alternatives: of the new ones, as in `Answer`.
    """

    request: int
    sample: int
    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    answer: Answer | None = None
    alternatives: tuple[tuple[tuple[int, float], ...], ...] = ()
