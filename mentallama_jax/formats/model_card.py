"""The README.md of an exported model: where it comes from, how it was made, how it scores, what it is not for."""

import json
import re
from collections.abc import Mapping
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


def render_card(card: ModelCard, parameters: int, dtype: str, chat_template: str | None = None) -> str:
    """The Markdown text, with the front matter that the hub reads; `chat_template` is the one that goes with it."""
    front = [
        f"library_name: {card.library}",
        "pipeline_tag: text-generation",
        "language: en",
        f"license: {card.licence}",
    ]
    if card.base_is_hub_id:
        front.append(f"base_model: {card.base_model}")
    front += ["tags:", "- mental-health", "- interpretability", "- llama"]
    made = "Tuned" if card.recipe else "Converted"
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
        cells = [f"{row[c]:.4f}" if isinstance(row.get(c), float) else str(row.get(c, "")) for c in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    signature = json.dumps(scores.get("signature", {}), ensure_ascii=False, sort_keys=True)
    return "\n".join(lines) + f"\n\nFractions of 1. Signature: `{signature}`\n"
