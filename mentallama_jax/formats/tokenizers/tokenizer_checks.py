"""Refuses a `tokenizer.json` that is malformed, random, or made to expand or to search text without end."""

from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown

_MOST_GROWTH = 64.0
"""Characters that one character may become before it is cut into pieces (text of a post becomes at most 18)."""
_LONGEST_PREFIX = 4096.0
_LONGEST_PATTERN = 20_000
_DEEPEST = 20
# The most that one character becomes under a normal form of Unicode (U+FDFA), or as bytes.
_GROWTH = {
    "NFD": 4.0,
    "NFC": 4.0,
    "NFKD": 18.0,
    "NFKC": 18.0,
    "Precompiled": 18.0,
    "BertNormalizer": 4.0,
    "ByteLevel": 4.0,
}


def check_spec(spec: dict[str, Any], origin: str) -> None:
    """Look at the parts of a `tokenizer.json` that decide what becomes of a text.

    Raises:
        UserError: names the part.
    """
    for token in _list(spec.get("added_tokens") or [], "added_tokens", f"{origin}: tokenizer.json"):
        match token:
            case {"id": int(id_), "content": str(content)} if (
                0 <= id_ < 2**31 and content and not isinstance(id_, bool)
            ):
                continue
        raise UserError(f"{origin}: tokenizer.json has an entry of added_tokens without an id and its text")
    model = spec.get("model")
    if isinstance(model, dict) and model.get("dropout") not in (None, 0):
        raise UserError(
            f"{origin}: tokenizer.json has dropout {shown(model['dropout'])}: ids would be random; set it to null"
        )
    for part in ("normalizer", "decoder"):
        growth, prefix = _growth(spec.get(part), f"{origin}: tokenizer.json: {part}", 0)
        if growth > _MOST_GROWTH or prefix > _LONGEST_PREFIX:
            raise UserError(f"{origin}: tokenizer.json: {part} would expand text {max(growth, prefix):,.0f} times")
    _check_patterns(spec.get("pre_tokenizer"), f"{origin}: tokenizer.json: pre_tokenizer", 0)


def _growth(part: Any, place: str, depth: int) -> tuple[float, float]:
    """How many characters a character may become, and how many may be put before a text."""
    if part is None:
        return 1.0, 0.0
    if not isinstance(part, dict) or depth > _DEEPEST:
        raise UserError(f"{place} is no object, or nested too deeply")
    match part:
        case {"type": "Sequence"}:
            growth, prefix, normalised = 1.0, 0.0, False
            members = part.get("normalizers", part.get("decoders"))
            for member in _list(members, "a Sequence", place):
                times, more = _growth(member, place, depth + 1)
                # A second normal form finds little to expand in the first one's output.
                if member is not None and member.get("type") in _GROWTH:
                    times, normalised = 1.0 if normalised else times, True
                growth, prefix = min(growth * times, 1e300), min(prefix * times + more, 1e300)
            return growth, prefix
        case {"type": "Prepend", "prepend": str(text)}:
            return 1.0, float(len(text))
        case {"type": "Replace", "pattern": {"String": str(text)}, "content": str(content)} if text:
            return max(1.0, len(content) / len(text)), 0.0
        case {"type": "Replace", "pattern": {"Regex": str(pattern)}, "content": str(content)}:
            _check_pattern(pattern, place)
            return 1.0 + len(content), float(len(content))
        case {"type": "Replace" | "Prepend"}:
            raise UserError(f"{place} has a {part['type']} that cannot be read")
    return _GROWTH.get(str(part.get("type")), 1.0), 0.0


def _check_patterns(part: Any, place: str, depth: int) -> None:
    if part is None:
        return
    if not isinstance(part, dict) or depth > _DEEPEST:
        raise UserError(f"{place} is no object, or nested too deeply")
    if part.get("type") == "Sequence":
        for member in _list(part.get("pretokenizers"), "a Sequence", place):
            _check_patterns(member, place, depth + 1)
    match part:
        case {"pattern": {"Regex": str(pattern)}}:
            _check_pattern(pattern, place)


def _check_pattern(pattern: str, place: str) -> None:
    if len(pattern) > _LONGEST_PATTERN or may_search_without_end(pattern):
        raise UserError(f"{place} has the pattern {shown(pattern)}, whose search could take time without end")


def may_search_without_end(pattern: str) -> bool:
    """Whether a repeated group of a regular expression holds a repetition or a choice: `(a+)*`, `(a|b)+`.

    Those can be searched in exponentially many ways. No known tokenizer has one; a harmless one is refused as well.
    """
    groups = [False]  # of each open group: whether it holds a repetition without bound, or a choice
    place, closed = 0, False  # closed: the group that ends just before this place holds one
    while place < len(pattern):
        character = pattern[place]
        width, repeats = 1, False
        if character == "\\":
            width = 2
        elif character == "[":
            width = _class_width(pattern, place)
        elif character == "(":
            groups.append(False)
        elif character == ")" and len(groups) > 1:
            closed = groups.pop()
            groups[-1] |= closed
            place += 1
            continue
        elif character == "|":
            groups[-1] = True
        elif character in "*+":
            repeats = True
        elif character == "{":
            end = pattern.find("}", place)
            bounds = pattern[place + 1 : end] if end > 0 else ""
            if bounds and all(c.isdigit() or c == "," for c in bounds):
                width = end + 1 - place
                most = bounds.split(",")[-1]
                repeats = not most or len(most) > 2 or (closed and int(most) > 10)
        if repeats:
            if closed:
                return True
            groups[-1] = True
        closed = False
        place += width
    return False


def _class_width(pattern: str, place: int) -> int:
    """Length of the character class that begins at `place`."""
    end = place + 1
    if pattern[end : end + 1] == "^":
        end += 1
    if pattern[end : end + 1] == "]":
        end += 1
    depth = 1
    while end < len(pattern):
        if pattern[end] == "\\":
            end += 1
        elif pattern[end] == "[":
            depth += 1
        elif pattern[end] == "]":
            depth -= 1
            if not depth:
                return end + 1 - place
        end += 1
    return len(pattern) - place


def _list(value: Any, name: str, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"{place}: {name} is no list")
    return value
