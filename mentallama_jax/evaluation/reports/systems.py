"""What a report is made from: the JSON files of a folder of scores, or the metrics of a training run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.files import regular_file
from mentallama_jax.foreign import parse_json, reading

SCORES = "scores.json"
BESIDE = ("comparison", "faithfulness", "fairness", "robustness", "human_agreement")
"""Files `NAME.json` beside the scores, each a section of its name."""
EXAMPLES = "examples.json"
METRICS = "metrics.jsonl"
_MOST_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class ScoredSystem:
    """One folder.

    Attributes:
        name: what it is called beside others.
        sections: section -> its JSON value.
        examples: outputs to show; empty where they are not wanted, or there are none.
    """

    name: str
    sections: Mapping[str, Any]
    examples: Sequence[Mapping[str, str]] = field(default_factory=tuple)


def is_scores_folder(folder: Path) -> bool:
    """Whether a folder holds anything that a report of scores shows."""
    return any((folder / name).is_file() for name in (SCORES, *(f"{each}.json" for each in BESIDE)))


def read_scores_folder(folder: Path, name: str, *, with_examples: bool = False) -> ScoredSystem:
    """Read what a folder of scores holds.

    Args:
        folder: with `scores.json`, or one of the files beside it.
        name: of the system.
        with_examples: whether to read the outputs that `evaluate --show-posts` kept.

    Raises:
        UserError: nothing there to show, or a file is not such a JSON.
    """
    sections: dict[str, Any] = {}
    if (folder / SCORES).is_file():
        sections.update(_object(folder / SCORES))
        if not isinstance(sections.get("datasets"), dict) or not isinstance(sections.get("signature"), dict):
            raise UserError(f"{folder / SCORES}: not the scores that `mentallama evaluate` writes")
    for each in BESIDE:
        if (folder / f"{each}.json").is_file():
            sections[each] = _object(folder / f"{each}.json")
    if not sections:
        raise UserError(f"{folder}: no scores.json and no metrics.jsonl; give a folder of scores or a run directory")
    examples: Sequence[Mapping[str, str]] = ()
    if with_examples:
        if not (folder / EXAMPLES).is_file():
            raise UserError(f"{folder}: no {EXAMPLES}; `mentallama evaluate --show-posts` keeps outputs to show")
        examples = _examples(folder / EXAMPLES)
    return ScoredSystem(name, sections, examples)


def names_of(folders: Sequence[Path]) -> list[str]:
    """A short name for each folder: the last part of its path, with more of it where two would be equal."""
    parts = [folder.resolve().parts for folder in folders]
    depth = 1
    while len({part[-depth:] for part in parts}) < len(set(parts)):
        depth += 1
    found = ["/".join(part[-depth:]) for part in parts]
    if len(set(found)) < len(found):
        raise UserError(f"{folders[0]}: given twice; name each folder once")
    return found


def _object(path: Path) -> dict[str, Any]:
    regular_file(path)
    if path.stat().st_size > _MOST_BYTES:
        raise UserError(f"{path}: larger than any scores")
    with reading(path, "JSON"):
        value = parse_json(path.read_bytes(), path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def _examples(path: Path) -> list[Mapping[str, str]]:
    with reading(path, "JSON", may_hold_posts=True):
        value = parse_json(path.read_bytes(), path, may_hold_posts=True)
    rows = value.get("examples") if isinstance(value, dict) else None
    keys = {"dataset", "gold", "read", "text"}
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and keys <= row.keys() and all(isinstance(row[key], str) for key in keys) for row in rows
    ):
        raise UserError(f"{path}: not the examples that `mentallama evaluate --show-posts` writes")
    return rows
