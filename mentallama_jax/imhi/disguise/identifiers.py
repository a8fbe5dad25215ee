"""Finding the identifiers in a text, and replacing them."""

import re
from collections.abc import Iterable, Iterator, Sequence

from mentallama_jax.imhi.disguise.contact_rules import CONTACT_RULES
from mentallama_jax.imhi.disguise.identifier_rules import Replacement, Rule
from mentallama_jax.imhi.disguise.name_rules import NAME_RULES, PLATFORM_RULES
from mentallama_jax.imhi.disguise.pseudonyms import Pseudonyms, folded
from mentallama_jax.imhi.disguise.time_rules import AGE_RULES, BESIDE_DATES, DATE_RULES

_BEFORE_DATE, _BEHIND_DATE = 24, 20
_SENTENCE_END = re.compile(r"[.!?](?=\s)|\n")
_AGE = re.compile(r"(?<!\d)\d\d(?!\d)")
_NUMBER = re.compile(r"(?<![\w.,:/$-])\d\d(?![\w%:/]|[.,]\d)")
_ENDING = re.compile(r"['’]s\Z|\.\Z")


def find(text: str, pseudonyms: Pseudonyms) -> list[Replacement]:
    """The identifiers in a text in order, none over another; where rules meet, the earlier rule is right."""
    found: list[Replacement] = []
    taken = bytearray(len(text))
    for each in (*CONTACT_RULES, *DATE_RULES):
        _apply(each, text, 0, len(text), pseudonyms, found, taken)
    for beside in [replacement for replacement in found if replacement.kind == "date"]:
        start, end = _beside(text, beside)
        _apply(BESIDE_DATES, text, start, end, pseudonyms, found, taken)
    for each in (*AGE_RULES, *NAME_RULES, *PLATFORM_RULES):
        _apply(each, text, 0, len(text), pseudonyms, found, taken)
    _echo(found, text, pseudonyms, found, taken)
    return sorted(found, key=lambda replacement: replacement.start)


def find_again(known: Iterable[Replacement], text: str, pseudonyms: Pseudonyms) -> list[Replacement]:
    """The identifiers in a text about the same post: those that it holds itself, and those found in the post.

    Of the post's, names, accounts and the numbers of ages are looked for wherever they stand.
    """
    found = find(text, pseudonyms)
    known = list(known)
    taken = bytearray(len(text))
    for replacement in found:
        taken[replacement.start : replacement.end] = b"\1" * (replacement.end - replacement.start)
    _echo(known, text, pseudonyms, found, taken)
    _echo_ages(known, text, pseudonyms, found, taken)
    return sorted(found, key=lambda replacement: replacement.start)


def replaced(text: str, found: Sequence[Replacement]) -> str:
    """The text with what `find` found replaced."""
    return "".join(_pieces(text, found))


def _pieces(text: str, found: Sequence[Replacement]) -> Iterator[str]:
    end = 0
    for replacement in found:
        yield text[end : replacement.start]
        yield replacement.new
        end = replacement.end
    yield text[end:]


def _apply(
    each: Rule, text: str, start: int, end: int, pseudonyms: Pseudonyms, found: list[Replacement], taken: bytearray
) -> None:
    for match in each.pattern.finditer(text, start, end):
        at, behind = match.span("x")
        if at == behind or any(taken[at:behind]):
            continue
        new = each.pseudonym(match, pseudonyms)
        if new is None:
            continue
        found.append(Replacement(at, behind, each.kind, match["x"], new))
        taken[at:behind] = b"\1" * (behind - at)


def _beside(text: str, found: Replacement) -> tuple[int, int]:
    """The words around a date in which a time belongs to it: on its side of the ends of sentences."""
    start = max(0, found.start - _BEFORE_DATE)
    ends = [match.end() for match in _SENTENCE_END.finditer(text, start, found.start)]
    stop = _SENTENCE_END.search(text, found.end, min(len(text), found.end + _BEHIND_DATE))
    return ends[-1] if ends else start, stop.start() if stop else min(len(text), found.end + _BEHIND_DATE)


def _echo(
    known: Sequence[Replacement], text: str, pseudonyms: Pseudonyms, found: list[Replacement], taken: bytearray
) -> None:
    """Add the other places of names and accounts that stand somewhere in a place that gives them away."""
    words: dict[str, str] = {}
    for replacement in known:
        if replacement.kind == "name":
            pairs = zip(replacement.old.split(" "), replacement.new.split(" "), strict=True)
            changed = [_ENDING.sub("", old) for old, new in pairs if old != new]
            words |= {word: "name" for word in changed if len(word) > 1}
        elif replacement.kind == "handle" and len(replacement.old) > 3:
            words[replacement.old] = "handle"
    if not words:
        return
    listed = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    kinds = {folded(word): kind for word, kind in words.items()}
    for match in re.finditer(rf"(?<!\w)(?:{listed})(?!\w)", text):
        at, behind = match.span()
        if any(taken[at:behind]):
            continue
        kind = kinds[folded(match[0])]
        new = pseudonyms.name(match[0]) if kind == "name" else pseudonyms.handle(match[0])
        found.append(Replacement(at, behind, kind, match[0], new))
        taken[at:behind] = b"\1" * (behind - at)


def _echo_ages(
    known: Sequence[Replacement], text: str, pseudonyms: Pseudonyms, found: list[Replacement], taken: bytearray
) -> None:
    """Add the numbers that are ages in the post: "at 23" says too little to be known as an age by itself."""
    ages = {match[0] for each in known if each.kind == "age" for match in [_AGE.search(each.old)] if match}
    for match in _NUMBER.finditer(text):
        at, behind = match.span()
        if match[0] in ages and not any(taken[at:behind]):
            found.append(Replacement(at, behind, "age", match[0], str(pseudonyms.age(int(match[0])))))
            taken[at:behind] = b"\1" * (behind - at)
