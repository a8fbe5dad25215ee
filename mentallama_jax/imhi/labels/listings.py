"""Labels that an answer lists, scores or goes through one by one: there the first of them is no answer.

All functions take text that `folding.fold` prepared.
"""

import re

REASONS = re.compile(
    r"\breasoning ?:|(?:^|\n|[.!?)'] ?)(?:the |my )?(?:reasons?|explanation|rationale|justification|why) ?:"
)
"""What the reasons for an answer begin with."""

_SURE = r"(?! ?(?:sure|certain|confiden))"
_SHARE = rf"(?:\d{{1,3}}(?:\.\d+)? ?(?:%|percent\b)|(?:0|1)?\.\d+|1\.0+|\d{{1,3}} ?/ ?\d{{1,3}}){_SURE}"
_WHOLE = r"\d{1,3}(?= ?(?:$|[,;\n]))"
_VERDICT = r"(?:yes|no|true|false)(?= ?(?:$|[.,;)\n]))"
_SCORED = re.compile(rf" ?(?:[:=]|[-–—]+) ?(?:{_SHARE}|{_WHOLE})| ?[:=] ?{_VERDICT}| (?:at |is )?{_SHARE}")
_SCORED_IN_BRACKETS = re.compile(rf" ?\( ?{_SHARE}")

OPTION_FIRST = re.compile(r"(?:option )?\(?[a-i1-9][.)]:? ?")
OPTION_LINE = re.compile(r"^\(?(?P<mark>[a-i1-9])[.):] ?(?P<text>.{1,60})$", re.MULTILINE)
OPTION_CHOSEN = re.compile(r"\(?(?:option )?(?P<mark>[a-i1-9])(?= ?(?:$|[.,;:!)\n]))")
_ENUMERATOR = r"\(?[a-i1-9][.):] ?"
_ENUMERATED = re.compile(rf"(?:^|[\s(]){_ENUMERATOR}$")
_LONGEST_ENUMERATOR = 5
_PART = re.compile(r"(?:[.,;!?\n)] ?|\b(?:and|or) |(?= \(?[a-i1-9][.)]) )")
_NUMBERED = re.compile(_ENUMERATOR)
_HEADS = re.compile(r" ?(?:(?P<mark>[:=])| [-–—]+ |[–—])")


def before_reasons(text: str) -> str:
    """The part of an answer that stands before its reasons."""
    reasons = REASONS.search(text)
    return text[: reasons.start()] if reasons else text


def is_scored(text: str, end: int, *, in_brackets: bool = False) -> bool:
    """Whether a number or a verdict follows the label that ends at `end`: "yes: 0.2", "no: true".

    With `in_brackets` also one in brackets, as in "no (35 %)".
    """
    return _SCORED.match(text, end) is not None or (in_brackets and _SCORED_IN_BRACKETS.match(text, end) is not None)


def is_enumerated(text: str, start: int) -> bool:
    """Whether the mark of an option or a number stands before `start`."""
    return _ENUMERATED.search(text[max(0, start - _LONGEST_ENUMERATOR) : start]) is not None


def heading_mark(text: str, end: int) -> str:
    """What makes a heading of the words that end at `end`: ":", "=" or "-"; "" where nothing does."""
    found = _HEADS.match(text, end)
    return "" if found is None else found["mark"] or "-"


def later_parts(text: str, start: int) -> list[tuple[int, bool]]:
    """Where lines, sentences and parts of lists begin behind `start`, and whether an enumerator opens them."""
    parts = []
    for match in _PART.finditer(text, start):
        numbered = _NUMBERED.match(text, match.end())
        parts.append((numbered.end(), True) if numbered else (match.end(), False))
    return parts
