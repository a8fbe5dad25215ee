"""Names and numbers that an explanation brings up, and whether its post has them.

A name is a capitalised word, or several in a row, that does not begin a sentence, a line, a quotation or a bracket, and
is not of the usual words: those of the benchmark's questions and labels, disorders and their abbreviations, manuals
of diagnosis, Dunn's model of wellness, platforms, pronouns, words that are written large for stress. Sentences
that write more than three of four words large are headings, and hold no names. A post has a name if it has
each of its words, in any case, with or without a plural or genitive `s`.

A number is written in digits or in words, "one hundred and fifty" too. Words up to three, which mostly count what was
just named, ordinals ("fifth", "5th"), marks of lists ("1.", "(2)"), parts of names ("COVID-19", "DSM-5"), "24/7", "a
hundred", and what counts the explanation's own points ("five reasons") are none. A post has a number if the same value
stands in it in digits or words; "both", "a couple" and "twice" are 2, "10k" is 10,000, "a hundred" is 100. Where "and"
may stand between two numbers instead ("from one hundred and fifty"), a post that has both has it as well.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from mentallama_jax.evaluation.trust.quotes import QuotedPost, Word, find_quotes, vocabulary_of, words_of
from mentallama_jax.imhi.tasks import TASKS, Task

_USUAL = vocabulary_of(
    "i im ive id ill god reasoning reason answer explanation label labels question post poster posters op user author"
    " response prompt note conclusion yes no none not very never always all any only is does must and or but"
    " depression depressive depressed anxiety anxious stress stressed loneliness lonely suicide suicidal ptsd cptsd ocd"
    " adhd add bpd mdd gad sad asd autism autistic aspergers bipolar schizophrenia schizoaffective psychosis borderline"
    " narcissistic narcissism personality major disorder disorders generalized generalised social panic obsessive"
    " compulsive posttraumatic post traumatic syndrome seasonal affective eating anorexia bulimia dysthymia persistent"
    " attention deficit hyperactivity dissociative mental health illness symptoms dsm icd phq gad cbt dbt ssri ssris"
    " dunn dunns tv reddit subreddit twitter tweet facebook internet english ai llm chatgpt tldr tl dr mr mrs ms"
    " however therefore additionally furthermore moreover overall thus also the this these that those they he she it"
    " we you there here while although despite given in on at for from with based"
)
_SENTENCE_END = re.compile(r"[.!?:;\n\"“”„«»()\[\]*#>•|/]|(?:^|\s)['’‘]|['’](?=\s|$)")

_DIGITS = re.compile(
    r"(?<![\w.,])(?<![A-Za-z]-)(?P<value>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
    r"(?:(?P<thousand>[kK]\b)|(?P<ordinal>(?i:st|nd|rd|th)\b))?"
)
_LIST_MARK = re.compile(r"(?:^|\n|[.!?:;,]\s|\s\()[ \t]{0,20}\(?(?=\d{1,2}[.)](?:\s|$))|\s(?=\d{1,2}\)\s)")
_ALWAYS = re.compile(r"\b24/7\b")
_DIGITS_IN_POST = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")
_THOUSANDS_IN_POST = re.compile(r"(?<!\d)(\d{1,9}(?:\.\d{1,9})?) ?[kK]\b")

_UNITS = {
    word.folded: value
    for value, word in enumerate(
        words_of(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
            " seventeen eighteen nineteen"
        )
    )
}
_SMALL = [["one"], ["two"], ["three"]]
_TENS = {
    word.folded: 10 * value
    for value, word in enumerate(words_of("twenty thirty forty fifty sixty seventy eighty ninety"), start=2)
}
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "dozen": 12}
_ROUND = frozenset({"hundred", "thousand", "million"})
_ALSO = {"both": 2, "couple": 2, "twice": 2, "pair": 2, "second": 2, "third": 3, "thrice": 3, "once": 1, "half": 0.5}
_OWN_POINTS = vocabulary_of(
    "reasons factors signs symptoms indicators ways aspects causes things points sentences words phrases main key"
    " different separate distinct possible criteria types options questions statements elements"
)


@dataclass(frozen=True, slots=True)
class Thing:
    """A name or a number in a text.

    Attributes:
        kind: which of the two.
        start: offset of its first character.
        end: offset behind its last character.
        parts: the words of a name, evened out; or the value of a number, and behind it those of the two numbers that it
            may be where "and" joins it.
    """

    kind: Literal["name", "number"]
    start: int
    end: int
    parts: tuple[str, ...]


class NamedPost:
    """A post in which names and numbers are looked for."""

    def __init__(self, post: QuotedPost) -> None:
        """Take the words of a post."""
        self._vocabulary = post.vocabulary
        found = {_value(match[0]) for match in _DIGITS_IN_POST.finditer(post.text)}
        found |= {_shown(1000 * float(match[1])) for match in _THOUSANDS_IN_POST.finditer(post.text)}
        found |= {_shown(value) for word in post.words for value in [_ALSO.get(word.folded)] if value is not None}
        for words in _number_words(post.words):
            found |= {*_values(words), *(_shown(_of_words([word])) for word in words if _is_number(word.folded))}
        self._numbers = found

    def has(self, thing: Thing) -> bool:
        """Whether the post has a name or a number."""
        if thing.kind == "number":
            value, *both = thing.parts
            return value in self._numbers or (bool(both) and self._numbers.issuperset(both))
        return all(not self._vocabulary.isdisjoint((part, f"{part}s", part.removesuffix("s"))) for part in thing.parts)


def named_things(text: str) -> list[Thing]:
    """The names and numbers of a text outside its quotes, in their order."""
    text = _blanked(text)
    return sorted([*_names(text), *_numbers(text)], key=lambda thing: thing.start)


def _blanked(text: str) -> str:
    """The text with blanks for what it quotes, so that offsets hold."""
    parts, last = [], 0
    for quote in find_quotes(text):
        parts += [text[last : quote.start], " " * (quote.end - quote.start)]
        last = quote.end
    return "".join([*parts, text[last:]])


def _names(text: str) -> Iterator[Thing]:
    for sentence in _sentences(text):
        capital = [text[word.start].isupper() for word in sentence]
        if len(sentence) > 4 and 4 * sum(capital) > 3 * len(sentence):
            continue
        run: list[Word] = []
        for place, word in enumerate(sentence):
            if run and (not capital[place] or text[run[-1].end : word.start] not in (" ", "-")):
                yield from _name(run)
                run = []
            if capital[place] and place:
                run.append(word)
        yield from _name(run)


def _sentences(text: str) -> Iterator[list[Word]]:
    """The words of each stretch between marks that may have a capital behind them."""
    current: list[Word] = []
    for word in words_of(text):
        if current and _SENTENCE_END.search(text, current[-1].end, word.start):
            yield current
            current = []
        current.append(word)
    if current:
        yield current


def _name(run: Sequence[Word]) -> Iterator[Thing]:
    usual = _usual(TASKS.all)
    named = [word for word in run if usual.isdisjoint((word.folded, word.folded.removesuffix("s")))]
    if named:
        yield Thing("name", run[0].start, run[-1].end, tuple(word.folded for word in named))


@lru_cache(8)
def _usual(tasks: tuple[Task, ...]) -> frozenset[str]:
    """Words that are no names, with those of all questions and labels."""
    return _USUAL.union(
        *(
            vocabulary_of(text)
            for task in tasks
            for text in (task.question, *task.sentences.values(), *task.completion_words.values(), *task.aspects)
        )
    )


def _numbers(text: str) -> Iterator[Thing]:
    marks = {match.end() for match in _LIST_MARK.finditer(text)}
    marks |= {place for match in _ALWAYS.finditer(text) for place in range(*match.span())}
    words = words_of(text)
    following = {word.start: after.folded for word, after in pairwise(words)}
    for match in _DIGITS.finditer(text):
        counts = match["ordinal"] is None and match.start() not in marks
        if counts and following.get(match.start()) not in _OWN_POINTS:
            value = _value(match["value"])
            value = _shown(1000 * float(value)) if match["thousand"] else value
            yield Thing("number", match.start(), match.end(), (value,))
    for run in _number_words(words):
        folded = [word.folded for word in run]
        is_saying = folded[0] == "a" and _ROUND.issuperset(folded[1:])
        if folded not in _SMALL and not is_saying and following.get(run[-1].start) not in _OWN_POINTS:
            yield Thing("number", run[0].start, run[-1].end, _values(run))


def _number_words(words: Sequence[Word]) -> Iterator[list[Word]]:
    """Runs of words that are numbers, each run one number: a unit ends it unless a scale follows.

    A run may begin with "a" before a scale, and hold "and" between a scale and its rest.
    """
    run: list[Word] = []
    for place, word in enumerate(words):
        known = word.folded
        joins = known == "and" and bool(run) and _joins(run[-1].folded, words[place + 1 : place + 4])
        last = [each.folded for each in run[-2:] if each.folded != "and"]
        if run and not joins and not _goes_on(last[-1], known):
            yield run
            run = []
        if not run and known in _ROUND and place and words[place - 1].folded == "a":
            run = [words[place - 1], word]
        elif joins or known in _UNITS or known in _TENS or (run and known in _SCALES):
            run.append(word)
    if run:
        yield run


def _joins(last: str, after: Sequence[Word]) -> bool:
    """Whether "and" joins a scale to what stands behind it: to "fifty", and not to "two hundred", which is another."""
    rest = [word.folded for word in after]
    if last not in _ROUND or not rest or not (rest[0] in _TENS or _UNITS.get(rest[0])):
        return False
    behind = rest[2:] if len(rest) > 1 and _goes_on(rest[0], rest[1]) and rest[1] not in _SCALES else rest[1:]
    return not behind or behind[0] not in _SCALES or _SCALES[behind[0]] > _SCALES[last]


def _values(run: Sequence[Word]) -> tuple[str, ...]:
    """The value of a run, and behind it those of the two numbers that it may be where "and" stands in it."""
    places = [place for place, word in enumerate(run) if word.folded == "and"]
    both = [run[: places[-1]], run[places[-1] + 1 :]] if places else []
    return tuple(_shown(_of_words(words)) for words in (run, *both))


def _is_number(folded: str) -> bool:
    return folded in _UNITS or folded in _TENS or folded in _SCALES


def _goes_on(last: str, word: str) -> bool:
    if word in _SCALES:
        return True
    return (word in _UNITS and ((last in _TENS and 0 < _UNITS[word] < 10) or last in _SCALES)) or (
        word in _TENS and last in _SCALES
    )


def _of_words(words: Sequence[Word]) -> float:
    total, part = 0, 0
    for word in words:
        if word.folded in _SCALES:
            part = max(part, 1) * _SCALES[word.folded]
            if word.folded != "hundred":
                total, part = total + part, 0
        else:
            part += _UNITS.get(word.folded, 0) + _TENS.get(word.folded, 0)
        part, total = min(part, 10**12), min(total, 10**12)
    return total + part


def _value(digits: str) -> str:
    return _shown(float(digits.replace(",", "")[:30]))


def _shown(value: float) -> str:
    return f"{value:.10g}"
