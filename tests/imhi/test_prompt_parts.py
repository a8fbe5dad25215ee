"""The zero-shot prompt is the sum of its parts, whatever a post spells."""

from pathlib import Path

import pytest
from test_prompts import STYLES, CharacterTokenizer, text

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.prompt_parts import PromptParts, read_prompt_parts
from mentallama_jax.imhi.prompting import Prompting
from mentallama_jax.imhi.prompts import encode_prompt, render
from mentallama_jax.imhi.records import Record

STRESS = Record("dreaddit/test/1", "dreaddit", "My {question} is late again.", "yes", "Lateness.", split="test")
RISK = Record("IRF/test/1", "IRF", "Nobody calls.", "no", "", "thwarted belongingness", "test")


def test_the_default_prompt_is_text_s_q_and_constraint() -> None:
    assert PromptParts().query(STRESS) == (
        'Post: "My {question} is late again."\n'
        "As a psychologist, read this post and answer the question.\n"
        "Question: Does the poster suffer from stress?\n"
        'Begin with one of these sentences: "Yes, the poster suffers from stress." '
        '"No, the poster does not suffer from stress." Then write "Reasoning:" and explain why.'
    )


def test_each_part_can_be_worded_or_left_out(tmp_path: Path) -> None:
    place = tmp_path / "prompt.yaml"
    place.write_text(
        "text: 'This person wrote: {post}'\nspecification:\nquestion: 'About {aspect}: {question}'\n"
        "constraint: 'Only return {labels}.'\nbetween: ' '\n"
    )
    parts = read_prompt_parts(str(place))
    assert parts.query(RISK) == (
        "This person wrote: Nobody calls. About thwarted belongingness: Does the post show risk of thwarted "
        "belongingness? Only return yes, no."
    )
    place.write_text("question: '{question}'\n")
    assert read_prompt_parts(str(place)) == PromptParts(question="{question}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("part_s: x\n", r"unknown key 'part_s' \(known: text, specification"),
        ("question: '{quest}'\n", r"question: \{quest\} is nothing that a row brings"),
        ("between: '{post}'\n", r"between: \{post\}"),
        ("text: nothing\n", r"text: has to show the post"),
        ("constraint: '{post}'\n", r"constraint: the post stands in `text` alone"),
        ("question: [a]\n", r"question: expected a text"),
        ("- a\n", r"expected keys with texts"),
        ("a: &x 1\n", r"anchors"),
    ],
)
def test_wordings_that_are_none_are_refused_by_their_place(tmp_path: Path, content: str, said: str) -> None:
    place = tmp_path / "prompt.yaml"
    place.write_text(content)
    with pytest.raises(UserError, match=rf"^{place}.*{said}"):
        read_prompt_parts(str(place))
    with pytest.raises(UserError, match=r"no such file; --prompt takes instruction, zero-shot"):
        read_prompt_parts(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize("style", [style for style in STYLES if style != "completion"])
def test_parts_stand_where_the_instruction_stands_in_every_style(style) -> None:
    parts = PromptParts(text="<{post}>", specification="S", question="Q", constraint="C", between="+")
    instruction = text(RISK, style)
    query = 'Consider this post: "Nobody calls." Question: Does the post show risk of thwarted belongingness?'
    rendered = render(RISK, style, query=parts.query)
    assert query in instruction
    assert rendered.text + rendered.response == instruction.replace(query, "<Nobody calls.>+S+Q+C")


def test_only_the_post_is_cut_and_the_completion_style_keeps_its_wording() -> None:
    prompting, tokenizer = Prompting(PromptParts().query), CharacterTokenizer()
    whole = encode_prompt(STRESS, "plain", tokenizer, 10_000, query=PromptParts().query).tokens
    cut = prompting.ask(STRESS, "plain", tokenizer, len(whole) - 7).prompt
    assert tokenizer.show(cut.tokens) == tokenizer.show(whole).replace(" again.", "")
    with pytest.raises(UserError, match=r"completion has a wording of its own"):
        prompting.ask(STRESS, "completion", tokenizer, 10_000)
