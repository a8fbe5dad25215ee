"""Evening out an answer before it is read: case, blanks, quotes, markup, contractions."""

import re
import unicodedata
from functools import lru_cache

from mentallama_jax.imhi.tasks import TASKS, Task

_QUOTATION = re.compile(r'"([^"\n]*)"')
_WHOLE_IN_BRACKETS = re.compile(r"\A\s*\(([^()\n]{1,120})\)[.\s]*\Z")
_IN_BRACKETS = re.compile(r"\[([^\[\]\n]{1,120})\]( (?=\w))?")
_SYMBOLS = re.compile("[\u2190-\u21ff]|=>|->")
_PICTURES = re.compile("[\u2200-\u2bff\ufe0f\u200b-\u200d\U0001f000-\U0001faff]")
_MARKUP = re.compile(r"[*_#`>|•$]+|^ ?[-–—]+ ?", re.MULTILINE)
_CANNOT = re.compile(r"\bcan(?:'t| not)\b")
_CONTRACTIONS = tuple(
    (ending, re.compile(rf"{before}{ending}\b"), plain)
    for before, ending, plain in (
        (r"\bwo", "n't", "will not"),
        (r"\bai", "n't", "is not"),
        ("", "n't", " not"),
        (r"\b(there|it|that|he|she|here|what)", "'s", r"\1 is"),
        (r"\b(i|we|they|you|he|she|it)", "'d", r"\1 would"),
        (r"\b(i|we|they|you|he|she|it)", "'ll", r"\1 will"),
        (r"\bi", "'m", "i am"),
        (r"\b(we|they|you)", "'re", r"\1 are"),
        (r"\b(i|we|they|you)", "'ve", r"\1 have"),
    )
)
"""(Ending, the contraction, its words): most texts have few of the endings, which are quickly looked for."""
_LONGEST_LABEL = 120
_NEXT_QUESTION = re.compile(r"\bconsider this post ?:|^(?:post|question) ?:", re.MULTILINE)
_ECHO = re.compile(r"^question ?:[^?]*\? ?")


def words_in(text: str) -> list[str]:
    """The words of folded text, in their order."""
    return re.findall(r"[a-z']+", text)


def word_set(text: str) -> frozenset[str]:
    """The words of folded text."""
    return frozenset(words_in(text))


def fold(text: str) -> str:
    """Even out case, blanks, quotes and markup, spell contractions out, cut run-on questions off; line breaks stay.

    A quotation becomes the word `quotation` unless it is a label ('the label of "No" is right'); a label in square
    brackets stands without them.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    folded = folded.translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'}).strip()
    if folded.startswith('"') and folded.endswith('"') and folded.count('"') == 2:
        folded = folded[1:-1]
    folded = _CANNOT.sub("cannot", folded)
    for ending, short, plain in _CONTRACTIONS:
        if ending in folded:
            folded = short.sub(plain, folded)
    if '"' in folded:
        folded = _QUOTATION.sub(lambda match: match[1] if _is_label(match[1]) else "quotation", folded)
    folded = _WHOLE_IN_BRACKETS.sub(lambda match: match[1] if _is_label(match[1]) else match[0], folded)
    if "[" in folded:
        folded = _IN_BRACKETS.sub(_out_of_brackets, folded)
    folded = _SYMBOLS.sub(":", folded)
    if not folded.isascii():
        folded = _PICTURES.sub(" ", folded)
    folded = re.sub(r"[^\S\n]+", " ", _MARKUP.sub(" ", folded))
    folded = "\n".join(line for line in map(str.strip, folded.split("\n")) if line)
    folded = _ECHO.sub("", folded)
    further = _NEXT_QUESTION.search(folded)
    return folded[: further.start()].strip() if further else folded


def bare(wording: str) -> str:
    """A label's wording without what may vary around it."""
    return wording.strip().removesuffix(".").removesuffix(",").casefold().replace("n't", " not")


def _out_of_brackets(match: re.Match[str]) -> str:
    """`[yes]` as `yes`, before further words as a sentence; what is no label stays as it is."""
    if not _is_label(match[1]):
        return match[0]
    return f"{match[1]}. " if match[2] else match[1]


def _is_label(quotation: str) -> bool:
    return 0 < len(quotation) < _LONGEST_LABEL and bare(quotation) in _wordings(TASKS.all)


@lru_cache(8)
def _wordings(tasks: tuple[Task, ...]) -> frozenset[str]:
    tables = (table for task in tasks for table in (task.sentences, task.completion_words))
    return frozenset(bare(wording) for table in tables for wording in table.values())
