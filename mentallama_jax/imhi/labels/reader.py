"""The stages of reading a label from an answer, for one task and aspect."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from mentallama_jax.imhi.labels.polarity import affirms, concludes, is_withheld, mentions_freely, plain, sentences
from mentallama_jax.imhi.labels.wordings import Wordings, wordings
from mentallama_jax.imhi.tasks import Task

_END = re.compile(
    r" ?(?:$|[.,;:!()\n])| ?[-–—]+ | [-–—]+|\s+(?:reasoning|because|as|since|due to|is|the|this|that|they|there"
    r"|it|he|she|i|you|we|but|given|based|rather|instead|not|definitely|absolutely|indeed|here)\b"
)
# A label that is then denied, or asked about, is not stated.
_TAKEN_BACK = re.compile(
    r" ?\?| (?:finds?|has|have) no\b| ?[:=] ?(?:no|not|unlikely|absent|none|false)\b| [-–—] ?(?:no|not)\b"
    r"|,? (?:perhaps|maybe|possibly)\b| (?:was|were|is mentioned|are mentioned)\b"
    r"|,? (?:is|are|was|were|would be|seems?|does|do|did|has|have|can|could) ?"
    r"(?:not\b|never|no longer|ruled out|unlikely|out of the question|absent|less likely|doubtful|questionable"
    r"|debatable|unfounded|untrue|false|wrong)"
    r"|,? (?:cannot\b|(?:may|might|could|can) be\b|or not\b)"
)
_LONGEST_CLAUSE = 300
_SENTENCE_END = re.compile(r"[.!?] |\n")
_YES_NO_FIRST = re.compile(r"(?:yes|no), ")
_REASONING_FIRST = re.compile(r"(?:reasoning ?: ?)?(?:\(?[a-e][.)] ?)?")
_OPTION_FIRST = re.compile(r"\(?[a-i1-9][.)] ?")
_JOINT = re.compile(r" ?(?:/|,? ?\b(?:and|or)\b|&|,) ?")
_UNDECIDED = re.compile(
    r"\b(?:unclear|not clear|cannot (?:be|say|tell|determine|decide|conclude|judge|know|pick)|depends|not enough"
    r"|uncertain|(?:hard|difficult|impossible) to)\b"
)
_CORRECTED = re.compile(
    r"(?:^|[.!?,:;)\-–—] |\n)(?:(?:hm+|oh|but|ah),? )?"
    r"(?:no,? wait|wait|hold on|hm+|correction|scratch that|on (?:second|further) thoughts?|on reflection"
    r"|let me (?:re\w+|think)"
    r"|i take (?:that|it) back|my mistake|actually,? (?:no|yes|i (?:was|am)|on|the (?:correct|right|answer|label))"
    r"|(?:re-?reading|reading) (?:it|this|the post) again)\b,? ?"
)
_SHARE = r" ?(?:[:=(-]|is|at)? ?(?P<share>\d{1,3}(?:\.\d+)?) ?%"
_OPTION_LINE = re.compile(r"^\(?(?P<mark>[a-i1-9])[.):] ?(?P<text>.{1,60})$", re.MULTILINE)
_OPTION_CHOSEN = re.compile(r"\(?(?:option )?(?P<mark>[a-i1-9])(?= ?(?:$|[.,;:!)\n]))")
_NOTHING = re.compile(r"\bno (?=mental|causes?)|\bnone\b(?! of)")
_NOT_BUT = re.compile(r"\bnot (?:[\w-]+ ){1,5}?but (?:rather )?")
_AFFIRMED = frozenset({"yes", "present", "true"})


class Reading(NamedTuple):
    """What was read from an output.

    Attributes:
        label: canonical; None where the output states none, or several.
        rule: the stage of reading that decided, or why there is no label.
    """

    label: str | None
    rule: str


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads what one task and aspect look for. Each stage takes folded text and returns the labels that it finds."""

    words: Wordings

    def read(self, text: str) -> Reading:
        """The label that folded text states, None where it states none, or several; and the stage that decided."""
        *_, corrected = [None, *_CORRECTED.finditer(text)]
        if corrected is not None:
            after, stage = self._read_plain(text[corrected.end() :])
            if after or self.opening(text[: corrected.start()]):
                return _reading(after, f"behind a correction, {stage}" if after else "correction")
        return _reading(*self._read_plain(text))

    def _read_plain(self, text: str) -> tuple[set[str], str]:
        final = self.final(text)
        opening, stage = set[str](), ""
        for name, find in (("percentages", self.shares), ("keys", self.keyed), ("opening", self.opening)):
            if opening := find(text):
                stage = name
                break
        if final or opening:
            return final | opening, " and ".join(filter(None, ("final answer" if final else "", stage)))
        for name, find in (
            ("declared answer", self.declared),
            ("claim in words", self.claimed),
            ("only name mentioned", self.mentioned),
        ):
            if labels := find(text):
                return labels, name
        return set(), ""

    def final(self, text: str) -> set[str]:
        """What the answer declares as its final or corrected label."""
        return self._after(self.words.final, text)

    def shares(self, text: str) -> set[str]:
        """The label with the largest of several percentages: "Yes: 20%, No: 80%"."""
        if "%" not in text:
            return set()
        found = {
            label: float(match["share"])
            for label, name in self.words.names.items()
            for match in re.finditer(name.pattern + _SHARE, text)
        }
        largest = [label for label, share in found.items() if share == max(found.values())]
        return set(largest) if len(found) > 1 else set()

    def keyed(self, text: str) -> set[str]:
        """The labels of lines such as "depression: no" and "anxiety: yes"."""
        found = {
            (label, match["value"] in _AFFIRMED)
            for label, keyed in self.words.keyed.items()
            for match in keyed.finditer(text)
        }
        if self.words.by_name:
            return {label for label, affirmed in found if affirmed}
        return {"yes" if affirmed else "no" for _, affirmed in found}

    def opening(self, text: str) -> set[str]:
        """The label that the answer begins with."""
        start = 0
        while (lead := self.words.lead.match(text, start)) is not None and lead.end() > start:
            start = lead.end()
        for marker in (_YES_NO_FIRST,) if self.words.by_name else (_REASONING_FIRST,):
            if (found := marker.match(text, start)) is not None:
                start = found.end()
        option = _OPTION_FIRST.match(text, start)
        first = next(iter(sentences(text[start : start + 2 * _LONGEST_SENTENCE])), "")
        labels = self._named(text, start) | {
            label for label, template in self.words.templates.items() if template.match(first)
        }
        if not labels and option is not None and not _OPTION_LINE.search(text, text.find("\n") + 1 or len(text)):
            labels = self._named(text, option.end())
        if not labels and not self.words.by_name and not self._is_heading(text, start):
            labels = self._valued(text, start)
        if not labels and first.endswith("?") and self.words.claims and self.words.claims.concern(first):
            return self.opening(text[text.index("?") + 1 :].lstrip())
        if labels or any(statement.match(first) for statement in self.words.statements):
            labels |= self._claimed_in(first)
        return labels | {"undecided"} if labels and _UNDECIDED.search(first) else labels

    def declared(self, text: str) -> set[str]:
        """Whole label sentences, leads such as "the answer is", and lines that are only a label."""
        parts = sentences(text)
        labels = {
            label
            for sentence in dict.fromkeys(parts)
            for label, pattern in self.words.templates.items()
            for match in pattern.finditer(sentence)
            if not is_withheld(sentence[: match.start()])
        }
        lines = {line.rstrip(".!") for line in text.split("\n")} | {part.rstrip(".!") for part in parts[-1:]}
        labels |= {label for line in lines for label, name in self.words.names.items() if name.fullmatch(line)}
        return labels | self._after(self.words.lead, text)

    def claimed(self, text: str) -> set[str]:
        """What sentences claim in words; those that open as a conclusion before others."""
        found = [(concludes(sentence), self._claimed_in(sentence)) for sentence in dict.fromkeys(sentences(text))]
        return _union(labels for concluded, labels in found if concluded) or _union(labels for _, labels in found)

    def mentioned(self, text: str) -> set[str]:
        """The names that the answer part mentions, where it is a single sentence."""
        answer = text.partition("reasoning:")[0].strip()
        if not self.words.by_name or answer.endswith("?") or len(answer) > _LONGEST_SENTENCE:
            return set()
        answer = _NOT_BUT.sub("", answer)
        if len(sentences(answer)) != 1 or not mentions_freely(_NOTHING.sub("", answer)):
            return set()
        found = [(label, match.end()) for label, name in self.words.names.items() for match in name.finditer(answer)]
        if any(_TAKEN_BACK.match(answer, end) for _, end in found):
            return set()
        return {label for label, _ in found}

    def _after(self, lead: re.Pattern[str], text: str) -> set[str]:
        """The labels that stand after `lead` anywhere, by name, by value or by the mark of a listed option."""
        labels: set[str] = set()
        options = {line["mark"]: line["text"].rstrip(".!") for line in _OPTION_LINE.finditer(text)}
        for match in lead.finditer(text):
            named = self._named(text, match.end()) or self._valued(text, match.end())
            if not named and (mark := _OPTION_CHOSEN.match(text, match.end())) is not None:
                named = self._fully_valued(options.get(mark["mark"], ""))
            before = text[max(0, match.start() - _LONGEST_CLAUSE) : match.start()]
            if named and not is_withheld(_SENTENCE_END.split(before)[-1]):
                labels |= named
        return labels

    def _fully_valued(self, text: str) -> set[str]:
        return {label for label, value in self.words.values.items() if value.fullmatch(text)}

    def _claimed_in(self, sentence: str) -> set[str]:
        if sentence.endswith("?") or len(sentence) > _LONGEST_SENTENCE:
            return set()
        polarities = self.words.claims.polarities(sentence) if self.words.claims else set()
        stated = _NOT_BUT.sub("", plain(sentence))
        return {self.words.meaning[polarity] for polarity in polarities if polarity in self.words.meaning}.union(
            *(
                self._named(stated, match.end(), listed=True)
                for statement in self.words.statements
                for match in statement.finditer(stated)
                if affirms(stated, match)
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
            if (labels or listed or goes_on or _END.match(text, end)) and not self._taken_back(text, end):
                labels.add(label)
            if joint is None or not goes_on:
                break
            start = joint.end()
        return labels

    def _is_heading(self, text: str, start: int) -> bool:
        """Whether what stands at `start` is the noun asked about, as in "Depression: ..."; more must follow it."""
        noun = self.words.heading.match(text, start) if self.words.heading else None
        return noun is not None and noun.end() < len(text.rstrip(".!"))

    def _taken_back(self, text: str, end: int) -> bool:
        return self.words.by_name and _TAKEN_BACK.match(text, end) is not None

    def _name_at(self, text: str, start: int) -> tuple[int, str] | None:
        """End and label of the longest name that stands at `start`."""
        matches = ((name.match(text, start), label) for label, name in self.words.names.items())
        return max(((match.end(), label) for match, label in matches if match), default=None)

    def _valued(self, text: str, start: int) -> set[str]:
        """The label whose value stands at `start` and ends there."""
        matches = ((value.match(text, start), label) for label, value in self.words.values.items())
        found = max(((match.end(), label) for match, label in matches if match), default=None)
        if found is None or self._taken_back(text, found[0]):
            return set()
        return {found[1]}


_LONGEST_SENTENCE = 1500


def _reading(labels: set[str], stage: str) -> Reading:
    if not labels:
        return Reading(None, f"{stage}, then no label" if stage else "no label found")
    if "undecided" in labels:
        return Reading(None, f"{stage}: undecided")
    if len(labels) > 1:
        return Reading(None, f"{stage}: several labels")
    return Reading(next(iter(labels)), stage)


def _union(sets: Iterable[set[str]]) -> set[str]:
    return set().union(*sets)


@lru_cache(512)
def reader(task: Task, aspect: str) -> Reader:
    """The reader of a task's answers in English; of any aspect where `aspect` is ""."""
    return Reader(wordings(task, aspect))
