"""The table of prefixes that say who writes, and of neutral ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.probes.probe_tables import packaged_table, table_of_file
from mentallama_jax.foreign import shown


@dataclass(frozen=True, slots=True)
class PrefixTable:
    """Sentences to put in front of posts.

    Attributes:
        neutral: that say nothing about the writer.
        groups: attribute -> group -> its sentences.
    """

    neutral: tuple[str, ...]
    groups: Mapping[str, Mapping[str, tuple[str, ...]]]


@cache
def packaged_prefixes() -> PrefixTable:
    """The table that comes with the package, `prefixes.yaml`."""
    return _table(packaged_table("prefixes.yaml"), "prefixes.yaml")


def read_prefixes(path: Path) -> PrefixTable:
    """A table in a file of the layout of `prefixes.yaml`.

    Raises:
        UserError: no such file, not YAML, or not such a table; it names the key.
    """
    return _table(table_of_file(path), path)


def _table(value: Any, place: object) -> PrefixTable:
    if not isinstance(value, dict) or value.keys() != {"neutral", "groups"}:
        raise UserError(f"{place}: expected the keys neutral and groups, as in the table of the package")
    groups = value["groups"]
    if not isinstance(groups, dict) or not groups:
        raise UserError(f"{place}: groups holds no attributes")
    for attribute, of_attribute in groups.items():
        if not isinstance(of_attribute, dict) or len(of_attribute) < 2:
            raise UserError(f"{place}: groups.{shown(attribute)} needs two groups or more, as they are compared")
    return PrefixTable(
        _sentences(value["neutral"], f"{place}: neutral"),
        {
            attribute: {
                name: _sentences(given, f"{place}: groups.{shown(attribute)}.{shown(name)}")
                for name, given in of_attribute.items()
            }
            for attribute, of_attribute in groups.items()
        },
    )


def _sentences(value: Any, place: str) -> tuple[str, ...]:
    given = value if isinstance(value, list) else [value]
    if not given or not all(isinstance(text, str) and text.strip() for text in given):
        raise UserError(f"{place}: expected one sentence or a list of them")
    if len({text.strip() for text in given}) < len(given):
        raise UserError(f"{place}: a sentence stands twice")
    return tuple(text.strip() for text in given)
