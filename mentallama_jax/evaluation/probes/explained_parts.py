"""The parts of a post that an explanation points at: what it quotes, else what it paraphrases closely.

1. Quotations that occur in the post. Where there is one, nothing else is looked for.
2. Else, both of:
   - runs of at least four words of the post that stand in the explanation, with at least two content words;
   - clauses of the post of which one sentence of the explanation holds at least half of the different content words,
     and at least two of them.

A clause ends at `.`, `!`, `?`, `;`, `:`, a comma, a dash between blanks or a line break. Content words are those that
are no function words (a list below). They are compared without case, and without the endings -s, -es, -ed, -ing, -ly
and -'s.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mentallama_jax.evaluation.probes.post_words import Run, covering, places, runs_of, words_of
from mentallama_jax.evaluation.probes.quoted_parts import quoted_stretches

_RUN = 4
_FEWEST = 2
_SHARE = 0.5
_CLAUSE_END = re.compile(r"[.!?;:,…][\"')\]”’]*\s*$|\n")
_DASH = re.compile(r"[-–—]+\s*")
_SENTENCE = re.compile(r"[^.!?;\n]+")
_LETTERS = re.compile(r"\w+(?:['’]\w+)*")
_ENDINGS = re.compile(r"(?:['’]s|ing|edly|ed|ies|es|ly|s|e|y)$")
_SHORTEST_STEM = 3
_LISTED = """
a about after again all also am an and any are as at be because been before being both but by can cannot could
did do does doing don down during each even ever few for from further get gets getting go going got had has have
having he her here hers herself him himself his how i if in into is it its itself just like make makes me more
most much my myself no nor not now of off on once one only or other our ours ourselves out over own really same
she should so some such than that the their theirs them themselves then there these they thing things this those
through to too under until up us very was way we were what when where which while who whom why will with would
you your yours yourself i'm i've i'd i'll it's don't can't didn't doesn't isn't wasn't won't poster post shows
show question
"""
_FUNCTION_WORDS = frozenset(_LISTED.split())


@dataclass(frozen=True, slots=True)
class ExplainedParts:
    """The parts of a post that an explanation points at.

    Attributes:
        runs: of its words, see `post_words`.
        how: whether quotations or shared words told; "none" where there are no such parts.
    """

    runs: tuple[Run, ...]
    how: Literal["quotes", "overlap", "none"]


def explained_parts(post: str, explanation: str) -> ExplainedParts:
    """Find the parts of a post that an explanation quotes or paraphrases closely."""
    words = words_of(post)
    if quoted := covering(words, quoted_stretches(post, explanation)):
        return ExplainedParts(quoted, "quotes")
    taken = places(_shared_runs(words, explanation)) | places(_paraphrased(words, explanation))
    return ExplainedParts(runs_of(taken), "overlap" if taken else "none")


def content_stems(text: str) -> list[str]:
    """The content words of a text in their order, without case and endings."""
    folded = (word.replace("’", "'") for word in _LETTERS.findall(text.casefold()))
    return [_stem(word) for word in folded if word not in _FUNCTION_WORDS]


def clauses(words: Sequence[str]) -> list[Run]:
    """The clauses of a post as runs of its words."""
    found: list[Run] = []
    start = 0
    for place, word in enumerate(words):
        if _CLAUSE_END.search(word) or _DASH.fullmatch(word) or place == len(words) - 1:
            found.append((start, place + 1))
            start = place + 1
    return found


def _stem(word: str) -> str:
    bare = _ENDINGS.sub("", word)
    return bare if len(bare) >= _SHORTEST_STEM else word


def _shared_runs(words: Sequence[str], explanation: str) -> list[Run]:
    said = " ".join(_LETTERS.findall(explanation.casefold().replace("’", "'")))
    spoken = [" ".join(_LETTERS.findall(word.casefold().replace("’", "'"))) for word in words]
    found = []
    for start in range(len(words) - _RUN + 1):
        run = spoken[start : start + _RUN]
        text = " ".join(run)
        if all(run) and f" {text} " in f" {said} " and len(set(content_stems(text))) >= _FEWEST:
            found.append((start, start + _RUN))
    return found


def _paraphrased(words: Sequence[str], explanation: str) -> list[Run]:
    sentences = [set(content_stems(sentence)) for sentence in _SENTENCE.findall(explanation)]
    found = []
    for start, stop in clauses(words):
        own = set(content_stems("".join(words[start:stop])))
        shared = max((len(own & sentence) for sentence in sentences), default=0)
        if shared >= max(_FEWEST, _SHARE * len(own)):
            found.append((start, stop))
    return found
