"""Reading a label from what a model wrote: from the whole output, and never a default class.

`read_label` asks four questions in turn; the first that finds anything decides, and where it finds several
different labels the output is unparsed (None):

1. the opening: does the output begin with a label ("Yes, ...", "school. Reasoning: ...", "Answer: no")?
2. declared answers anywhere: a whole label sentence of the benchmark, "the answer is ...", a line that is only a label;
3. claims in words ("... is likely suffering from stress", "shows no signs of ..."), negation in mind; those of
   sentences that open as a conclusion ("Overall, ...") before others;
4. for label names only: the one name that the answer part mentions, where it (what stands before any `Reasoning:`)
   is a single sentence.

An opening that contradicts its own sentence ("Yes, the poster does not ...") is unparsed. Text after the start of a
further question (`Consider this post:`, as run-on models write) does not count, nor do quotations.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from mentallama_jax.imhi.claims import (
    LINKS,
    QUANTIFIERS,
    SHOWS,
    SIGNS,
    SUBJECT,
    SUFFERS,
    Claims,
    Concept,
    concludes,
    is_withheld,
    sentences,
)
from mentallama_jax.imhi.tasks import TASKS, Task

_CONDITIONS = {
    "depression": Concept(r"depression|depressive (?:symptoms|disorder|episodes?)", r"depressed"),
    "stress": Concept(r"stress", r"stressed(?: out)?"),
    "loneliness": Concept(r"loneliness", r"lonely"),
}
_CONDITION_OF = {"DR": "depression", "CLP": "depression", "dreaddit": "stress", "loneliness": "loneliness"}
_DISORDERS = r"mental (?:health )?(?:disorders?|illness(?:es)?|conditions?)(?: symptoms?)?"
_NOTHING = {
    "T-SID": ("no mental disorders", _DISORDERS),
    "SWMH": ("no mental disorders", _DISORDERS),
    "CAMS": ("none", r"causes? (?:of|for) depression|depression causes?"),
}
"""Of tasks with a "none of them" label: that label, and what an output denies when it means it."""

_SUICIDE = r"suicid(?:e|al(?:ity| ideation| tendenc(?:y|ies)| thoughts)?)"
_NAMES = {
    ("SWMH", "bipolar disorder"): r"bipolar(?: disorder)?",
    ("SWMH", "suicide"): _SUICIDE,
    ("SWMH", "anxiety"): r"anxiety(?: disorder)?",
    ("SWMH", "no mental disorders"): rf"no {_DISORDERS}|none",
    ("T-SID", "ptsd"): r"post-?traumatic stress(?: disorder)?",
    (
        "T-SID",
        "suicide or self-harm tendency",
    ): rf"{_SUICIDE}(?: (?:or|and) self-harm)?(?: tendenc(?:y|ies))?|self-harm",
    ("T-SID", "no mental disorders"): rf"no {_DISORDERS}|none",
    ("SAD", "financial problem"): r"financial (?:problems?|issues?|difficult(?:y|ies)|concerns?|stress)|finances",
    ("SAD", "family issues"): r"family(?: (?:issues?|problems?|conflicts?))?",
    ("SAD", "social relationships"): r"social relationships?",
    ("SAD", "work"): r"work(?! out\b)",
    ("SAD", "health issues"): r"(?<!mental )health(?: (?:issues?|problems?|concerns?))?",
    ("SAD", "emotional turmoil"): r"emotion(?:al)? turmoil",
    ("SAD", "everyday decision making"): r"(?:everyday )?decision[- ]making|everyday decisions?",
    ("SAD", "other causes"): r"other (?:stress )?causes?",
    ("CAMS", "bias or abuse"): r"bias (?:or|and) abuse|bias|abuse",
    ("CAMS", "jobs and career"): r"jobs? (?:and|or) careers?|jobs?|careers?",
    ("CAMS", "medication"): r"medications?",
    ("CAMS", "relationship"): r"relationships?",
    ("CAMS", "none"): r"no causes?(?: of depression)?",
}
"""Wordings of a label besides the benchmark's own; each must stand as whole words."""

_YES_NO = {"yes": r"yes|yeah|yep", "no": r"no(?!\. ?\d)|nope"}

_QUOTATION = re.compile(r'"([^"\n]*)"')
_MARKUP = re.compile(r"[*_#`>|•]+|^ ?[-–—]+ ?", re.MULTILINE)
_NEXT_QUESTION = re.compile(r"\bconsider this post ?:|^(?:post|question) ?:", re.MULTILINE)
_ECHO = re.compile(r"^question ?:[^?]*\? ?")
_ANSWER = (
    r"\b(?:answer|label|prediction|conclusion|verdict)(?: (?:to|for|of|in) (?:the|this) (?:question|post|case))?"
    r"(?:(?:,| ?:)? quotation)?(?: of| is| would be| should be|,| ?:| ?=)+\s*(?:\(?[a-e][.)] ?)?|\ba ?:\s*"
)
_OPINION = (
    r"\bi (?:would |will )?(?:say|think|guess|believe|answer)(?: that| ?:)? |\b(?:therefore|thus|hence|so|overall),? "
)
_OPENER = r"(?:(?:the|my|this|short|final|correct|overall) ){0,3}"
_END = re.compile(
    r" ?(?:$|[.,;:!()\n])| ?[-–—]+ | [-–—]+|\s+(?:reasoning|because|as|since|due to|is|the|this|that|they|there"
    r"|it|he|she|i|you|we|but|definitely|absolutely|indeed)\b"
)
_LONGEST_CLAUSE = 300
_SENTENCE_END = re.compile(r"[.!?] |\n")
_YES_NO_FIRST = re.compile(r"(?:yes|no), ")
_REASONING_FIRST = re.compile(r"(?:reasoning ?: ?)?(?:\(?[a-e][.)] ?)?")
_JOINT = re.compile(r" ?(?:/|,? ?\b(?:and|or)\b|&|,) ?")
_UNDECIDED = re.compile(
    r"\b(?:unclear|not clear|cannot|(?:hard|difficult|impossible) to|depends|not enough|uncertain)\b"
)


def read_label(text: str, task: Task, aspect: str = "") -> str | None:
    """Read the label that a model's output states.

    Args:
        text: the output, whole.
        task: which data set's labels to look for.
        aspect: what the question was about, where it is known; statements about other aspects are then passed over.

    Returns:
        A canonical label of `task`, or None where the output states none, or several, or only implies one.
    """
    reader = _reader(task.name, aspect)
    folded = _fold(text)
    for read in (reader.opening, reader.declared, reader.claimed, reader.mentioned):
        labels = read(folded)
        if labels:
            return labels.pop() if len(labels) == 1 else None
    return None


def contradicts(label: str, explanation: str, task: Task, aspect: str = "") -> bool:
    """Whether an explanation, read without its label sentence, states another label of `task` than `label`.

    Some released explanations argue for another label than that of their row. False where the explanation states no
    label, or only implies one: what is counted is what the explanation says in so many words.
    """
    return read_label(f"Reasoning: {explanation}", task, aspect) not in (None, label)


def _fold(text: str) -> str:
    """Even out case, blanks, quotes and markup, spell `n't` out, cut run-on questions off; line breaks stay.

    A quotation becomes the word `quotation` unless it is a label ('the label of "No" is right').
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    folded = folded.translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'}).strip()
    if folded.startswith('"') and folded.endswith('"') and folded.count('"') == 2:
        folded = folded[1:-1]
    folded = re.sub(r"\bcan(?:'t| not)\b", "cannot", folded).replace("won't", "will not")
    folded = re.sub(r"n't\b", " not", folded)
    folded = _QUOTATION.sub(lambda match: match[1] if _bare(match[1]) in _wordings() else "quotation", folded)
    folded = re.sub(r"[^\S\n]+", " ", _MARKUP.sub(" ", folded))
    folded = re.sub(r" ?\n\s*", "\n", folded).strip()
    folded = _ECHO.sub("", folded)
    further = _NEXT_QUESTION.search(folded)
    return folded[: further.start()].strip() if further else folded


def _bare(wording: str) -> str:
    return wording.strip().removesuffix(".").removesuffix(",").casefold().replace("n't", " not")


@cache
def _wordings() -> frozenset[str]:
    tables = (table for task in TASKS.values() for table in (task.sentences, task.completion_words))
    return frozenset(_bare(wording) for table in tables for wording in table.values())


@dataclass(frozen=True, slots=True)
class _Reader:
    """What one task and aspect look for. Each method takes folded text and returns the labels that it finds.

    Attributes:
        names: label -> its wordings, as whole words.
        templates: label -> its sentence in the instruction format.
        statements: patterns that a label's name follows.
        claims: of the concept whose affirmation or denial means a label; None where the task has none.
        meaning: that label.
        lead: what may introduce a declared answer.
        by_name: labels are names; else yes and no.
    """

    names: dict[str, re.Pattern[str]]
    templates: dict[str, re.Pattern[str]]
    statements: tuple[re.Pattern[str], ...]
    claims: Claims | None
    meaning: dict[bool, str]
    lead: re.Pattern[str]
    by_name: bool

    def opening(self, text: str) -> set[str]:
        start = 0
        while (lead := self.lead.match(text, start)) is not None:
            start = lead.end()
        if (marker := (_YES_NO_FIRST if self.by_name else _REASONING_FIRST).match(text, start)) is not None:
            start = marker.end()
        first = next(iter(sentences(text[start:])), "")
        labels = self._named(text, start) | {
            label for label, template in self.templates.items() if template.match(first)
        }
        if labels or any(statement.match(first) for statement in self.statements):
            labels |= self._claimed_in(first)
        return labels | {"undecided"} if labels and _UNDECIDED.search(first) else labels

    def declared(self, text: str) -> set[str]:
        labels = {
            label
            for sentence in sentences(text)
            for label, pattern in self.templates.items()
            for match in pattern.finditer(sentence)
            if not is_withheld(sentence[: match.start()])
        }
        lines = [line.rstrip(".!") for line in text.split("\n")]
        labels |= {label for line in lines for label, name in self.names.items() if name.fullmatch(line)}
        for lead in self.lead.finditer(text):
            named = self._named(text, lead.end())
            before = text[max(0, lead.start() - _LONGEST_CLAUSE) : lead.start()]
            if named and not is_withheld(_SENTENCE_END.split(before)[-1]):
                labels |= named
        return labels

    def claimed(self, text: str) -> set[str]:
        found = [(concludes(sentence), self._claimed_in(sentence)) for sentence in sentences(text)]
        return _union(labels for concluded, labels in found if concluded) or _union(labels for _, labels in found)

    def mentioned(self, text: str) -> set[str]:
        answer = text.partition("reasoning:")[0].strip()
        if not self.by_name or len(sentences(answer)) != 1 or answer.endswith("?"):
            return set()
        return {
            label
            for label, name in self.names.items()
            for match in name.finditer(answer)
            if not is_withheld(answer[: match.start()])
        }

    def _claimed_in(self, sentence: str) -> set[str]:
        if sentence.endswith("?"):
            return set()
        polarities = self.claims.polarities(sentence) if self.claims else set()
        return {self.meaning[polarity] for polarity in polarities if polarity in self.meaning}.union(
            *(
                self._named(sentence, match.end(), listed=True)
                for statement in self.statements
                for match in statement.finditer(sentence)
                if not is_withheld(sentence[: match.end()])
            )
        )

    def _named(self, text: str, start: int, *, listed: bool = False) -> set[str]:
        """The labels whose names stand at `start`, joined by commas, `and`, `or`: all of them, so that lists show.

        Unless `listed`, the last name must end what it stands in ("no" does not in "no one").
        """
        labels: set[str] = set()
        while (found := self._name_at(text, start)) is not None:
            end, label = found
            joint = _JOINT.match(text, end)
            goes_on = joint is not None and self._name_at(text, joint.end()) is not None
            if labels or listed or goes_on or _END.match(text, end):
                labels.add(label)
            if joint is None or not goes_on:
                break
            start = joint.end()
        return labels

    def _name_at(self, text: str, start: int) -> tuple[int, str] | None:
        """End and label of the longest name that stands at `start`."""
        matches = ((name.match(text, start), label) for label, name in self.names.items())
        return max(((match.end(), label) for match, label in matches if match), default=None)


def _union(sets: Iterable[set[str]]) -> set[str]:
    return set().union(*sets)


@cache
def _reader(name: str, aspect: str) -> _Reader:
    task = TASKS[name]
    by_name = _by_name(task)
    names = {label: _names(task, label) if by_name else _YES_NO[label] for label in task.labels}
    concept, meaning = _concept(task, aspect)
    return _Reader(
        names={label: re.compile(rf"(?<![\w-])(?:{wordings})(?![\w-])") for label, wordings in names.items()},
        templates={label: _template(sentence) for label, sentence in task.sentences.items()},
        statements=tuple(_statements(task, "|".join(names.values()))),
        claims=Claims(concept) if concept else None,
        meaning=meaning,
        lead=re.compile(rf"{_OPENER}(?:{_ANSWER})" if by_name else rf"{_OPENER}(?:{_ANSWER}|{_OPINION})"),
        by_name=by_name,
    )


def _by_name(task: Task) -> bool:
    return set(task.labels) != {"yes", "no"}


def _names(task: Task, label: str) -> str:
    own = sorted({label, task.completion_words[label].casefold()})
    return "|".join([*filter(None, [_NAMES.get((task.name, label))]), *map(re.escape, own)])


def _template(sentence: str) -> re.Pattern[str]:
    """The label sentence as a pattern: `suffer` for `suffers`, commas and blanks free, and nothing after it."""
    words = [re.escape(word) for word in sentence.casefold().replace(",", "").removesuffix(".").split()]
    loose = [re.sub("^(suffer|show|exist)s?$", r"\1s?", word) for word in words]
    return re.compile(rf"(?<![\w-]){',? '.join(loose)}(?= ?(?:$|[.!;:()\n])| reasoning\b)")


def _concept(task: Task, aspect: str) -> tuple[Concept | None, dict[bool, str]]:
    if task.name in _CONDITION_OF:
        return _CONDITIONS[_CONDITION_OF[task.name]], {True: "yes", False: "no"}
    if task.name in _NOTHING:
        label, nouns = _NOTHING[task.name]
        return Concept(nouns, exists=True), {False: label}
    if not task.aspects:
        return None, {}
    asked = "|".join([aspect] if aspect else task.aspects)
    if task.name == "IRF":
        nouns = rf"risks? of (?:{asked})|risk(?! of)|(?:{asked})"
    else:
        others = "".join(rf"(?<!\b{other} )" for other in task.aspects if aspect)
        nouns = (
            rf"{others}(?:(?:{asked}) )?(?:wellness )?dimension(?: of wellness)?(?! of)"
            rf"|(?:wellness )?dimension of (?:the )?(?:{asked})(?: aspect)?"
            rf"|(?:{asked}) (?:wellness(?: dimension)?|aspect(?: of (?:\w+ )?wellness)?)"
        )
    return Concept(nouns, exists=True), {True: "yes", False: "no"}


_TOPICS = {"SAD": "stress", "CAMS": "depression"}


def _statements(task: Task, names: str) -> Iterable[re.Pattern[str]]:
    """What a label's name follows in a statement of it, by the task's labels; nothing for yes and no."""
    here = rf" (?=(?:{names})(?![\w-]))"
    if task.name in ("SWMH", "T-SID"):
        symptoms = rf"(?: mental (?:health )?disorders?)?(?:{SIGNS})?{QUANTIFIERS}{{0,6}}"
        yield re.compile(rf"{SUBJECT}{LINKS}{{0,6}} (?:{SHOWS}|{SUFFERS}){QUANTIFIERS}{{0,6}}{symptoms}{here}")
        yield re.compile(rf"\bmental (?:health )?disorders?(?: symptoms)?{LINKS}{{0,4}} (?:related to|of|is|are){here}")
    elif task.name in _TOPICS:
        topic = _TOPICS[task.name]
        whose = r"(?:(?:the|this|their|his|her) )?(?:(?:poster|post)'s )?"
        cause = rf"(?:{topic} causes?|(?:causes?|sources?) (?:of|for|behind) {whose}{topic}|mental disorder cause)"
        where = r"(?: (?:of|in|for) (?:this|the) (?:post|poster|situation|case))?"
        yield re.compile(
            rf"(?:{SUBJECT}{LINKS}{{0,6}} {SHOWS}{QUANTIFIERS}{{0,6}} |\b){cause}{where}{LINKS}{{0,4}}"
            rf"(?: (?:related to|relates to|caused by|of|about))?{QUANTIFIERS}{{0,4}}{here}"
        )
        yield re.compile(
            rf"\b{topic}{LINKS}{{0,3}} (?:caused by|due to|related to|because of){QUANTIFIERS}{{0,4}}{here}"
        )
        rank = r"(?: (?:the|an?|one|of|main|primary|major|biggest|likely|key|significant|mainly))*"
        yield re.compile(rf"(?<![\w-])(?<!and )(?<!or )(?=(?:{names}) (?:is|are|as|being|to be){rank} {cause}\b)")
    if _by_name(task):
        yield re.compile(
            rf"\b(?:falls?|fits?|belongs?) (?:under|into|in|to)(?: the)? (?:category|label|class)(?: of)?{here}"
        )
        yield re.compile(rf"\bmaking (?=(?:{names}) (?:the|an?)(?: most)?(?: \w+)? label\b)")
