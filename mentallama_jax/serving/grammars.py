"""Answers that are JSON of a given schema: llguidance says before each token which ones may follow."""

import re
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mentallama_jax.generation.requests import TokenMask
from mentallama_jax.serving.api_errors import ApiError, refuse
from mentallama_jax.serving.requested import AnswerSchema

if TYPE_CHECKING:
    from llguidance import LLMatcher

_LONGEST_SCHEMA = 50_000
_LAYOUT = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
"""Between the members of an answer: one blank, so that a model cannot fill an answer with blanks."""
_UNKNOWN_KEYS = re.compile(r'Unimplemented keys: (\[(?:"[A-Za-z$]{1,40}"(?:, )?)+\])')


class MaskTokenizer(Protocol):
    """What masks need of a tokenizer."""

    @property
    def special_ids(self) -> Sequence[int]:
        """Ids that no text turns into."""

    def token_bytes(self, id_: int) -> bytes:
        """Return the bytes that a token adds to a text."""

    def encode(self, text: str, *, continues: bool = False) -> list[int]:
        """Return the ids of plain text."""


class Grammars:
    """Makes masks of JSON schemas for one vocabulary."""

    def __init__(self, tokenizer: MaskTokenizer, rows: int, end_ids: Sequence[int]) -> None:
        """Make nothing yet; the first schema makes the table of tokens.

        Args:
            tokenizer: of the model.
            rows: of the model's embedding.
            end_ids: tokens that end an answer.
        """
        self._tokenizer, self._rows, self._ends = tokenizer, rows, list(end_ids)
        self._made: Any = None
        self._lock = threading.Lock()

    def masks(self, schema: AnswerSchema) -> Callable[[], "GrammarMask"]:
        """What makes the mask of each answer that is to follow a schema. It may take a second; not for the event loop.

        Raises:
            ApiError: llguidance is not installed, or the schema cannot be followed.
        """
        if find_spec("llguidance") is None:
            refuse(
                "answers that follow a JSON schema need the package llguidance on the server; install "
                "mentallama-jax[serving]",
                param="response_format",
                code="unsupported_parameter",
            )
        import json

        from llguidance import LLMatcher, LLParserLimits

        text = json.dumps(schema.schema)
        if len(text) > _LONGEST_SCHEMA:
            refuse(f"the schema is longer than {_LONGEST_SCHEMA} characters", param=schema.param)
        limits = LLParserLimits(verbose_errors=False)
        try:
            grammar = LLMatcher.grammar_from_json_schema(text, overrides=_LAYOUT)  # type: ignore[arg-type]
            matcher = LLMatcher(self._vocabulary(), grammar, log_level=0, limits=limits)
            error = matcher.get_error() if matcher.is_error() else ""
        except ValueError as raised:
            error = str(raised) or "ValueError"
        if error:
            found = _UNKNOWN_KEYS.search(error)
            why = f": it uses {found[1]}" if found else ""
            refuse(f"the JSON schema cannot be followed{why}", param=schema.param, code="invalid_json_schema")
        return lambda: GrammarMask(matcher.deep_copy(), self._rows, self._ends)

    def _vocabulary(self) -> Any:
        from llguidance import LLTokenizer, TokenizerWrapper

        with self._lock:
            if self._made is None:
                spelt = _Vocabulary(self._tokenizer, self._rows, self._ends)
                self._made = LLTokenizer(TokenizerWrapper(spelt), n_vocab=self._rows, eos_token=self._ends)
        return self._made


class _Vocabulary:
    """The vocabulary as llguidance wants it."""

    def __init__(self, tokenizer: MaskTokenizer, rows: int, ends: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id, self.bos_token_id = ends[0], None
        self.tokens = [tokenizer.token_bytes(token) for token in range(rows)]
        # An end is none of the text, whatever the tokenizer's files call it: it must not cut a string short.
        self.special_token_ids = sorted({token for token in (*tokenizer.special_ids, *ends) if token < rows})

    def __call__(self, text: str) -> list[int]:
        """Ids of a text, which must not be bytes."""
        if not isinstance(text, str):
            raise TypeError("a text is wanted")
        return self._tokenizer.encode(text, continues=True)


class GrammarMask(TokenMask):
    """What one answer may go on with; after a failure it may only end.

    The matcher is for the thread that asks `allowed` and `take` alone: while it works, it lets nobody else look at it.
    `check` may be called from any thread.
    """

    def __init__(self, matcher: "LLMatcher", rows: int, ends: Sequence[int]) -> None:
        """Begin an answer."""
        self._matcher, self._words, self._ends = matcher, -(-rows // 32), ends
        self._failed = False

    def allowed(self) -> NDArray[np.int32]:
        """The tokens that may follow."""
        allowed_W = np.zeros(self._words, np.int32)
        if not self._failed:
            given = np.frombuffer(self._matcher.compute_bitmask(), np.int32)
            allowed_W[: len(given)] = given[: self._words]
            self._failed = self._matcher.is_error()
        if not allowed_W.any():
            self._allow_ends(allowed_W)
        return allowed_W

    def take(self, token: int) -> None:
        """Go on behind a token."""
        if not self._failed and not self._matcher.is_stopped():
            self._matcher.consume_token(token)
            self._failed = self._matcher.is_error()

    def check(self) -> None:
        """Refuse an answer over which llguidance failed.

        Raises:
            ApiError: its limits were met.
        """
        if self._failed:
            raise ApiError(500, "the JSON schema became too much to follow; ask with a simpler one")

    def _allow_ends(self, allowed_W: NDArray[np.int32]) -> None:
        bits = allowed_W.view(np.uint32)
        for token in self._ends:
            bits[token // 32] |= np.uint32(1 << (token % 32))
