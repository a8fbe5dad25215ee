"""Renders conversations with a model's own chat template, and finds in the text what the messages contributed.

A template is rendered with unguessable words instead of the messages, which shows where each of them goes and what
the template itself writes: only there are special tokens looked for. It is then rendered with the messages themselves,
and the two must agree, so that a template which changes its mind over the contents is refused.
"""

import itertools
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from mentallama_jax.chat.sandbox import sandbox
from mentallama_jax.chat.segments import AddedToken, Segment, SegmentTokenizer, merged
from mentallama_jax.errors import UserError

_WORD = secrets.token_hex(12)
_TRIMS: tuple[Callable[[str], str], ...] = (str, str.strip, str.rstrip, str.lstrip)


class _Shape(NamedTuple):
    """What a template writes around the messages of a conversation of some length.

    Attributes:
        literals: before, between and after the messages of a prompt; one more than there are messages.
        opening: blanks between the prompt and the answer.
        tail: blanks between the answer and its end.
        end: the special token that ends the answer; None where the template writes none.
        rest: all that the template writes after an answer.
    """

    literals: tuple[str, ...]
    opening: str
    tail: str
    end: str | None
    rest: str


class ChatTemplate:
    """A chat template with the special tokens of its tokenizer. Messages are given by their contents alone.

    The first message is the user's, then user and assistant take turns. `conversation` takes a system message besides.
    """

    def __init__(self, template: str, names: tuple[tuple[str, str], ...], added: tuple[AddedToken, ...]) -> None:
        self._sandbox = sandbox(template)
        self._names = dict(names)
        spellings = sorted(added, key=lambda token: len(token.content), reverse=True)
        parts = [rf"(?<!\w){re.escape(t.content)}(?!\w)" if t.single_word else re.escape(t.content) for t in spellings]
        self._special = re.compile("|".join(parts) or r"(?!)")
        self._shapes: dict[int, _Shape] = {}
        self._with_system: dict[int, tuple[str, ...]] = {}

    def prompt(self, contents: Sequence[str]) -> tuple[Segment, ...]:
        """The segments of a prompt whose last message is the user's question.

        Raises:
            UserError: the template cannot be used for training and answering alike, or alters a message.
        """
        shape = self._shape(len(contents))
        written = self._written(shape.literals, contents, self._render(contents, prompt=True))
        return tuple(merged([*self._split(written)]))

    def conversation(self, system: str, contents: Sequence[str]) -> tuple[Segment, ...]:
        """The segments of a prompt that begins with a system message.

        Raises:
            UserError: as `prompt`, or the template takes no system message.
        """
        said = [system, *contents]
        if len(said) not in self._with_system:
            words = _words(len(said))
            self._with_system[len(said)] = self._around(words, self._render(words, prompt=True, system=True))
        text = self._render(said, prompt=True, system=True)
        written = self._written(self._with_system[len(said)], said, text, system=True)
        return tuple(merged([*self._split(written)]))

    def answer(self, contents: Sequence[str], response: str) -> tuple[Segment, ...]:
        """The segments of an answer to the prompt `contents`, up to its end where the template writes one.

        Raises:
            UserError: as `prompt`.
        """
        shape = self._shape(len(contents))
        literals = (*shape.literals[:-1], shape.literals[-1] + shape.opening, shape.rest)
        full = [*contents, response]
        said = self._written(literals, full, self._render(full, prompt=False))[-2]
        end = [] if shape.end is None else [Segment(shape.end, special=True)]
        return tuple(merged([Segment(shape.opening + said + shape.tail), *end]))

    @property
    def opening(self) -> str:
        """The blanks with which an answer begins."""
        return self._shape(1).opening

    @property
    def end(self) -> str | None:
        """The special token with which an answer ends; None where the template writes none."""
        return self._shape(1).end

    def _shape(self, count: int) -> _Shape:
        if count not in self._shapes:
            self._shapes[count] = self._measure(count)
        return self._shapes[count]

    def _measure(self, count: int) -> _Shape:
        words = _words(count + 1)
        prompt = self._render(words[:-1], prompt=True)
        literals = self._around(words[:-1], prompt)
        full = self._render(words, prompt=False)
        *_, before, after = self._around(words, full)
        if not full.startswith(prompt):
            raise UserError(
                "the chat template renders a prompt that is no beginning of the conversation with its answer, so the "
                "model could not be tuned on what it is asked; choose another data.style"
            )
        opening = full[len(prompt) : full.index(words[-1])]
        if opening.strip():
            raise UserError(
                "the chat template shows no generation prompt: what opens an answer comes only with the answer; choose "
                "another data.style"
            )
        assert before.endswith(opening)
        found = self._special.search(after)
        tail = after[: found.start()] if found else ""
        if tail.strip():
            raise UserError("the chat template writes text between an answer and its end; choose another data.style")
        return _Shape(literals, opening, tail, found.group() if found else None, after)

    def _around(self, words: Sequence[str], text: str) -> tuple[str, ...]:
        pieces, rest = [], text
        for word in words:
            before, found, rest = rest.partition(word)
            pieces.append(before)
            if not found or word in rest or any(other in before for other in words):
                raise UserError(
                    "the chat template leaves out, repeats, moves or alters messages of a conversation; choose another "
                    "data.style"
                )
        return (*pieces, rest)

    def _written(
        self, literals: Sequence[str], contents: Sequence[str], text: str, *, system: bool = False
    ) -> list[str]:
        """Literals and contents in turns, the contents as the template writes them: trimmed, or as they are."""
        for user, assistant, first in itertools.product(_TRIMS, _TRIMS, _TRIMS if system else (str,)):
            trims = itertools.chain((first,) * system, itertools.cycle((user, assistant)))
            said = [trim(content) for trim, content in zip(trims, contents, strict=False)]
            pieces = [*itertools.chain.from_iterable(zip(literals, said, strict=False)), literals[-1]]
            if "".join(pieces) == text:
                return pieces
        raise UserError("the chat template alters the text of a message; choose another data.style")

    def _split(self, pieces: Sequence[str]) -> Iterator[Segment]:
        """Segments of pieces as `_written` gives them; special tokens are found in the template's own text only."""
        for place, piece in enumerate(pieces):
            if place % 2:
                yield Segment(piece)
                continue
            start = 0
            for found in self._special.finditer(piece):
                yield Segment(piece[start : found.start()])
                yield Segment(found.group(), special=True)
                start = found.end()
            yield Segment(piece[start:])

    def _render(self, contents: Sequence[str], *, prompt: bool, system: bool = False) -> str:
        roles = itertools.chain(("system",) * system, itertools.cycle(("user", "assistant")))
        messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
        return self._sandbox.render(messages, self._names, prompt=prompt)


def _words(count: int) -> list[str]:
    """Unguessable words, none of which is in another."""
    return [f"{_WORD}{number:04d}w" for number in range(count)]


def template_of(tokenizer: SegmentTokenizer) -> ChatTemplate:
    """The chat template of a tokenizer.

    Raises:
        UserError: it has none.
    """
    if tokenizer.chat_template is None:
        raise UserError(
            "style chat: the tokenizer brings no chat template; choose plain, completion, llama2-chat or chatml"
        )
    names = tuple(sorted(tokenizer.special_tokens.items()))
    return _template(tokenizer.chat_template, names, tuple(tokenizer.added_tokens))


_template = lru_cache(maxsize=8)(ChatTemplate)
