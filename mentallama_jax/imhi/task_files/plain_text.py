"""Text of any language and script, evened out and cut into sentences. No letter of any script is lost.

Only what carries no meaning is evened out: case, width and composition of characters, blanks, invisible characters,
markup, pictures, kinds of quotation marks. There are no rules of any language here, but for the Greek question mark.
"""

import re
import unicodedata
from dataclasses import dataclass

_QUOTES = str.maketrans(dict.fromkeys("“”„‟«»「」『』〝〞", '"') | dict.fromkeys("‘’‚‛´", "'"))
# Invisible characters (the joiners of Indic and Arabic scripts among them), marks of direction, and the tatweel.
_INVISIBLE = re.compile("[\u00ad\u061c\u0640\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff]")
_PICTURES = re.compile("[\u2190-\u21ff\u2300-\u2bff\U0001f000-\U0001faff]")
_MARKUP = re.compile(r"[*_#`>|•]+|^ ?[-–—]+ ", re.MULTILINE)
_BLANKS = re.compile(r"[^\S\n]+")
_LOOSE = re.compile(r"[\s_-]+")
_ENDS = ".!?;…。।॥؟۔።՞"
_QUESTIONS = "?؟՞"
# A full stop ends a sentence before a blank only ("3.5"); the ends of other scripts do so wherever they stand.
_SENTENCE_END = re.compile(r"(?<=[.;…])(?=\s)|(?<=[!?。।॥؟۔።])(?![.;…!?。।॥؟۔።])|\n+|\breasoning ?:")
_TRIMMED = " \t\n\"',、،"


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence without its end.

    Attributes:
        text: evened out; holds no blanks, quotation marks or ends of sentences around it.
        asks: it ends as a question.
        goes_on: it ends with a colon, so that what follows depends on it.
    """

    text: str
    asks: bool = False
    goes_on: bool = False


def even(text: str) -> str:
    """Even out a text; line breaks stay."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    folded = _PICTURES.sub(" ", _INVISIBLE.sub("", folded.translate(_QUOTES)))
    folded = _BLANKS.sub(" ", _MARKUP.sub(" ", folded))
    return "\n".join(line for line in map(str.strip, folded.split("\n")) if line)


def sentences_of(text: str, language: str = "") -> list[Sentence]:
    """The sentences of a text, evened out; a `Reasoning:` ends one too."""
    questions = _QUESTIONS + (";" if language.split("-")[0].lower() == "el" else "")
    found = []
    for part in _SENTENCE_END.split(even(text)):
        whole = part.strip(_TRIMMED)
        bare = whole.rstrip(_ENDS + _TRIMMED)
        ends = whole[len(bare) :]
        if bare:
            goes_on = bare.endswith(":")
            asks = any(mark in ends for mark in questions)
            found.append(Sentence(bare.rstrip(": ") if goes_on else bare, asks, goes_on))
    return found


def loose(text: str) -> str:
    """A wording without what may vary in a table or an answer: `-` and `_` for blanks, the end of a sentence."""
    return _LOOSE.sub(" ", even(text.replace("_", " "))).strip(_TRIMMED + _ENDS + ":")


def is_letter(character: str) -> bool:
    """Whether a character is a part of words: a letter or a mark on one, of any script, or a digit."""
    return unicodedata.category(character)[0] in "LMN"
