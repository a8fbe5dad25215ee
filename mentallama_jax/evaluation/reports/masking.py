"""Hides in a text what most often says who wrote it. It is no anonymisation: a story can still be known by its words.

A word in square brackets takes the place of web addresses, e-mail addresses, handles (`@name`, `u/name`), subreddits,
phone numbers, exact dates, exact ages, and of a name behind a greeting or `my name is`. The rules read English.
"""

import re

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_NAME = r"[A-Z][a-z]+(?: [A-Z][a-z]+)?\b"
_GREETING = r"(?i:hi|hello|hey|dear|thanks|thank you|regards|sincerely|love)[,!]?"
_INTRODUCTION = r"(?i:my name is|my name's|call me|i'm called)"
_COUNTED = r"(?:%|percent|times|minutes|hours|days|weeks|months)"
_RULES: tuple[tuple[str, str], ...] = (
    (r"(?i)\b(?:https?://|www\.)\S+", "[link]"),
    (r"(?i)\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b", "[e-mail]"),
    (r"(?i)(?<![\w/])/?u/[\w-]+", "[handle]"),
    (r"(?i)(?<![\w/])/?r/\w+", "[forum]"),
    (r"(?<![\w@])@\w(?:[\w.-]*\w)?", "[handle]"),
    (r"\b\d{4}-\d{2}-\d{2}\b|\b\d{1,2}[/.]\d{1,2}[/.]\d{2,4}\b", "[date]"),
    (rf"(?i)\b{_DAY}\s+(?:of\s+)?{_MONTH}(?:,?\s+\d{{4}})?(?!\w)", "[date]"),
    (rf"(?i)\b{_MONTH}\s+{_DAY}(?:,?\s+\d{{4}})?\b", "[date]"),
    (r"(?<!\w)(?:\+|00)?\(?\d[\d ().-]{6,}\d\b", "[phone]"),
    (rf"(?i)\b(i'?m|i am|aged?|turn(?:ed|ing)?|he'?s|she'?s) \d{{1,2}}(?: ?[mf])?\b(?! ?{_COUNTED})", r"\1 [age]"),
    (r"(?i)\b\d{1,3}[- ]years?[- ]old\b|\b\d{1,2} ?(?:yo\b|y/o\b)", "[age]"),
    (r"(?i)(?<!\w)[(\[]?(?:\d{2} ?[mf]|[mf] ?\d{2})[)\]]?(?!\w)", "[age]"),
    (rf"\b({_GREETING}) {_NAME}", r"\1 [name]"),
    (rf"\b({_INTRODUCTION}) {_NAME}", r"\1 [name]"),
)
_COMPILED = tuple((re.compile(pattern), word) for pattern, word in _RULES)


def masked(text: str) -> str:
    """The text with what the rules find replaced; masking twice changes nothing more."""
    for pattern, word in _COMPILED:
        text = pattern.sub(word, text)
    return text
