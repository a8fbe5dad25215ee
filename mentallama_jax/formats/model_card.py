"""The README.md of an exported model: where it comes from, how it was made, how it scores, what it is not for."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_INTENDED_USE = """\
## Intended use

Research on natural language processing for mental health. The model answers a question about a post with a label and
an explanation.

**Not for clinical use.** It does not diagnose, and its answers must not decide anything about a person: no screening,
triage, treatment, moderation or employment decision. Labels and explanations can be wrong in either direction, can
sound sure when they are wrong, and repeat the biases of social-media data and of the base model. Do not show its
answers to people in distress.

**If you or somebody near you is in crisis**, call the local emergency number or a crisis line: 988 in the USA (call
or text), 116 123 in the UK and Ireland (Samaritans), 13 11 14 in Australia (Lifeline); <https://findahelpline.com>
lists lines by country.
"""


@dataclass(frozen=True)
class ModelCard:
    """What a card tells besides the model itself.

    Attributes:
        name: title.
        base_model: hub id, preset or file that training started from.
        base_is_hub_id: whether `base_model` can be linked to.
        data: what it was tuned on: label -> value.
        recipe: how: key -> value; empty for a plain conversion.
        scores: contents of a `scores.json`, or None.
        licence: of the weights, as the hub names it.
        notice: the line that the licence wants with every copy; "" for none.
        duties: what the licence asks of those who pass the weights on; "" where unknown.
        style: the style of the prompts it was tuned with; "" for a plain conversion.
        prompt: an example of a prompt as the model sees it; "" for none.
        library: what loads it.
        pipeline: the task, as the hub names it.
        family: of the architecture, a tag.
    """

    name: str
    base_model: str
    base_is_hub_id: bool
    data: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] | None = None
    licence: str = "unknown"
    notice: str = ""
    duties: str = ""
    style: str = ""
    prompt: str = ""
    library: str = "transformers"
    pipeline: str = "text-generation"
    family: str = "llama"


def render_card(card: ModelCard, parameters: int, dtype: str, chat_template: str | None = None) -> str:
    """The Markdown text, with the front matter that the hub reads; `chat_template` is the one that goes with it."""
    front = [f"library_name: {card.library}", f"pipeline_tag: {card.pipeline}", "language: en"]
    front.append(f"license: {card.licence}")
    if card.base_is_hub_id:
        front.append(f"base_model: {card.base_model}")
    front += ["tags:", "- mental-health", "- interpretability", f"- {card.family}"]
    made = "Tuned" if card.recipe else "Converted"
    front.append(f"model_name: {json.dumps(card.name, ensure_ascii=False)}")
    sections = [
        "---\n" + "\n".join(front) + "\n---\n",
        f"# {card.name}\n",
        f"{made} with mentallama_jax. {parameters:,} parameters, stored as {dtype}.\n",
        "## Base model\n\n" + f"`{card.base_model}`\n",
    ]
    if card.data:
        sections.append("## Data\n\n" + _rows("", card.data))
    if card.recipe:
        sections.append("## Recipe\n\n" + _rows("key", card.recipe))
    if card.scores is not None:
        sections.append("## Scores\n\n" + _scores(card.scores))
    if card.prompt or chat_template:
        sections.append("## Prompt\n\n" + _prompt(card, chat_template))
    sections.append("## Usage\n\n" + _usage(card, has_template=chat_template is not None))
    sections.append("## Licence\n\n" + _licence(card))
    return "\n".join([*sections, _INTENDED_USE])


def _prompt(card: ModelCard, chat_template: str | None) -> str:
    parts = []
    if card.prompt:
        style = f" (style `{card.style}`)" if card.style else ""
        parts.append(
            f"The model was tuned with prompts of this very wording{style}; another wording costs accuracy. The answer "
            f"follows at the end. An example:\n\n{_fenced(card.prompt)}"
        )
    if chat_template:
        parts.append(f"The chat template of the tokenizer:\n\n{_fenced(chat_template, 'jinja')}")
    return "\n".join(parts)


def _usage(card: ModelCard, *, has_template: bool) -> str:
    """A program that asks the model, with the example of the prompt where there is one."""
    asked = "..." if not card.prompt else card.prompt
    special = "add_special_tokens=False)  # the prompt has its own" if _has_start(asked) else "add_special_tokens=True)"
    writes_targets = card.pipeline == "text2text-generation"
    begin = "" if writes_targets else ', tokens["input_ids"].shape[1] :'
    if writes_targets:  # some tokenizers of encoders number texts as well, which those models do not read
        special = f"return_token_type_ids=False, {special}"
    lines = [
        *_loading(card, "AutoModelForSeq2SeqLM" if writes_targets else "AutoModelForCausalLM"),
        f"prompt = {asked!r}  # as in the section above, with the post to ask about",
        f'tokens = tokenizer(prompt, return_tensors="pt", {special}',
        "answer = model.generate(**tokens, max_new_tokens=256, do_sample=False)",
        f"print(tokenizer.decode(answer[0{begin}], skip_special_tokens=True))",
    ]
    told = "\nFor conversations, `tokenizer.apply_chat_template` makes the same prompts.\n" if has_template else ""
    return _fenced("\n".join(lines), "python") + told


def _loading(card: ModelCard, model: str) -> list[str]:
    """The lines that load it; an adapter's folder has no tokenizer of its own."""
    folder = f"folder = {card.name!r}  # this folder, or the name under which it was uploaded"
    if card.library == "peft":
        return [
            "from peft import AutoPeftModelForCausalLM",
            "from transformers import AutoTokenizer",
            "",
            folder,
            f"tokenizer = AutoTokenizer.from_pretrained({card.base_model!r})",
            "model = AutoPeftModelForCausalLM.from_pretrained(folder)",
        ]
    return [
        f"from transformers import {model}, AutoTokenizer",
        "",
        folder,
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        f"model = {model}.from_pretrained(folder)",
    ]


def _has_start(prompt: str) -> bool:
    return prompt.startswith(("<s>", "<|"))


def _licence(card: ModelCard) -> str:
    if card.notice or card.duties:
        return f"{card.notice}\n\n{card.duties}"
    return (
        "The licence of the base model applies to these weights. It is not known here: put its name into `license` at "
        "the head of this file before you pass the model on.\n"
    )


def _fenced(text: str, language: str = "text") -> str:
    """A code block around `text`, whatever fences it has in itself."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}\n"


def _rows(heading: str, values: Mapping[str, Any]) -> str:
    lines = [f"| {heading} | value |", "|---|---|"]
    lines += [f"| {key} | {_cell(value)} |" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _scores(scores: Mapping[str, Any]) -> str:
    columns = ("n", "accuracy", "weighted_f1", "macro_f1", "unparsed")
    lines = [f"| data set | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in scores.get("datasets", {}).items():
        lines.append(f"| {_cell(name)} | {' | '.join(_figure(row, column) for column in columns)} |")
    text = "\n".join(lines) + "\n\nFractions of 1; in brackets the interval over posts, where it was computed.\n"
    signature = scores.get("signature")
    if isinstance(signature, Mapping) and signature:
        text += "\nHow they came about (the signature of `scores.json`):\n\n" + _rows(
            "signature", dict(_flat(signature))
        )
    return text


def _figure(row: Mapping[str, Any], name: str) -> str:
    """A figure of a data set, with its interval where there is one."""
    value, interval = row.get(name), row.get(f"{name}_interval")
    text = f"{value:.4f}" if isinstance(value, float) else _cell("" if value is None else value)
    if isinstance(interval, list | tuple) and len(interval) == 2 and all(isinstance(end, float) for end in interval):
        text += f" ({interval[0]:.3f} to {interval[1]:.3f})"
    return text


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of nested mappings, each with the names on the way to it."""
    for name, value in sorted(values.items()):
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{_cell(name)}", value
