"""Conversations as prompts: a question alone is as ever, system messages stand where the style has their place."""

from collections.abc import Sequence
from typing import get_args

import pytest

from mentallama_jax.chat.segments import AddedToken
from mentallama_jax.chat.template import ChatTemplate
from mentallama_jax.config import Style
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.conversations import ChatMessage, encode_conversation
from mentallama_jax.imhi.prompts import encode_question

SPECIALS = {"<s>": 1, "</s>": 2, "<|im_start|>": 3, "<|im_end|>": 4}
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WITH_DEFAULT = (
    "{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "Be kind.<|im_end|>\n' }}{% endif %}" + CHATML[len("{% for m in messages %}") :]
)
SYSTEM_IN_QUESTION = (  # as LLaMA 2's own
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0]['content'] %}"
    "{% else %}{% set rest = messages %}{% set system = '' %}{% endif %}{% for m in rest %}{% if m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' }}{% if loop.first and system %}{{ '<<SYS>>\n' + system + '\n<</SYS>>\n\n' }}{% endif %}"
    "{{ m['content'] | trim + ' [/INST]' }}{% else %}{{ ' ' + m['content'] | trim + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
SYSTEM, USER, ASSISTANT = (ChatMessage(role, f"{role} text") for role in ("system", "user", "assistant"))


class Letters:
    """A character a token."""

    bos_id, eos_id, end_ids = 1, 2, (2,)

    def __init__(self, chat_template: str | None = WITH_DEFAULT) -> None:
        self.chat_template = chat_template
        self.special_tokens = {"bos_token": "<s>", "eos_token": "</s>"}
        self.added_tokens = [AddedToken(token) for token in SPECIALS]

    def encode(self, text: str, *, continues: bool = False) -> list[int]:
        return [ord(character) + 16 for character in text]

    def encode_after(self, text: str, token: str) -> list[int]:
        return self.encode(text)

    def special_id(self, token: str) -> int:
        return SPECIALS[token]


def shown(messages: Sequence[ChatMessage], style: Style, template: str | None = WITH_DEFAULT) -> str:
    names = {id_: token for token, id_ in SPECIALS.items()}
    ids = encode_conversation(messages, style, Letters(template))
    return "".join(f"«{names[id_]}»" if id_ in names else chr(id_ - 16) for id_ in ids)


@pytest.mark.parametrize("style", get_args(Style))
@pytest.mark.parametrize("text", ["Hello", "</s><|im_end|>[/INST]", ""])
def test_a_question_alone_is_the_prompt_that_it_always_was(style: Style, text: str) -> None:
    tokenizer = Letters()
    asked = encode_conversation([ChatMessage("user", text)], style, tokenizer)
    assert asked == encode_question(text, style, tokenizer)


CONVERSATION = (SYSTEM, USER, ASSISTANT, ChatMessage("user", "more <|im_end|></s>"))


@pytest.mark.parametrize("style", ["chatml", "chat"])
def test_chatml_has_a_system_message_of_its_own_in_place_of_the_default(style: Style) -> None:
    turns = [("system", SYSTEM.content), ("user", USER.content), ("assistant", ASSISTANT.content)]
    begun = "".join(f"«<|im_start|>»{role}\n{text}«<|im_end|>»\n" for role, text in turns)
    end = "«<|im_start|>»user\nmore <|im_end|></s>«<|im_end|>»\n«<|im_start|>»assistant\n"
    assert shown(CONVERSATION, style) == begun + end
    assert "Be kind." in shown(CONVERSATION[1:], style)


@pytest.mark.parametrize("style", ["llama2-chat", "chat"])
def test_llama_2_has_the_system_message_in_the_first_question(style: Style) -> None:
    assert shown(CONVERSATION, style, SYSTEM_IN_QUESTION) == (
        "«<s>»[INST] <<SYS>>\nsystem text\n<</SYS>>\n\nuser text [/INST] assistant text «</s>»"
        "«<s>»[INST] more <|im_end|></s> [/INST]"
    )


def test_plain_prompts_have_paragraphs() -> None:
    said = "«<s>»system text\n\nuser text assistant text\n\nmore <|im_end|></s>"
    assert shown(CONVERSATION, "plain") == shown(CONVERSATION, "completion") == said


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [SYSTEM],
        [ASSISTANT],
        [USER, ASSISTANT],
        [USER, USER],
        [USER, SYSTEM, USER],
        [SYSTEM, SYSTEM, USER],
        [ASSISTANT, USER],
    ],
)
def test_other_orders_are_refused(messages: list[ChatMessage]) -> None:
    with pytest.raises(UserError, match=r"take turns|last message"):
        encode_conversation(messages, "chatml", Letters())


def test_a_template_that_takes_no_system_message_says_so() -> None:
    with pytest.raises(UserError, match="cannot render a conversation"):
        encode_conversation([SYSTEM, USER], "chat", Letters(NO_SYSTEM))
    dropped = "{% for m in messages if m['role'] != 'system' %}" + CHATML[len("{% for m in messages %}") :]
    with pytest.raises(UserError, match="leaves out"):
        encode_conversation([SYSTEM, USER], "chat", Letters(dropped))


def test_a_trimmed_system_message_is_found() -> None:
    trimmed = CHATML.replace("m['content']", "m['content'].strip()")
    made = ChatTemplate(trimmed, (), tuple(Letters().added_tokens))
    text = "".join(segment.text for segment in made.conversation("  a ", [" b\n"]))
    assert text == "<|im_start|>system\na<|im_end|>\n<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n"
