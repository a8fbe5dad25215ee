"""Taking an answer out of what it is wrapped in: reasoning traces, tags, boxes, JSON.

Reasoning models write a trace before their answer. It weighs one label against another and is not the answer, so it is
cut away. A trace that is never closed has used up the answer's tokens: such an output states no label.
"""

import re
from collections.abc import Iterator
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import parse_json

_TRACE_NAMES = r"think(?:ing)?|reason(?:ing)?|thoughts?|reflection|analysis|scratch_?pad|(?:begin|end)_of_thought"
_TRACE_TAG = re.compile(
    rf"<\|?(?P<close>/)?(?P<name>{_TRACE_NAMES})\|?>|\[(?P<close2>/)?think(?:ing)?\]|◁(?P<close3>/)?think▷",
    re.IGNORECASE,
)
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<]{0,40}<\|message\|>", re.IGNORECASE)
_CHANNELS_WITHOUT_TOKENS = re.compile(r"assistant\s*final", re.IGNORECASE)
_STARTS_AS_ANALYSIS = re.compile(r"\s*analysis(?=[A-Z])")
_ANSWER_TAG = re.compile(r"<(?:final_?)?answer>|\[answer\]", re.IGNORECASE)
_TOKEN = re.compile(r"<\|[^|<>\n]{1,40}\|>|</?s>|\[/?INST\]|</?[a-zA-Z][a-zA-Z_]{0,20}>")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{[^{}]*\}){0,200})\}")
_LATEX = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mathsf|textit|emph|mbox)\s*\{([^{}]{0,200})\}|\\[\[\]()]")
_FENCE = re.compile(r"```\w*")
_ANSWER_KEY = re.compile(
    r"(?:final|predicted|overall|correct|main|primary)?"
    r"(?:answer|label|prediction|predictions|classification|class|category|verdict|conclusion|decision|output|result)s?"
    r"(?:name|value|text)?"
)
_SINGLE_QUOTE = re.compile(r"(?<![a-zA-Z])'|'(?![a-zA-Z])")
_DEEPEST = 8


def without_traces(text: str) -> str | None:
    """The text that stands outside reasoning traces; None where a trace is not closed, as no answer then follows."""
    if "<|channel|>" in text.casefold():
        channels = list(_CHANNEL.finditer(text))
        if not channels or channels[-1][1].casefold() != "final":
            return None
        text = text[channels[-1].end() :]
    elif _STARTS_AS_ANALYSIS.match(text):
        *_, last = [None, *_CHANNELS_WITHOUT_TOKENS.finditer(text)]
        if last is None:
            return None
        text = text[last.end() :]
    parts, start, depth = [], 0, 0
    for tag in _TRACE_TAG.finditer(text):
        closes = bool(
            tag["close"] or tag["close2"] or tag["close3"] or (tag["name"] or "").casefold().startswith("end")
        )
        if not closes:
            if depth == 0:
                parts.append(text[start : tag.start()])
            depth += 1
        else:
            # The opening tag may have stood in the prompt: then all before the closing one is the trace.
            if depth == 0:
                parts.clear()
            depth, start = 0, tag.end()
    return None if depth else "".join(parts) + text[start:]


def visible(text: str) -> str:
    """The text that stands outside reasoning traces; "" where one is not closed."""
    return without_traces(text) or ""


def unwrapped(text: str, keys: re.Pattern[str]) -> str:
    """The text with boxes, answer tags and JSON written as lines of plain words.

    Args:
        text: an answer without traces.
        keys: JSON keys besides the general ones (`label`, `answer`, ...) whose values are answers.
    """
    text = _json_as_lines(_FENCE.sub(" ", text), keys)
    text = _LATEX.sub(lambda match: match[1] or " ", text)
    text = _BOX.sub(lambda match: f"\nfinal answer: {match[1]}\n", text)
    return _TOKEN.sub(" ", _ANSWER_TAG.sub("\nfinal answer: ", text))


def _json_as_lines(text: str, keys: re.Pattern[str]) -> str:
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or not re.match(r"\{\s*[\"'}]", text[start:]) or _BOX.search(text):
        return text
    try:
        value = parse_json(text[start : end + 1], "answer", allow_nan=True, may_hold_posts=True)
    except UserError:
        broken = re.sub(r",(?=\s*['\"])", "\n", text[start:]).translate(_NO_JSON)
        return f"{text[:start]}\n{_SINGLE_QUOTE.sub(' ', broken)}\n"
    members = list(_members(value, "", 0))
    answers = [f"{key}: {value}" for key, value in members if keys.fullmatch(_plain_key(key))]
    answers += [f"answer: {value}" for key, value in members if _ANSWER_KEY.fullmatch(_plain_key(key))]
    lines = answers or [f"{key}: {value}" for key, value in members]
    return "\n".join((text[:start], *lines, text[end + 1 :]))


_NO_JSON = str.maketrans(dict.fromkeys('{}"[]', " "))


def _members(value: Any, key: str, depth: int) -> Iterator[tuple[str, str]]:
    """The leaves of a JSON value as (key, words), lists of leaves joined by commas."""
    if depth > _DEEPEST:
        return
    if isinstance(value, dict):
        for inner, each in value.items():
            yield from _members(each, str(inner), depth + 1)
    elif isinstance(value, list) and not any(isinstance(each, dict | list) for each in value):
        yield key, ", ".join(map(_leaf, value))
    elif isinstance(value, list):
        for each in value:
            yield from _members(each, key, depth + 1)
    else:
        yield key, _leaf(value)


def _leaf(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(str(value).split())


def _plain_key(key: str) -> str:
    return re.sub(r"[^a-z]", "", key.casefold())
