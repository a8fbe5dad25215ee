"""Conversations of any wording as tokens of a prompt; a question alone is `prompts.encode_question`."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from mentallama_jax.chat.segments import Segment, encode_segments, merged
from mentallama_jax.chat.template import template_of
from mentallama_jax.config import Style
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.prompts import (
    BOS,
    EOS,
    IM_START,
    PromptTokenizer,
    chatml_message,
    default_system,
    segment_tokens,
)

Role = Literal["system", "user", "assistant"]


class ChatMessage(NamedTuple):
    """One message of a conversation."""

    role: Role
    content: str


def encode_conversation(messages: Sequence[ChatMessage], style: Style, tokenizer: PromptTokenizer) -> list[int]:
    """Tokens of a prompt that asks a model for the next answer; no text is cut or read as a special token.

    A system message stands where the style has a place for it: in ChatML and chat templates as one of its own, in
    `llama2-chat` between `<<SYS>>` marks in the first question, as Meta writes it, elsewhere as a paragraph in front.

    Args:
        messages: a system message or none, then user and assistant in turns; the last one is the user's.
        style: see `prompts`.
        tokenizer: of the model.

    Raises:
        UserError: another order of messages, or the model's chat template cannot render it.
    """
    system, turns = _checked(messages)
    if style == "chat":
        template = template_of(tokenizer)
        segments = template.prompt(turns) if system is None else template.conversation(system, turns)
        return encode_segments(segments, tokenizer)
    if style == "chatml":
        return list(segment_tokens(_chatml(system, turns, tokenizer), tokenizer))
    if style == "llama2-chat":
        return list(segment_tokens(_llama2(system, turns), tokenizer))
    pairs = [f"{question} {answer}\n\n" for question, answer in zip(turns[::2], turns[1::2], strict=False)]
    text = "".join([*([f"{system}\n\n"] if system else []), *pairs, turns[-1]])
    return list(segment_tokens((Segment(BOS, special=True), Segment(text)), tokenizer))


def _checked(messages: Sequence[ChatMessage]) -> tuple[str | None, list[str]]:
    """The system message, and the contents of the others."""
    system = messages[0].content if messages and messages[0].role == "system" else None
    rest = list(messages[system is not None :])
    if any(message.role != ("user", "assistant")[place % 2] for place, message in enumerate(rest)):
        raise UserError("user and assistant must take turns, with at most one system message before them")
    if len(rest) % 2 == 0:
        raise UserError("the last message must be the user's: it is what is answered")
    return system, [message.content for message in rest]


def _chatml(system: str | None, turns: Sequence[str], tokenizer: PromptTokenizer) -> tuple[Segment, ...]:
    first = default_system(tokenizer.chat_template) if system is None else system
    opening = chatml_message("system", first) if first or system is not None else ()
    said = [chatml_message(("user", "assistant")[place % 2], text) for place, text in enumerate(turns)]
    answer = (Segment(IM_START, special=True), Segment("assistant\n"))
    return tuple(merged([*opening, *(segment for message in said for segment in message), *answer]))


def _llama2(system: str | None, turns: Sequence[str]) -> tuple[Segment, ...]:
    begun = "" if system is None else f"<<SYS>>\n{system}\n<</SYS>>\n\n"
    segments: list[Segment] = []
    for place in range(0, len(turns), 2):
        asked = f"[INST] {begun if place == 0 else ''}{turns[place]} [/INST]"
        segments.append(Segment(BOS, special=True))
        if place + 1 < len(turns):
            segments += [Segment(f"{asked} {turns[place + 1]} "), Segment(EOS, special=True)]
        else:
            segments.append(Segment(asked))
    return tuple(segments)
