"""Few-shot prompts: what they look like, what they lose where there is no room, and what they have in common."""

import pytest
from test_prompts import SMOLLM_SYSTEM, SMOLLM_TEMPLATE, CharacterTokenizer

from mentallama_jax.imhi.prompt_parts import PromptParts
from mentallama_jax.imhi.prompting import Prompting, examples_digest
from mentallama_jax.imhi.prompts import encode_prompt
from mentallama_jax.imhi.records import Record

TOKENIZER = CharacterTokenizer()
NO_LIMIT = 100_000
QUESTION = Record("q", "dreaddit", "The bus left without me again.", "yes", "", split="test")
OTHER = Record("r", "dreaddit", "A short walk.", "no", "", split="test")
EXAMPLES = tuple(
    Record(f"e{n}", "dreaddit", f"Post number {n}.", label, f"Reason {n}.", split="train")
    for n, label in enumerate(("yes", "no", "no", "yes"))
)
FEW = Prompting(examples={"q": EXAMPLES, "r": EXAMPLES})
ASKED = "Question: Does the poster suffer from stress?"


def test_plain_examples_are_blocks_of_text_in_front() -> None:
    few = Prompting(examples={"q": EXAMPLES[:2]})
    asked = few.ask(QUESTION, "plain", TOKENIZER, NO_LIMIT)
    assert TOKENIZER.show(asked.prompt.tokens) == (
        "«1»▁"
        f'Consider this post: "Post number 0." {ASKED} Yes, the poster suffers from stress. Reasoning: Reason 0.\n\n'
        f'Consider this post: "Post number 1." {ASKED} No, the poster does not suffer from stress. Reasoning: Reason 1.'
        f'\n\nConsider this post: "The bus left without me again." {ASKED}'
    )
    assert asked.examples == ("e0", "e1")


def test_examples_of_a_chat_are_earlier_turns_in_the_same_wording() -> None:
    parts = PromptParts(text="<{post}>", specification="", question="{question}", constraint="Only {labels}.")
    few = Prompting(parts.query, {"q": EXAMPLES[:1]})
    tokenizer = CharacterTokenizer(chat_template=SMOLLM_TEMPLATE)
    shown = tokenizer.show(few.ask(QUESTION, "chatml", tokenizer, NO_LIMIT).prompt.tokens)
    question = "Does the poster suffer from stress?\nOnly yes, no."
    assert shown == (
        f"«3»system\n{SMOLLM_SYSTEM}«4»\n"
        f"«3»user\n<Post number 0.>\n{question}«4»\n"
        "«3»assistant\nYes, the poster suffers from stress. Reasoning: Reason 0.«4»\n"
        f"«3»user\n<The bus left without me again.>\n{question}«4»\n«3»assistant\n"
    )


@pytest.mark.parametrize("style", ["plain", "chatml", "llama2-chat", "completion"])
def test_whole_examples_go_before_the_post_is_cut(style) -> None:
    lengths = [
        len(Prompting(examples={"q": EXAMPLES[:count]}).ask(QUESTION, style, TOKENIZER, NO_LIMIT).prompt.tokens)
        for count in range(5)
    ]
    assert lengths == sorted(lengths)
    for room in range(lengths[0] - 5, lengths[4] + 2):
        asked = FEW.ask(QUESTION, style, TOKENIZER, room)
        kept = sum(length <= room for length in lengths[1:])
        assert asked.examples == tuple(example.id for example in EXAMPLES[:kept])
        assert len(asked.prompt.tokens) <= room
        assert (asked.prompt.truncated > 0) == (room < lengths[0])
    whole = encode_prompt(QUESTION, style, TOKENIZER, lengths[0] - 5)
    assert FEW.ask(QUESTION, style, TOKENIZER, lengths[0] - 5).prompt == whole


def test_the_nearest_example_stands_last_and_goes_last() -> None:
    nearest = Prompting(examples={"q": EXAMPLES}, choice="nearest")
    asked = nearest.ask(QUESTION, "plain", TOKENIZER, NO_LIMIT)
    assert asked.examples == ("e3", "e2", "e1", "e0")
    assert nearest.ask(QUESTION, "plain", TOKENIZER, len(asked.prompt.tokens) - 1).examples == ("e2", "e1", "e0")


def test_prompts_with_the_same_examples_begin_with_the_same_tokens() -> None:
    asked = [FEW.ask(record, "chatml", TOKENIZER, NO_LIMIT).prompt.tokens for record in (QUESTION, OTHER)]
    examples = len(asked[0]) - len(Prompting().ask(QUESTION, "chatml", TOKENIZER, NO_LIMIT).prompt.tokens)
    assert examples > 500
    assert asked[0][:examples] == asked[1][:examples]


@pytest.mark.parametrize("style", ["plain", "completion"])
def test_a_question_that_the_model_makes_up_after_its_answer_is_none_of_it(style) -> None:
    asked = FEW.ask(QUESTION, style, TOKENIZER, NO_LIMIT)
    beginning = {"plain": 'Consider this post: "', "completion": "Post: "}[style]
    assert asked.answer_in(f"No. Reasoning: a\n\nb\n\n{beginning}c") == "No. Reasoning: a\n\nb"
    assert asked.answer_in("No. Reasoning: a\n\nb") == "No. Reasoning: a\n\nb"
    alone = Prompting().ask(QUESTION, style, TOKENIZER, NO_LIMIT)
    assert alone.answer_in(f"a\n\n{beginning}c") == f"a\n\n{beginning}c"
    chat = FEW.ask(QUESTION, "chatml", TOKENIZER, NO_LIMIT)
    assert chat.answer_in(f"a\n\n{beginning}c") == f"a\n\n{beginning}c"


def test_the_digest_of_examples_changes_with_what_they_show() -> None:
    changed = Record("e0", "dreaddit", "Post number 0.", "yes", "Reason.", split="train")
    assert examples_digest(EXAMPLES) != examples_digest([changed, *EXAMPLES[1:]])
    assert examples_digest(EXAMPLES) == examples_digest(list(EXAMPLES))
