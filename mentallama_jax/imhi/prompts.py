"""One renderer from a record to text and tokens, for training, evaluation and generation alike.

Styles:
    plain: BOS, the instruction query; the response follows after a blank. Few-shot examples are joined by empty lines.
    completion: BOS, the completion query of the test files; the same with its shorter wording. The blank that ends
        the query opens the response, so that the answer's first token is a whole word.
    llama2-chat: `<s>[INST] query [/INST] response </s>`, a turn with its own `<s>` for each few-shot example. No
        system prompt. `[INST]` is no token of its own in LLaMA 2: inside a post it looks like the real one.
    chatml: `<|im_start|>user\\nquery<|im_end|>\\n<|im_start|>assistant\\nresponse<|im_end|>`, with the default system
        message in front where the tokenizer's own chat template puts one: it is then token for token what
        `apply_chat_template` renders, so that an exported model answers as tuned. No BOS.
    chat: the chat template that comes with the tokenizer, so that any chat model is prompted as it was trained.

Prompt and response are tokenised apart and joined, in training and generation alike, so the loss mask follows
from a count of tokens and never from a search in text. Text of a record is never read as a special token.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from mentallama_jax.chat.segments import Segment, SegmentTokenizer, encode_segments, last_segment, merged
from mentallama_jax.chat.template import template_of
from mentallama_jax.config import Style
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import Task
from mentallama_jax.imhi.wording import (
    Query,
    completion_query,
    completion_response,
    instruction_query,
    instruction_response,
    need_label,
)

BOS = "<s>"
EOS = "</s>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"

EXAMPLE = Record(
    "example", "DR", "I have not left my room in two weeks and I see no point in trying.", "yes", "", split="test"
)
_PLAIN_TEMPLATE = (
    "{{ BOS }}{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'] + '\\n\\n' }}{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
)
_TEMPLATES: dict[Style, str] = {
    "plain": _PLAIN_TEMPLATE,
    "completion": _PLAIN_TEMPLATE,
    "llama2-chat": (
        "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ ' ' + message['content'] + ' ' + "
        "eos_token }}{% else %}{{ BOS + '[INST] ' + message['content'] + ' [/INST]' }}"
        "{% endif %}{% endfor %}"
    ),
    "chatml": (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
        "'<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
}
_DEFAULT_SYSTEM = re.compile(r"<\|im_start\|>system(?:\\n|\n)([^'\"{}]*?)<\|im_end\|>")


class PromptTokenizer(SegmentTokenizer, Protocol):
    """What rendering needs of a tokenizer."""

    @property
    def bos_id(self) -> int | None:
        """The beginning-of-text token, or None where the model has none."""

    @property
    def eos_id(self) -> int:
        """The token that ends a text."""

    @property
    def end_ids(self) -> Sequence[int]:
        """Every token that ends an answer by the files of the model, `eos_id` among them."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt and the response that should follow it, up to the end token."""

    prompt: tuple[Segment, ...]
    response: str

    @property
    def text(self) -> str:
        """The prompt as one string, special tokens by their spelling; for people to read."""
        return "".join(segment.text for segment in self.prompt)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Tokens of a prompt, or of a prompt with its response.

    Attributes:
        tokens: token ids, BOS included where the style has one.
        targets: which of them are to be learnt: [start, stop) of each stretch, the end token of an answer included.
        truncated: tokens that the end of the post lost to fit.
    """

    tokens: list[int]
    targets: tuple[tuple[int, int], ...]
    truncated: int


def label_answers(task: Task, style: Style, opening: str = "") -> dict[str, str]:
    """Canonical label -> how a response of `style` that gives this label begins, leading blank included.

    In the style chat, `opening` is that blank (see `answer_opening`).
    """
    if style == "completion":
        return {label: f" {word}." for label, word in task.completion_words.items()}
    return {label: f"{_blank(style, opening)}{sentence}" for label, sentence in task.sentences.items()}


def answer_blank(style: Style, tokenizer: PromptTokenizer) -> str:
    """What stands between a prompt and the first word of a response."""
    return _blank(style, answer_opening(style, tokenizer))


def _blank(style: Style, opening: str) -> str:
    return opening if style == "chat" else "" if style == "chatml" else " "


def answer_opening(style: Style, tokenizer: PromptTokenizer) -> str:
    """The blanks with which a response begins where the tokenizer's own template decides; else ""."""
    return template_of(tokenizer).opening if style == "chat" else ""


def encode_answer(text: str, style: Style, tokenizer: PromptTokenizer) -> list[int]:
    """Tokens of a response, or of its beginning, where it follows a prompt of `style`."""
    if style != "chat":
        return tokenizer.encode(text, continues=True)
    before = last_segment(template_of(tokenizer).prompt(["?"]), tokenizer)
    return encode_segments([Segment(text)], tokenizer, before)


def default_system(chat_template: str | None) -> str:
    """The system message that a ChatML template puts in front where a conversation has none; "" where it does not."""
    found = _DEFAULT_SYSTEM.search(chat_template or "")
    return found.group(1).replace("\\n", "\n") if found else ""


def render(
    record: Record,
    style: Style,
    examples: Sequence[Record] = (),
    *,
    system: str = "",
    query: Query = instruction_query,
) -> Rendered:
    """Render a record as text.

    Args:
        record: the question to answer.
        style: see the module's description; not chat, which a tokenizer's template renders (see `encode_prompt`).
        examples: few-shot examples, shown with their gold responses before the question.
        system: system message of the chatml style, see `default_system`; "" for none. The other styles have none.
        query: words the question and those of the examples; the style completion has a wording of its own.

    Returns:
        The prompt in segments (never two of plain text in a row) and the gold response; "" where there is no gold.
    """
    if not record.label:
        # Any label will do for the prompt, which does not hold it.
        asked = render(replace(record, label=record.task.labels[0]), style, examples, system=system, query=query)
        return replace(asked, response="")
    if style == "llama2-chat":
        turns = [
            segment for example in examples for segment in (*_llama2_turn(example, query), Segment(EOS, special=True))
        ]
        return Rendered((*turns, *_llama2_prompt(query(record))), f" {instruction_response(record)} ")
    if style == "chatml":
        opening = chatml_message("system", system) if system else ()
        turns = [
            segment
            for example in examples
            for segment in (
                *chatml_message("user", query(example)),
                *chatml_message("assistant", instruction_response(example)),
            )
        ]
        question = chatml_message("user", query(record))
        answer = (Segment(IM_START, special=True), Segment("assistant\n"))
        return Rendered(tuple(merged((*opening, *turns, *question, *answer))), instruction_response(record))
    pairs = [_plain_pair(shown, style, query) for shown in (*examples, record)]
    text = "".join(f"{question}{response}\n\n" for question, response in pairs[:-1]) + pairs[-1][0]
    return Rendered((Segment(BOS, special=True), Segment(text)), pairs[-1][1])


def end_id(style: Style, tokenizer: PromptTokenizer) -> int:
    """The token that ends a response of `style`: a target in training, the stop in generation."""
    if style == "chat":
        end = template_of(tokenizer).end
        return tokenizer.eos_id if end is None else tokenizer.special_id(end)
    return tokenizer.special_id(IM_END) if style == "chatml" else tokenizer.eos_id


def stop_ids(style: Style, tokenizer: PromptTokenizer) -> tuple[int, ...]:
    """Every token at which an answer of `style` stops: its own end, and the ends that the files of the model name."""
    return tuple(sorted({end_id(style, tokenizer), *tokenizer.end_ids}))


def style_template(style: Style, tokenizer: PromptTokenizer) -> str | None:
    """The chat template that renders prompts of `style`; None where that of the tokenizer does so already."""
    if style == "chat" or (style == "chatml" and IM_START in (tokenizer.chat_template or "")):
        return None
    return _TEMPLATES[style].replace("BOS", "''" if tokenizer.bos_id is None else "bos_token")


def example_chat(style: Style, tokenizer: PromptTokenizer) -> tuple[list[dict[str, str]], list[int]]:
    """Messages of a conversation that ends with a question, and the tokens of its prompt in `style`."""
    question = completion_query(EXAMPLE).removesuffix(" ") if style == "completion" else instruction_query(EXAMPLE)
    ids = encode_prompt(EXAMPLE, style, tokenizer, 1 << 20).tokens
    return [{"role": "user", "content": question}], ids


def example_prompt(style: Style, tokenizer: PromptTokenizer) -> str:
    """A prompt of `style` as text, for people to read; post and question are made up."""
    if style == "chat":
        return "".join(segment.text for segment in template_of(tokenizer).prompt(_contents(EXAMPLE, ())))
    system = default_system(tokenizer.chat_template) if style == "chatml" else ""
    return render(EXAMPLE, style, system=system).text


def encode_prompt(
    record: Record,
    style: Style,
    tokenizer: PromptTokenizer,
    max_length: int,
    examples: Sequence[Record] = (),
    query: Query = instruction_query,
) -> Encoded:
    """Tokens of a prompt, at most `max_length`; a longer post loses its end, inside its quotes.

    Raises:
        UserError: the prompt is too long even with an empty post.
    """
    return _fit(record, style, tokenizer, max_length, examples, [], query)


def encode_question(text: str, style: Style, tokenizer: PromptTokenizer) -> list[int]:
    """Tokens of a prompt of `style` that asks `text`, whatever that is; the text is not cut."""
    if style == "chat":
        return encode_segments(template_of(tokenizer).prompt([text]), tokenizer)
    begin = Segment(BOS, special=True)
    if style == "chatml":
        system = default_system(tokenizer.chat_template)
        opening = chatml_message("system", system) if system else ()
        answer = (Segment(IM_START, special=True), Segment("assistant\n"))
        return list(segment_tokens(tuple(merged((*opening, *chatml_message("user", text), *answer))), tokenizer))
    return list(
        segment_tokens((begin, Segment(f"[INST] {text} [/INST]" if style == "llama2-chat" else text)), tokenizer)
    )


def encode_example(
    record: Record, style: Style, tokenizer: PromptTokenizer, max_length: int, examples: Sequence[Record] = ()
) -> Encoded:
    """Tokens of prompt, gold response and end token, at most `max_length` together; only the post can be cut.

    Raises:
        UserError: prompt and response are too long even with an empty post.
    """
    need_label(record)
    if style == "chat":
        answer = _chat_answer(_contents(record, examples), instruction_response(record), tokenizer)
    else:
        answer = _ended(render(record, style).response, style, tokenizer)
    return _fit(record, style, tokenizer, max_length, examples, answer)


def encode_reply(question: str, text: str, style: Style, tokenizer: PromptTokenizer) -> list[int]:
    """Tokens of an answer to a question, whatever they are, with its end; `encode_example` has the same of gold."""
    if style == "chat":
        return _chat_answer([question], text, tokenizer)
    closing = " " if style == "llama2-chat" else ""
    return _ended(f"{answer_blank(style, tokenizer)}{text}{closing}", style, tokenizer)


def _ended(response: str, style: Style, tokenizer: PromptTokenizer) -> list[int]:
    return [*tokenizer.encode(response, continues=True), end_id(style, tokenizer)]


def _fit(
    record: Record,
    style: Style,
    tokenizer: PromptTokenizer,
    max_length: int,
    examples: Sequence[Record],
    answer: list[int],
    query: Query = instruction_query,
) -> Encoded:
    system = default_system(tokenizer.chat_template) if style == "chatml" else ""

    def prompt(characters: int) -> list[int]:
        cut = replace(record, post=record.post[:characters])
        if style == "chat":
            return encode_segments(template_of(tokenizer).prompt(_contents(cut, examples, query)), tokenizer)
        return list(segment_tokens(render(cut, style, examples, system=system, query=query).prompt, tokenizer))

    room = max_length - len(answer)
    whole = prompt(len(record.post))
    if len(whole) <= room:
        return _encoded(whole, answer, 0)
    best = prompt(0)
    if len(best) > room:
        needed = len(best) + len(answer)
        raise UserError(f"{record.id}: needs {needed} tokens even with an empty post; {max_length} are allowed")
    # Characters are cut, not tokens, so that the prompt stays what the tokenizer makes of a text.
    fits, too_long = 0, len(record.post)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        tokens = prompt(middle)
        if len(tokens) <= room:
            fits, best = middle, tokens
        else:
            too_long = middle
    return _encoded(best, answer, len(whole) - len(best))


def _encoded(prompt: list[int], answer: list[int], truncated: int) -> Encoded:
    end = len(prompt) + len(answer)
    return Encoded(prompt + answer, ((len(prompt), end),) if answer else (), truncated)


def _contents(record: Record, examples: Sequence[Record], query: Query = instruction_query) -> list[str]:
    """The contents of a conversation: questions and answers of the examples in turns, then the question."""
    shown = [text for example in examples for text in (query(example), instruction_response(example))]
    return [*shown, query(record)]


def _chat_answer(contents: Sequence[str], response: str, tokenizer: PromptTokenizer) -> list[int]:
    """Tokens of a response to the prompt of these contents, as the template writes it, with its end."""
    template = template_of(tokenizer)
    segments = template.answer(contents, response)
    ids = encode_segments(segments, tokenizer, last_segment(template.prompt(contents), tokenizer))
    return ids if template.end is not None else [*ids, tokenizer.eos_id]


def segment_tokens(segments: Sequence[Segment], tokenizer: PromptTokenizer) -> Iterator[int]:
    """Token ids of segments that begin a text, BOS and EOS in the tokenizer's own spelling."""
    before = BOS
    for segment in segments:
        if not segment.special:
            # A text begins anew behind BOS, also in the middle of a conversation.
            yield from tokenizer.encode(segment.text) if before == BOS else tokenizer.encode_after(segment.text, before)
            continue
        before = segment.text
        if segment.text != BOS:
            yield tokenizer.eos_id if segment.text == EOS else tokenizer.special_id(segment.text)
        elif tokenizer.bos_id is not None:
            yield tokenizer.bos_id


def _plain_pair(record: Record, style: Style, query: Query) -> tuple[str, str]:
    if style == "completion":
        return completion_query(record).removesuffix(" "), f" {completion_response(record)}"
    return query(record), f" {instruction_response(record)}"


def _llama2_prompt(question: str) -> tuple[Segment, Segment]:
    return Segment(BOS, special=True), Segment(f"[INST] {question} [/INST]")


def _llama2_turn(record: Record, query: Query) -> tuple[Segment, Segment]:
    begin, asked = _llama2_prompt(query(record))
    return begin, Segment(f"{asked.text} {instruction_response(record)} ")


def chatml_message(role: str, content: str) -> tuple[Segment, ...]:
    """A message of ChatML with its end."""
    return Segment(IM_START, special=True), Segment(f"{role}\n{content}"), Segment(IM_END, special=True), Segment("\n")
