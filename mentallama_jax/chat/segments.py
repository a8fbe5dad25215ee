"""Segments of a conversation, and their token ids: text is never parsed for special tokens, those stand by their id."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol


class Segment(NamedTuple):
    """A stretch of a prompt: plain text, or one special token by its spelling."""

    text: str
    special: bool = False


class AddedToken(NamedTuple):
    """A token that tokenizers find in raw text, and whether it takes the blanks beside it."""

    content: str
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False


class SegmentTokenizer(Protocol):
    """What segments need of a tokenizer."""

    @property
    def chat_template(self) -> str | None:
        """The Jinja template that comes with the model, if any."""

    @property
    def special_tokens(self) -> Mapping[str, str]:
        """Spellings that a template knows, such as `bos_token`."""

    @property
    def added_tokens(self) -> Sequence[AddedToken]:
        """Every token that may stand in a template's text."""

    def encode(self, text: str, *, continues: bool = False) -> list[int]:
        """Ids of plain text; `continues` says that text goes before it."""

    def encode_after(self, text: str, token: str) -> list[int]:
        """Ids of plain text that follows the special token `token`."""

    def special_id(self, token: str) -> int:
        """The id of a special token."""


def encode_segments(
    segments: Sequence[Segment], tokenizer: SegmentTokenizer, before: Segment | None = None
) -> list[int]:
    """The ids of segments, as the tokenizer would cut a text in which the special tokens are spelt out.

    Args:
        segments: never two of plain text in a row.
        tokenizer: see `SegmentTokenizer`.
        before: the segment that goes before them; None where they begin a text.
    """
    added = {token.content: token for token in tokenizer.added_tokens}
    ids: list[int] = []
    for place, segment in enumerate(segments):
        if segment.special:
            ids.append(tokenizer.special_id(segment.text))
            before = segment
            continue
        text = segment.text
        following = segments[place + 1] if place + 1 < len(segments) else None
        if before is not None and before.special and _token(added, before).rstrip:
            text = text.lstrip()
        if following is not None and _token(added, following).lstrip:
            text = text.rstrip()
        if not text:
            continue
        if before is None:
            ids += tokenizer.encode(text)
        elif before.special:
            ids += tokenizer.encode_after(text, before.text)
        else:
            ids += tokenizer.encode(text, continues=True)
        before = segment
    return ids


def last_segment(segments: Sequence[Segment], tokenizer: SegmentTokenizer) -> Segment:
    """The segment that a text behind `segments` follows: not one of blanks that the token before it takes."""
    added = {token.content: token for token in tokenizer.added_tokens}
    *_, before, last = (Segment(""), *segments)
    takes_all = before.special and _token(added, before).rstrip and not last.special and not last.text.strip()
    return before if takes_all else last


def merged(segments: Sequence[Segment]) -> Iterator[Segment]:
    """Join neighbours of plain text, which a tokenizer must see as one; leave empty ones out."""
    waiting = ""
    for segment in segments:
        if segment.special:
            if waiting:
                yield Segment(waiting)
            waiting = ""
            yield segment
        else:
            waiting += segment.text
    if waiting:
        yield Segment(waiting)


def _token(added: Mapping[str, AddedToken], segment: Segment) -> AddedToken:
    return added.get(segment.text) or AddedToken(segment.text)
