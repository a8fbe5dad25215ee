"""The zero-shot prompt of four parts: the post, a specification (part S), the question (part Q), an output constraint.

The paper gives the sum of the parts, Prompt_ZS = TextData + Prompt_Part1-S + Prompt_Part2-Q + OutputConstraint, and no
words. The default words are ours, in the manner of Mental-LLM (Xu et al. 2024), whose equation it is: a role for part
S, the question of the task for part Q, and a constraint that names the label sentences. Any part can be worded in a
YAML file; one that is "" is left out, with what would join it to the next.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import reading, shown
from mentallama_jax.imhi.labels.gold_response import REASONING
from mentallama_jax.imhi.records import Record
from mentallama_jax.storage import as_path
from mentallama_jax.strict_yaml import parse_yaml

_FIELD = re.compile(r"\{([^{}]*)\}")
_MEANINGS = {
    "post": "the post",
    "question": "the question of the task",
    "aspect": "what is asked about, in tasks with aspects",
    "sentences": "the label sentences, in quotes",
    "labels": "the names of the labels",
}


@dataclass(frozen=True, slots=True)
class PromptParts:
    """How a zero-shot prompt is worded. Braces name what a row brings; see `_MEANINGS`.

    Attributes:
        text: the post, as it is shown.
        specification: part S, what the model is to be and to do.
        question: part Q.
        constraint: what an answer has to look like.
        between: joins the parts.
    """

    text: str = 'Post: "{post}"'
    specification: str = "As a psychologist, read this post and answer the question."
    question: str = "Question: {question}"
    constraint: str = f'Begin with one of these sentences: {{sentences}} Then write "{REASONING}" and explain why.'
    between: str = "\n"

    def __post_init__(self) -> None:
        for name, words in asdict(self).items():
            if not isinstance(words, str):
                raise UserError(f"{name}: expected a text, found {shown(str(words), 40)}")
            for found in _FIELD.findall(words):
                if found not in _MEANINGS or name == "between":
                    known = ", ".join(f"{{{each}}}" for each in _MEANINGS)
                    raise UserError(f"{name}: {{{shown(found, 40)[1:-1]}}} is nothing that a row brings ({known})")
        if "{post}" not in self.text:
            raise UserError("text: has to show the post; write {post} where it goes")
        for name in ("specification", "question", "constraint"):
            if "{post}" in getattr(self, name):
                raise UserError(f"{name}: the post stands in `text` alone, so that its end can be cut to fit")

    def query(self, record: Record) -> str:
        """What is asked about a record."""
        task = record.task
        values = {
            "post": record.post,
            "question": task.question.format(aspect=record.aspect),
            "aspect": record.aspect,
            "sentences": " ".join(f'"{sentence}"' for sentence in task.sentences.values()),
            "labels": ", ".join(task.labels),
        }
        parts = (self.text, self.specification, self.question, self.constraint)
        # In one pass, so that braces in a post mean nothing.
        return self.between.join(_FIELD.sub(lambda found: values[found[1]], part) for part in parts if part)


def read_prompt_parts(place: str) -> PromptParts:
    """The wording that a YAML file gives; the parts that it leaves out are the default ones.

    Raises:
        UserError: no such file, not YAML, an unknown key or placeholder, or no place for the post.
    """
    path = as_path(place)
    if not path.is_file():
        raise UserError(f"{path}: no such file; --prompt takes instruction, zero-shot, or a YAML file of its parts")
    with reading(path, "YAML"):
        values = parse_yaml(path.read_bytes(), path)
    names = [field.name for field in fields(PromptParts)]
    if not isinstance(values, Mapping):
        raise UserError(f"{path}: expected keys with texts ({', '.join(names)})")
    for key in values:
        if key not in names:
            raise UserError(f"{path}: unknown key {shown(key, 40)} (known: {', '.join(names)})")
    try:
        return PromptParts(**_texts(values))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _texts(values: Mapping[str, Any]) -> dict[str, Any]:
    """A key without a value is an empty part."""
    return {key: "" if value is None else value for key, value in values.items()}
