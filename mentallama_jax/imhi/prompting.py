"""How questions are put to a model: their wording, and the few-shot examples before them, fitted to the room."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mentallama_jax.config import Style
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.prompts import Encoded, PromptTokenizer, encode_prompt
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.shots import Choice, ChosenExamples, shown_order
from mentallama_jax.imhi.wording import Query, completion_query, instruction_query

_NO_LIMIT = 1 << 30
_POST = "\x00"


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt, and what was shown in it.

    Attributes:
        prompt: its tokens.
        examples: ids of the examples, in the order shown.
        run_on: with what a model that goes on after its answer would begin the next question; "" where turns of a chat
            keep questions apart.
    """

    prompt: Encoded
    examples: tuple[str, ...] = ()
    run_on: str = ""

    def answer_in(self, text: str) -> str:
        """The answer alone, without further questions that the model made up after the manner of the examples."""
        return text.partition(self.run_on)[0].rstrip() if self.run_on else text


@dataclass(frozen=True, slots=True)
class Prompting:
    """Wording and examples.

    Attributes:
        query: words a question; the style completion has a wording of its own.
        examples: id of a question -> its examples, the most wanted first.
        choice: how they were chosen, which decides where the most wanted stand.
        signature: what says in the signature of predictions how it was done; empty for the plain instruction.
    """

    query: Query = instruction_query
    examples: Mapping[str, ChosenExamples] = field(default_factory=dict)
    choice: Choice = "balanced"
    signature: Mapping[str, Any] = field(default_factory=dict)

    def ask(self, record: Record, style: Style, tokenizer: PromptTokenizer, room: int) -> Asked:
        """The prompt of a question in at most `room` tokens.

        Where it is too long, examples are left out as a whole, the least wanted first. The post loses its end only if
        it does not fit alone.

        Raises:
            UserError: too long even with an empty post, or the style has a wording of its own.
        """
        self.check_style(style)
        wanted = self.examples.get(record.id, ())

        def encoded(count: int, longest: int = _NO_LIMIT) -> Encoded:
            shown = shown_order(wanted[:count], self.choice)
            return encode_prompt(record, style, tokenizer, longest, shown, self.query)

        best: Encoded | None = None
        kept, too_many, tried = 0, len(wanted) + 1, len(wanted)  # nearly always all of them fit
        while too_many - kept > 1:
            prompt = encoded(tried)
            if len(prompt.tokens) <= room:
                kept, best = tried, prompt
            else:
                too_many = tried
            tried = (kept + too_many) // 2
        if best is None:
            return Asked(encoded(0, room))
        ids = tuple(example.id for example in shown_order(wanted[:kept], self.choice))
        return Asked(best, ids, self._run_on(record, style))

    def check_style(self, style: Style) -> None:
        """Refuse a wording that a style would not show.

        Raises:
            UserError: the style completion with another wording than its own.
        """
        if style == "completion" and self.query is not instruction_query:
            raise UserError("--prompt: the style completion has a wording of its own; choose another --style")

    def _run_on(self, record: Record, style: Style) -> str:
        if style not in ("plain", "completion"):
            return ""
        query = completion_query if style == "completion" else self.query
        return "\n\n" + query(replace(record, post=_POST)).partition(_POST)[0]


def examples_digest(records: Sequence[Record]) -> str:
    """SHA-256 of what examples show."""
    digest = hashlib.sha256()
    for record in records:
        for text in (record.id, record.dataset, record.aspect, record.label, record.post, record.explanation):
            digest.update(f"{len(text)} {text}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
