"""What a text puts in quotation marks, and where those words stand in a post.

Marks: straight and curly double quotes, single quotes, guillemets in both directions, and the low quotes of German. An
apostrophe is no mark: neither inside a word, nor before a shortened one ('cause, '90s), nor behind a plural ("the
parents' house") where another mark closes the quote. A quote does not reach over an empty line. Of nested quotes the
outermost one counts, as the inner one is a part of it.

Words are compared, not marks: case, blanks, punctuation, kinds of quotes, accents and apostrophes do not matter, and
MacRoman or Windows readings of UTF-8 ("‚Äô", "â€™") are taken for what they were. A quote begins and ends with whole
words of the post. An ellipsis or a remark in square brackets stands for any words: the parts before and behind it must
occur in this order. A quote without any word, such as an emoji, must occur as it is.

Time grows in proportion to the length of both texts, as no more than `MOST_QUOTES` of a text are looked at.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

MOST_QUOTES = 500
"""Quotes of a text beyond this number are not looked at; real outputs have a few."""

_PLACES_TRIED = 20

LONGEST_QUOTE = 5_000
"""Characters of the longest quote; a mark whose partner is further away is taken for none."""

Span = tuple[int, int]

_CLOSERS = {"“": "”“", "„": "“”", "‟": "”", "«": "»", "»": "«", "‹": "›", "›": "‹", '"': '"', "「": "」", "『": "』"}
_SINGLE_CLOSERS = {"'": "'’", "‘": "’'", "‚": "‘’", "’": "’"}
_MARK = re.compile("[\"“”„‟«»‹›「」『』'‘’‚]|\\n[^\\S\\n]*\\n")
_BEFORE_A_QUOTE = frozenset("([{<-–—/:,;=*_>|\"“„«‹'‘")
_SHORTENED = re.compile(r"['’](?:cause|cuz|em|til|till|tis|twas|bout|round|nuff|n|\d\ds?)\b", re.IGNORECASE)
_PLURAL = re.compile(r"[sSzZxX]['’] [a-z]")

_APOSTROPHES = "'’‘ʼ´`＇"
# Texts of equal length stand for what UTF-8 became in other readings, so that offsets hold.
_MISREAD = re.compile("‚Ä[ôò]|â€[™˜]|‚Ä[^\\s\\w]|‚Ä[ìúùîñ]|â€[^\\s\\w]|â€[œ\\x80-\\x9f]")
_NO_SPACES = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_LETTER = rf"[^\W_{_NO_SPACES}]"
_WORD = re.compile(
    rf"{_LETTER}(?:{_LETTER}|[\u0300-\u036f])*(?:[{_APOSTROPHES}]+{_LETTER}(?:{_LETTER}|[\u0300-\u036f])*)*"
    rf"|[{_NO_SPACES}]"
)
_GAP = re.compile(r"\.{2,}|…|(?:\. ){2,}\.|\[[^\[\]]{0,80}\]|\((?:\.{2,}|…)\)")


@dataclass(frozen=True, slots=True)
class Quote:
    """What stands between two quotation marks.

    Attributes:
        start: offset of its first character in the text, the mark left out.
        end: offset behind its last character.
        text: the characters between.
    """

    start: int
    end: int
    text: str


class Word(NamedTuple):
    """A word of a text, evened out, and where it stands."""

    folded: str
    start: int
    end: int


def find_quotes(text: str) -> list[Quote]:
    """The outermost quotes of a text in their order, at most `MOST_QUOTES`."""
    found = []
    for start, end in _quoted(text):
        inside = text[start:end]
        if inside.strip():
            found.append(Quote(start, end, inside))
        if len(found) == MOST_QUOTES:
            break
    return found


def without_quotes(text: str, instead: str = "") -> str:
    """The text with what it quotes, marks included, replaced."""
    parts, last = [], 0
    for start, end in _quoted(text):
        parts += [text[last : start - 1], instead]
        last = end + 1
    return "".join([*parts, text[last:]])


def locate_quote(quote: str, post: str) -> list[Span]:
    """Where a quote stands in a post: a span [start, end) for each of its parts; empty where it does not occur.

    A quote without an ellipsis has one part. Of several places the first counts.
    """
    return QuotedPost(post).locate(quote)


class QuotedPost:
    """A post in which several quotes are looked for."""

    def __init__(self, post: str) -> None:
        """Take the post's text."""
        self.text = post

    @cached_property
    def words(self) -> list[Word]:
        """The words of the post, in their order."""
        return words_of(self.text)

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """The different words of the post, evened out."""
        return vocabulary_of(self.text)

    @cached_property
    def _line(self) -> str:
        return "".join(f" {word.folded}" for word in self.words) + " "

    @cached_property
    def _starts(self) -> list[int]:
        """Where each word stands in `_line`."""
        found, place = [], 1
        for word in self.words:
            found.append(place)
            place += len(word.folded) + 1
        return found

    @cached_property
    def _without_blanks(self) -> tuple[str, list[int]]:
        """All words in one, and where each stands in it; the last number is the end."""
        starts = [0]
        for word in self.words:
            starts.append(starts[-1] + len(word.folded))
        return "".join(word.folded for word in self.words), starts

    def locate(self, quote: str, begin: int = 0) -> list[Span]:
        """See `locate_quote`; places before offset `begin` do not count."""
        whole = [word.folded for word in words_of(quote)]
        if not whole:
            bare = quote.strip()
            start = self.text.find(bare, begin) if bare else -1
            return [(start, start + len(bare))] if start >= 0 else []
        first = bisect_left(self.words, begin, key=lambda word: word.start)
        if _GAP.search(quote) is None:
            return self._in_order([whole], first) or self._with_other_blanks("".join(whole), first)
        # The post may have the dots, or what stands in brackets, itself.
        parts = [[word.folded for word in words_of(part)] for part in _GAP.split(quote)]
        return self._in_order([whole], first) or self._in_order([part for part in parts if part], first)

    def locate_all(self, quote: str) -> list[Span]:
        """All places of a quote, one behind the other; see `locate_quote`."""
        found: list[Span] = []
        while spans := self.locate(quote, found[-1][1] if found else 0):
            found += spans
        return found

    def _with_other_blanks(self, joined: str, first_word: int) -> list[Span]:
        """Where words stand that the post sets apart elsewhere ("alot" for "a lot"), whole words of the post only."""
        line, starts = self._without_blanks
        place = starts[first_word] - 1
        for _ in range(_PLACES_TRIED):
            place = line.find(joined, place + 1)
            if place < 0:
                break
            first, behind = bisect_left(starts, place), bisect_left(starts, place + len(joined))
            if starts[first] == place and starts[behind] == place + len(joined):
                return [(self.words[first].start, self.words[behind - 1].end)]
        return []

    def _in_order(self, parts: list[list[str]], first_word: int) -> list[Span]:
        spans: list[Span] = []
        place = self._starts[first_word] - 1 if first_word < len(self.words) else len(self._line)
        for part in parts:
            if not self.vocabulary.issuperset(part):
                return []
            place = self._line.find(f" {' '.join(part)} ", place)
            if place < 0:
                return []
            first = bisect_left(self._starts, place + 1)
            last = first + len(part) - 1
            spans.append((self.words[first].start, self.words[last].end))
            place = self._starts[last] + len(self.words[last].folded)
        return spans


def words_of(text: str) -> list[Word]:
    """The words of a text, evened out: lower case, no accents, no apostrophes."""
    return list(_words(text))


def words_among(text: str, known: frozenset[str]) -> bool:
    """Whether all words of a text are among `known`, evened out both; it reads as far as the first that is not."""
    return all(word.folded in known for word in _words(text))


def _words(text: str) -> Iterator[Word]:
    text = text if text.isascii() else _MISREAD.sub(_as_meant, text)
    for match in _WORD.finditer(text):
        folded = _folded(match[0])
        if folded:
            yield Word(folded, match.start(), match.end())


def vocabulary_of(text: str) -> frozenset[str]:
    """The different words of a text, evened out."""
    return frozenset(word.folded for word in words_of(text))


def _as_meant(match: re.Match[str]) -> str:
    return "'" * len(match[0]) if match[0][-1] in "ôò™˜" else " " * len(match[0])


@lru_cache(maxsize=65_536)
def _folded(word: str) -> str:
    # Twice, as some characters become others that fold once more.
    for _ in range(2):
        word = unicodedata.normalize("NFKD", word).casefold()
    return "".join(character for character in word if character.isalnum() and character not in _APOSTROPHES)


def _quoted(text: str) -> Iterator[Span]:
    """Spans between the marks of the outermost quotes."""
    marks = list(_MARK.finditer(text))
    number = 0
    while number < len(marks):
        opener = marks[number]
        closer = None
        if _opens(text, opener.start()):
            find = _single_closer if opener[0] in _SINGLE_CLOSERS else _closer
            closer = find(text, marks, number)
        if closer is None:
            number += 1
            continue
        yield opener.end(), marks[closer].start()
        number = closer + 1


def _opens(text: str, place: int) -> bool:
    """Whether the mark at `place` can begin a quote, by what stands around it."""
    mark = text[place]
    if mark not in _CLOSERS and mark not in _SINGLE_CLOSERS:
        return False
    before, after = text[place - 1 : place], text[place + 1 : place + 2]
    if mark in "“„‟«「『":
        return bool(after)
    if not after or after.isspace():
        return False
    if before and not before.isspace() and before not in _BEFORE_A_QUOTE:
        return False
    if mark in "'’" and _SHORTENED.match(text, place):
        return False
    return mark != "‚" or text[place : place + 2] != "‚Ä"


def _closes(text: str, place: int) -> bool:
    """Whether the mark at `place` can end a quote, by what stands around it."""
    before, after = text[place - 1 : place], text[place + 1 : place + 2]
    return bool(before) and not before.isspace() and not after.isalnum()


# How many marks are looked at for the partner of one: what a quote holds in marks of its own is bounded.
_MARKS_AHEAD = 24


def _closer(text: str, marks: list[re.Match[str]], number: int) -> int | None:
    """The mark that closes the quote of mark `number`; quotes of the same kind inside are passed over."""
    opener = marks[number]
    closers = _CLOSERS[opener[0]]
    depth = 1
    for ahead in range(number + 1, min(number + 1 + _MARKS_AHEAD, len(marks))):
        mark = marks[ahead]
        if mark[0][0] == "\n" or mark.start() - opener.end() > LONGEST_QUOTE:
            return None
        # A mark that only closes needs no place where one can close.
        if mark[0] in closers and (mark[0] != opener[0] or _closes(text, mark.start())):
            depth -= 1
            if depth == 0:
                return ahead
        elif mark[0] == opener[0] and _opens(text, mark.start()):
            depth += 1
    return None


def _single_closer(text: str, marks: list[re.Match[str]], number: int) -> int | None:
    """The mark that closes the single quote of mark `number`: the first that is no plural's apostrophe, if any."""
    opener = marks[number]
    plural = None
    for ahead in range(number + 1, min(number + 1 + _MARKS_AHEAD, len(marks))):
        mark = marks[ahead]
        place = mark.start()
        if mark[0][0] == "\n" or place - opener.end() > LONGEST_QUOTE:
            break
        if mark[0] in _SINGLE_CLOSERS[opener[0]] and _closes(text, place):
            if not _PLURAL.match(text, place - 1):
                return ahead
            plural = ahead if plural is None else plural
        elif mark[0] in _SINGLE_CLOSERS and _opens(text, place):
            break
    return plural
