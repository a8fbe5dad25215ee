"""The README.md of an exported model: where it comes from, how it was made, how it scores, what it is not for."""

import json
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
    """

    name: str
    base_model: str
    base_is_hub_id: bool
    data: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] | None = None


def render_card(card: ModelCard, parameters: int, dtype: str) -> str:
    """The Markdown text, with the front matter that the hub reads."""
    front = ["library_name: transformers", "pipeline_tag: text-generation", "language: en"]
    if card.base_is_hub_id:
        front.append(f"base_model: {card.base_model}")
    front += ["tags:", "- mental-health", "- interpretability", "- llama"]
    made = "Tuned" if card.recipe else "Converted"
    sections = [
        "---\n" + "\n".join(front) + "\n---\n",
        f"# {card.name}\n",
        f"{made} with mentallama_jax. {parameters:,} parameters, stored as {dtype}. The licence of the base model "
        "applies to these weights.\n",
        "## Base model\n\n" + f"`{card.base_model}`\n",
    ]
    if card.data:
        sections.append("## Data\n\n" + _rows("", card.data))
    if card.recipe:
        sections.append("## Recipe\n\n" + _rows("key", card.recipe))
    if card.scores is not None:
        sections.append("## Scores\n\n" + _scores(card.scores))
    return "\n".join([*sections, _INTENDED_USE])


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
