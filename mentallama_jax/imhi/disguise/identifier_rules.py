"""What a rule of disguise is: a pattern, the kind of what it finds, and what stands in its place."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from mentallama_jax.imhi.disguise.pseudonyms import Pseudonyms

KINDS = (
    "e-mail", "url", "handle", "subreddit", "phone", "address", "postcode", "date", "time", "age", "name", "platform",
)  # fmt: skip
"""Kinds of identifiers, in the order of reports."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How one notation of an identifier is found and replaced.

    Attributes:
        kind: one of `KINDS`.
        pattern: its group `x` is what is replaced.
        pseudonym: what stands in its place; None where the match is no identifier.
    """

    kind: str
    pattern: re.Pattern[str]
    pseudonym: Callable[[re.Match[str], Pseudonyms], str | None]


@dataclass(frozen=True, slots=True)
class Replacement:
    """A part of a text and what stands in its place."""

    start: int
    end: int
    kind: str
    old: str
    new: str


def rule(kind: str, pattern: str, pseudonym: Callable[[re.Match[str], Pseudonyms], str | None]) -> Rule:
    """A rule whose pattern ignores case, but where it says `(?-i:...)`."""
    return Rule(kind, re.compile(pattern, re.IGNORECASE), pseudonym)
