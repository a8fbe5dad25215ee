"""Questions and answers for encoder-decoders: a source text that is read, and a target text that is written.

Both are rendered as for a LLaMA (`prompts.render`), without what joins them there: no beginning token, and no blank in
front of the answer. What stands around a text is for the tokenizer of the model to say.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from mentallama_jax.config import Style
from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.imhi.prompts import EXAMPLE, label_answers, render
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import Task

WHOLE = 2**30
"""A length at which no text is cut."""


class PairTokenizer(Protocol):
    """What reading texts asks of a tokenizer."""

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Return the ids of each text, special tokens around it, at most `max_length` of them."""


class Source(NamedTuple):
    """Tokens of a source, and how many the end of its post lost to fit."""

    tokens: list[int]
    truncated: int


class Specials(NamedTuple):
    """The special tokens in front of a text and behind it."""

    opening: tuple[int, ...]
    closing: tuple[int, ...]


def source_text(record: Record, style: Style) -> str:
    """The question about a post; `style` is plain or completion."""
    return render(record, style).prompt[-1].text


def example_source(style: Style) -> str:
    """A source as text, for people to read; post and question are made up."""
    return source_text(EXAMPLE, style)


def target_text(record: Record, style: Style) -> str:
    """The gold answer.

    Raises:
        UserError: the record has no label.
    """
    text = render(record, style).response.strip()
    if not text:
        raise UserError(f"{shown(record.source or record.id)}: has no label, so there is no gold answer to it")
    return text


def label_texts(task: Task, style: Style) -> dict[str, str]:
    """Canonical label -> how an answer that gives this label begins."""
    return {label: text.strip() for label, text in label_answers(task, style).items()}


def specials_of(tokenizer: PairTokenizer, end_id: int, where: str) -> Specials:
    """The special tokens that a tokenizer puts around texts.

    Args:
        tokenizer: of the model.
        end_id: the token that ends targets, by the model.
        where: names the model in errors.

    Raises:
        UserError: the tokenizer ends texts with another token, or not at all.
    """
    around = tokenizer.encode([""], WHOLE)[0]
    if not around or around[-1] != end_id:
        found = around[-1] if around else "no token"
        raise UserError(
            f"{where}: its tokenizer ends texts with {found} and the model with {end_id}; name the tokenizer that "
            "belongs to the model"
        )
    return Specials(tuple(around[:-1]), (end_id,))


def encode_sources(records: Sequence[Record], style: Style, tokenizer: PairTokenizer, max_length: int) -> list[Source]:
    """Tokens of the source of each record, at most `max_length`; a longer post loses its end.

    Raises:
        UserError: a source is too long even with an empty post.
    """
    whole = tokenizer.encode([source_text(record, style) for record in records], WHOLE)
    return [
        Source(tokens, 0) if len(tokens) <= max_length else _cut(record, style, tokenizer, max_length, len(tokens))
        for record, tokens in zip(records, whole, strict=True)
    ]


def _cut(record: Record, style: Style, tokenizer: PairTokenizer, max_length: int, whole: int) -> Source:
    def source(characters: int) -> list[int]:
        text = source_text(replace(record, post=record.post[:characters]), style)
        return tokenizer.encode([text], WHOLE)[0]

    best = source(0)
    if len(best) > max_length:
        raise UserError(
            f"{shown(record.id)}: needs {len(best)} tokens even with an empty post; {max_length} are allowed"
        )
    # Characters are cut, not tokens, so that the source stays what the tokenizer makes of a text.
    fits, too_long = 0, len(record.post)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        tokens = source(middle)
        if len(tokens) <= max_length:
            fits, best = middle, tokens
        else:
            too_long = middle
    return Source(best, whole - len(best))
