"""YAML without its traps: every value is what it looks like, or it is refused.

Numbers are decimal, booleans are `true` and `false`, and everything else that is not quoted is a text: `no`, `1:30`,
`0x10`, `010` and `2024-01-01` too. A key that stands twice, tags, anchors, aliases and merge keys are refused.
"""

import math
import re
from typing import Any

import yaml

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import reading, shown

_LONGEST = 1 << 20
_DEEPEST = 20
_MOST_DIGITS = 300
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


def parse_yaml(content: bytes | str, place: object) -> Any:
    """The value of a YAML text, strictly.

    Args:
        content: the text, or its UTF-8 bytes.
        place: what to name in errors, such as the file.

    Returns:
        Dicts with texts as keys, lists, texts, finite numbers, booleans and None.

    Raises:
        UserError: not YAML, a key twice, a tag, an anchor or an alias, a number that is not finite or too long,
            characters that are not printable, nested too deeply, or too long.
    """
    if len(content) > _LONGEST:
        raise UserError(f"{place}: longer than {_LONGEST >> 20} MiB")
    with reading(place, "YAML"):
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        text.encode("utf-8")  # a lone surrogate is no text
        try:
            return _value(_compose(text, place), place)
        except yaml.MarkedYAMLError as error:
            what = shown(" ".join((error.problem or "unreadable").split()), 100)[1:-1]
            raise UserError(f"{_at(place, error.problem_mark)}: not valid YAML ({what})") from None
        except yaml.YAMLError:
            raise UserError(f"{place}: not valid YAML (it holds a character that YAML does not allow)") from None


def _compose(text: str, place: object) -> yaml.Node | None:
    """The tree of nodes of the only document, once its events are known to be harmless."""
    depth = 0
    # The composer is recursive, the parser is not: depth and aliases are checked on the parser's events first.
    for event in yaml.parse(text, yaml.SafeLoader):
        here = _at(place, event.start_mark)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise UserError(f"{here}: anchors and aliases (&x, *x) are not read; write the value out")
        if (tag := getattr(event, "tag", None)) is not None:
            raise UserError(f"{here}: tags such as {shown(tag, 40)} are not read; write the plain value")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise UserError(f"{here}: nested more than {_DEEPEST} deep")
    return yaml.compose(text, yaml.SafeLoader)


def _value(node: yaml.Node | None, place: object) -> Any:
    if node is None:
        return None
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, place) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            here = _at(place, key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode) or key_node.value == "<<":
                raise UserError(f"{here}: a key has to be a plain text")
            key = _printable(key_node.value, here)
            if key in found:
                raise UserError(f"{here}: the key {shown(key)} stands twice")
            found[key] = _value(value_node, place)
        return found
    assert isinstance(node, yaml.ScalarNode)
    return _scalar(node.value, node.style, _at(place, node.start_mark))


def _scalar(text: str, style: str | None, here: str) -> Any:
    if style is not None:  # quoted or a block
        return _printable(text, here)
    if _NULL.fullmatch(text):
        return None
    if _BOOLEAN.fullmatch(text):
        return text.lower() == "true"
    if _NOT_FINITE.fullmatch(text):
        raise UserError(f"{here}: {text} is not a finite number")
    if _INTEGER.fullmatch(text) or _FLOAT.fullmatch(text):
        if len(text) > _MOST_DIGITS:
            raise UserError(f"{here}: a number of {len(text):,} digits is too long")
        if _INTEGER.fullmatch(text):
            return int(text)
        number = float(text)
        if not math.isfinite(number):
            raise UserError(f"{here}: {shown(text)} is too large")
        return number
    return _printable(text, here)


def _printable(text: str, here: str) -> str:
    """The text itself; line breaks and tabs may stand in it."""
    if not all(character.isprintable() or character in "\n\t" for character in text):
        raise UserError(f"{here}: a text holds a character that cannot be printed: {shown(text, 40)}")
    return text


def _at(place: object, mark: Any) -> str:
    return str(place) if mark is None else f"{place}, line {mark.line + 1}"
