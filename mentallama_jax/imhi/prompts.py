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

Prompt and response are tokenised apart and joined, in training and generation alike, so the loss mask follows
from a count of tokens and never from a search in text. Text of a record is never read as a special token.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from mentallama_jax.config import Style
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.gold import REASONING
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import Task

BOS = "<s>"
EOS = "</s>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"

_EXAMPLE = Record(
    "example", "DR", "I have not left my room in two weeks and I see no point in trying.", "yes", "", split="test"
)
_DEFAULT_SYSTEM = re.compile(r"<\|im_start\|>system(?:\\n|\n)([^'\"{}]*?)<\|im_end\|>")


class PromptTokenizer(Protocol):
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

    @property
    def chat_template(self) -> str | None:
        """The Jinja template that comes with the model, if any."""

    def encode(self, text: str, *, continues: bool = False) -> list[int]:
        """Tokens of plain text, nothing added; `continues` says that text goes before it."""

    def special_id(self, token: str) -> int:
        """The id of a special token by its spelling; a `UserError` where absent."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a prompt: plain text, or one special token (`<s>` and `</s>` stand for any BOS and EOS)."""

    text: str
    special: bool = False


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
        prompt_length: how many of them are the prompt; the others are targets, the end token included.
        truncated: tokens that the end of the post lost to fit.
    """

    tokens: list[int]
    prompt_length: int
    truncated: int


def instruction_query(record: Record) -> str:
    """The query of the instruction format."""
    return f'Consider this post: "{record.post}" Question: {record.task.question.format(aspect=record.aspect)}'


def instruction_response(record: Record) -> str:
    """The gold response of the instruction format; the label sentence alone where there is no explanation."""
    return _with_reasoning(record.task.sentences[record.label], record.explanation)


def completion_query(record: Record) -> str:
    """The query of the completion format as the test files have it, ending in a blank."""
    return f"Post: {record.post}  Question: {record.task.completion_prefix.format(aspect=record.aspect)} "


def completion_response(record: Record) -> str:
    """The gold response of the completion format; the label alone where there is no explanation."""
    return _with_reasoning(f"{record.task.completion_words[record.label]}.", record.explanation)


def label_answers(task: Task, style: Style) -> dict[str, str]:
    """Canonical label -> how a response of `style` that gives this label begins, leading blank included."""
    if style == "completion":
        return {label: f" {word}." for label, word in task.completion_words.items()}
    blank = "" if style == "chatml" else " "
    return {label: f"{blank}{sentence}" for label, sentence in task.sentences.items()}


def default_system(chat_template: str | None) -> str:
    """The system message that a ChatML template puts in front where a conversation has none; "" where it does not."""
    found = _DEFAULT_SYSTEM.search(chat_template or "")
    return found.group(1).replace("\\n", "\n") if found else ""


def render(record: Record, style: Style, examples: Sequence[Record] = (), *, system: str = "") -> Rendered:
    """Render a record as text.

    Args:
        record: the question to answer.
        style: see the module's description.
        examples: few-shot examples, shown with their gold responses before the question.
        system: system message of the chatml style, see `default_system`; "" for none. The other styles have none.

    Returns:
        The prompt in segments (never two of plain text in a row) and the gold response.
    """
    if style == "llama2-chat":
        turns = [segment for example in examples for segment in (*_llama2_turn(example), Segment(EOS, special=True))]
        return Rendered((*turns, *_llama2_prompt(record)), f" {instruction_response(record)} ")
    if style == "chatml":
        opening = _chatml_message("system", system) if system else ()
        turns = [
            segment
            for example in examples
            for segment in (
                *_chatml_message("user", instruction_query(example)),
                *_chatml_message("assistant", instruction_response(example)),
            )
        ]
        question = _chatml_message("user", instruction_query(record))
        answer = (Segment(IM_START, special=True), Segment("assistant\n"))
        return Rendered(tuple(_merged((*opening, *turns, *question, *answer))), instruction_response(record))
    pairs = [_plain_pair(shown, style) for shown in (*examples, record)]
    text = "".join(f"{query}{response}\n\n" for query, response in pairs[:-1]) + pairs[-1][0]
    return Rendered((Segment(BOS, special=True), Segment(text)), pairs[-1][1])


def end_id(style: Style, tokenizer: PromptTokenizer) -> int:
    """The token that ends a response of `style`: a target in training, the stop in generation."""
    return tokenizer.special_id(IM_END) if style == "chatml" else tokenizer.eos_id


def stop_ids(style: Style, tokenizer: PromptTokenizer) -> tuple[int, ...]:
    """Every token at which an answer of `style` stops: its own end, and the ends that the files of the model name."""
    return tuple(sorted({end_id(style, tokenizer), *tokenizer.end_ids}))


def example_prompt(style: Style, tokenizer: PromptTokenizer) -> str:
    """A prompt of `style` as text, for people to read; post and question are made up."""
    system = default_system(tokenizer.chat_template) if style == "chatml" else ""
    return render(_EXAMPLE, style, system=system).text


def encode_prompt(
    record: Record, style: Style, tokenizer: PromptTokenizer, max_length: int, examples: Sequence[Record] = ()
) -> Encoded:
    """Tokens of a prompt, at most `max_length`; a longer post loses its end, inside its quotes.

    Raises:
        UserError: the prompt is too long even with an empty post.
    """
    return _fit(record, style, tokenizer, max_length, examples, answer=[])


def encode_example(
    record: Record, style: Style, tokenizer: PromptTokenizer, max_length: int, examples: Sequence[Record] = ()
) -> Encoded:
    """Tokens of prompt, gold response and end token, at most `max_length` together; only the post can be cut.

    Raises:
        UserError: prompt and response are too long even with an empty post.
    """
    response = render(record, style).response
    answer = [*tokenizer.encode(response, continues=True), end_id(style, tokenizer)]
    return _fit(record, style, tokenizer, max_length, examples, answer)


def _fit(
    record: Record,
    style: Style,
    tokenizer: PromptTokenizer,
    max_length: int,
    examples: Sequence[Record],
    answer: list[int],
) -> Encoded:
    system = default_system(tokenizer.chat_template) if style == "chatml" else ""

    def prompt(characters: int) -> list[int]:
        cut = replace(record, post=record.post[:characters])
        return list(_tokens(render(cut, style, examples, system=system).prompt, tokenizer))

    room = max_length - len(answer)
    whole = prompt(len(record.post))
    if len(whole) <= room:
        return Encoded(whole + answer, len(whole), 0)
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
    return Encoded(best + answer, len(best), len(whole) - len(best))


def _tokens(segments: Sequence[Segment], tokenizer: PromptTokenizer) -> Iterator[int]:
    continues = False
    for segment in segments:
        if not segment.special:
            yield from tokenizer.encode(segment.text, continues=continues)
            continues = True
        elif segment.text == BOS:
            # A text begins anew behind BOS, also in the middle of a conversation.
            continues = False
            if tokenizer.bos_id is not None:
                yield tokenizer.bos_id
        else:
            continues = True
            yield tokenizer.eos_id if segment.text == EOS else tokenizer.special_id(segment.text)


def _with_reasoning(answer: str, explanation: str) -> str:
    return f"{answer} {REASONING} {explanation}" if explanation else answer


def _plain_pair(record: Record, style: Style) -> tuple[str, str]:
    if style == "completion":
        return completion_query(record).removesuffix(" "), f" {completion_response(record)}"
    return instruction_query(record), f" {instruction_response(record)}"


def _llama2_prompt(record: Record) -> tuple[Segment, Segment]:
    return Segment(BOS, special=True), Segment(f"[INST] {instruction_query(record)} [/INST]")


def _llama2_turn(record: Record) -> tuple[Segment, Segment]:
    begin, query = _llama2_prompt(record)
    return begin, Segment(f"{query.text} {instruction_response(record)} ")


def _chatml_message(role: str, content: str) -> tuple[Segment, ...]:
    return Segment(IM_START, special=True), Segment(f"{role}\n{content}"), Segment(IM_END, special=True), Segment("\n")


def _merged(segments: Sequence[Segment]) -> Iterator[Segment]:
    """Join neighbours of plain text, which a tokenizer must see as one."""
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
