"""How answers came about, in words: prompt, examples, and what decided their labels; from the signature beside them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_MODES = {"generate": "generated", "score-labels": "likeliest label sentence", "classifier": "classifier"}


@dataclass(frozen=True, slots=True)
class Answering:
    """What a signature says of how answers came about.

    Attributes:
        prompt: the wording of questions.
        shots: few-shot examples.
        decided: what decided labels.
    """

    prompt: str
    shots: str
    decided: str

    @property
    def text(self) -> str:
        """All of it in a line."""
        return f"prompt: {self.prompt}; examples: {self.shots}; {self.decided}"


def answering(generation: Mapping[str, Any] | None) -> Answering | None:
    """What the signature of predictions says; None where there is none, or it is of something else.

    Pooled seeds were made alike, so the first of them speaks for all.
    """
    pooled = (generation or {}).get("pooled")
    each = list(_mappings(pooled if isinstance(pooled, list) else [generation]))
    if not each or not isinstance(mode := each[0].get("mode"), str) or mode == "classifier":
        return None
    said = each[0]
    prompt, shots, votes = (_mapping(said.get(key)) for key in ("prompt", "shots", "votes"))
    usual = "completion" if said.get("style") == "completion" else "instruction"
    decided = ["label sentence first"] if said.get("label_first") is True else []
    decided += [f"vote of {votes['count']} samples"] if "count" in votes else []
    return Answering(
        prompt=str(prompt.get("kind", usual)),
        shots=f"{shots.get('per_class')} a class, {shots.get('choice')}, seed {shots.get('seed')}" if shots else "none",
        decided=", ".join(decided) or _MODES.get(mode, mode),
    )


def is_unusual(found: Answering | None) -> bool:
    """Whether it differs from an answer that was generated after the benchmark's own instruction."""
    return found is not None and (found.prompt, found.shots, found.decided) != ("instruction", "none", "generated")


def without_ids(signature: Mapping[str, Any]) -> Mapping[str, Any]:
    """A signature of scores in which few-shot examples are counted, as their ids would fill pages."""
    generation = signature.get("generation")
    if not isinstance(generation, Mapping):
        return signature
    return {**signature, "generation": {key: _counted(key, value) for key, value in generation.items()}}


def _counted(key: str, value: Any) -> Any:
    if key == "pooled" and isinstance(value, list):
        return [{k: _counted(k, v) for k, v in one.items()} if isinstance(one, Mapping) else one for one in value]
    if key == "shots" and isinstance(value, Mapping) and isinstance(value.get("examples"), list):
        return {**value, "examples": len(value["examples"])}
    return value


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(values: list[Any]) -> Iterator[Mapping[str, Any]]:
    return (value for value in values if isinstance(value, Mapping))
