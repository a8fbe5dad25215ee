"""The stages of reading a label from an answer, for one task and aspect."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from mentallama_jax.imhi.labels.corrections import corrections
from mentallama_jax.imhi.labels.listings import (
    OPTION_CHOSEN,
    OPTION_FIRST,
    OPTION_LINE,
    before_reasons,
    heading_mark,
    is_enumerated,
    is_scored,
    later_parts,
)
from mentallama_jax.imhi.labels.polarity import (
    TAIL,
    affirms,
    concludes,
    is_withheld,
    mentions_freely,
    plain,
    sentences,
)
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
_OPTION_A = re.compile(r"\(?a ?:\s*\(?")
_YES_NO_FIRST = re.compile(r"(?:yes|no), ")
_REASONING_FIRST = re.compile(r"(?:reasoning ?: ?)?(?:\(?[a-e][.)] ?)?")
_JOINT = re.compile(r" ?(?:/|,? ?\b(?:and|or)\b|&|,) ?")
_UNDECIDED = re.compile(
    r"\b(?:unclear|not clear|cannot (?:be|say|tell|determine|decide|conclude|judge|know|pick)|depends|not enough"
    r"|uncertain|(?:hard|difficult|impossible) to)\b"
)
_SHARE = r" ?(?:[:=(-]|is|at)? ?(?P<share>\d{1,3}(?:\.\d+)?) ?%"
_PART_BEFORE = r"(?:^|[\n.,;!?:(/%] ?|\b(?:and|or|of) )"
_NEGATIVE_NAME = re.compile(r"(?:no|none)\b")
# What may follow the name of a label in a statement of it: "family dinner" is no family issue.
_AFTER_NAME = re.compile(
    rf"{TAIL}| (?:the|an?|being|itself|alone|issues?|problems?|concerns?|difficult(?:y|ies)|troubles?|conflicts?"
    r"|pressures?|worries|struggles?|stress|stressors?|factors?|causes?|disorders?|tendenc(?:y|ies)|ideation|thoughts"
    r"|relat(?:ed|ing)|caused|stemming|surrounding|unlike)\b"
)
# A last sentence that is only a label answers these questions, and not the one that was asked.
_OTHER_QUESTION = re.compile(
    r"\b(?:words?|use[ds]?|mention(?:s|ed)?|says?|said|history|family|friends?|ever|past)\b.*\?$"
)
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
        *_, corrected = [None, *corrections(text)]
        if corrected is not None:
            before, after = text[: corrected[0]], text[corrected[1] :]
            opened, _ = self._opened(before)
            if opened and len(before_reasons(before)) < len(before):
                return self._corrected_in_reasons(opened, after)
            found, stage = self._read_plain(after)
            if found or opened:
                return _reading(found, f"behind a correction, {stage}" if found else "correction")
        return _reading(*self._read_plain(text))

    def _corrected_in_reasons(self, opened: set[str], after: str) -> Reading:
        """Reasons weigh things up: there only an answer that is declared anew overrules the one that was given."""
        if declared := self.final(after) | self.declared(after):
            return _reading(declared, "behind a correction, declared answer")
        found, stage = self._read_plain(after)
        return _reading(opened | found, f"opening and, behind a correction, {stage}" if found else "opening")

    def _read_plain(self, text: str) -> tuple[set[str], str]:
        final = self.final(text)
        opening, stage = self._opened(text)
        if opening:
            # Behind an answer with its reasons only a final answer counts: reasons may weigh other labels.
            opening |= self.declared(before_reasons(text) or text, with_last=False)
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

    def _opened(self, text: str) -> tuple[set[str], str]:
        """What the answer says before its reasons, and by which stages."""
        answer = before_reasons(text)
        found = {"percentages": self.shares(answer), "keys": self.keyed(answer), "opening": self.opening(text)}
        return _union(found.values()), " and ".join(stage for stage, labels in found.items() if labels)

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
            for match in _shared(name).finditer(text)
        }
        largest = [label for label, share in found.items() if share == max(found.values())]
        return set(largest) if len(found) > 1 else set()

    def keyed(self, text: str) -> set[str]:
        """The labels of lines and parts such as "depression: no" and "anxiety: yes"."""
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
        option = OPTION_FIRST.match(text, start)
        first = next(iter(sentences(text[start : start + 2 * _LONGEST_SENTENCE])), "")
        labels = self._named(text, start) if not self._heads_a_list(text, start) else set()
        labels |= {label for label, template in self.words.templates.items() if template.match(first)}
        if not labels and option is not None and not self._heads_a_list(text, option.end()):
            labels = self._named(text, option.end())
        if not labels and not self.words.by_name and not self._is_heading(text, start):
            labels = self._valued(text, start) if not self._heads_a_list(text, start) else set()
        if not labels and first.endswith("?") and self.words.claims and self.words.claims.concern(first):
            return self.opening(text[text.index("?") + 1 :].lstrip())
        if labels or any(statement.match(first) for statement in self.words.statements):
            labels |= self._claimed_in(first)
        return labels | {"undecided"} if labels and _UNDECIDED.search(first) else labels

    def _heads_a_list(self, text: str, start: int) -> bool:
        """Whether the label at `start` is scored, or another one heads a later part in the same way."""
        found = self._stated_at(text, start)
        if found is None:
            return False
        end, label = found
        if is_scored(text, end, in_brackets=True):
            return True
        numbered, mark = is_enumerated(text, start), heading_mark(text, end)
        if not numbered and not mark:
            return False
        for place, also_numbered in later_parts(text, end):
            other = self._stated_at(text, place)
            if other is not None and other[1] != label:
                alike = also_numbered if numbered else heading_mark(text, other[0]) == mark
                if alike:
                    return True
        return False

    def declared(self, text: str, *, with_last: bool = True) -> set[str]:
        """Whole label sentences, leads such as "the answer is", and lines that are only a label.

        Args:
            text: the answer.
            with_last: whether a last sentence that is only a label counts as well.
        """
        left = self._without_options(text)
        parts = sentences(left)
        labels = {
            label
            for sentence in dict.fromkeys(parts)
            for label, pattern in self.words.templates.items()
            for match in pattern.finditer(sentence)
            if not is_withheld(sentence[: match.start()])
        }
        lines = {line.rstrip(".!") for line in left.split("\n")}
        labels |= _union(self.keyed(line) for line in lines if self._is_keyed(line))
        if with_last and not (len(parts) > 1 and _OTHER_QUESTION.search(parts[-2])):
            lines |= {part.rstrip(".!") for part in parts[-1:]}
        labels |= {label for line in lines for label, name in self.words.names.items() if name.fullmatch(line)}
        return labels | self._after(self.words.lead, text)

    def claimed(self, text: str) -> set[str]:
        """What sentences claim in words; those that open as a conclusion before others."""
        found = [
            (concludes(sentence), self._claimed_in(sentence))
            for sentence in dict.fromkeys(sentences(self._without_options(text)))
            if not self._is_item(sentence)
        ]
        return _union(labels for concluded, labels in found if concluded) or _union(labels for _, labels in found)

    def mentioned(self, text: str) -> set[str]:
        """The names that the answer part mentions, where it is a single sentence."""
        answer = before_reasons(text).strip()
        if not self.words.by_name or answer.endswith("?") or len(answer) > _LONGEST_SENTENCE:
            return set()
        answer = _NOT_BUT.sub("", answer)
        if len(sentences(answer)) != 1:
            return set()
        found = [(match, label) for label, name in self.words.names.items() for match in name.finditer(answer)]
        if any(
            self._taken_back(answer, match.end())
            or is_scored(answer, match.end(), in_brackets=True)
            or not _AFTER_NAME.match(answer, match.end())
            for match, _ in found
        ):
            return set()
        for match, _ in found:
            # The "no" of "no mental disorders" is a part of the name, and denies nothing; not so in "none of these".
            if _NEGATIVE_NAME.match(match[0]) and not answer.startswith(" of", match.end()):
                answer = f"{answer[: match.start()]}{' ' * len(match[0])}{answer[match.end() :]}"
        return {label for _, label in found} if mentions_freely(answer) else set()

    def _after(self, lead: re.Pattern[str], text: str) -> set[str]:
        """The labels that stand after `lead` anywhere, by name, by value or by the mark of a listed option."""
        labels: set[str] = set()
        options = {line["mark"]: line["text"].rstrip(".!") for line in OPTION_LINE.finditer(text)}
        for match in lead.finditer(text):
            if len(options) > 1 and _OPTION_A.fullmatch(match[0]):
                continue
            named = self._named(text, match.end()) or self._valued(text, match.end())
            if named and (stated := self._stated_at(text, match.end())) and is_scored(text, stated[0]):
                continue
            if not named and (mark := OPTION_CHOSEN.match(text, match.end())) is not None:
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
                self._named(stated, match.end(), in_statement=True)
                for statement in self.words.statements
                for match in statement.finditer(stated)
                if affirms(stated, match)
            )
        )

    def _named(self, text: str, start: int, *, in_statement: bool = False) -> set[str]:
        """The labels whose names stand at `start`, joined by commas, `and`, `or`: all of them, so that lists show.

        The last name must end what it stands in ("no" does not in "no one"); `in_statement`, a noun of its own must not
        go on ("suicide" does in "suicide prevention").
        """
        labels: set[str] = set()
        ends = _AFTER_NAME if in_statement else _END
        while (found := self._name_at(text, start)) is not None:
            end, label = found
            joint = _JOINT.match(text, end)
            goes_on = joint is not None and self._name_at(text, joint.end()) is not None
            if (labels or goes_on or ends.match(text, end)) and not self._taken_back(text, end):
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

    def _stated_at(self, text: str, start: int) -> tuple[int, str] | None:
        """End and label of the longest name or value that stands at `start`."""
        matches = ((value.match(text, start), label) for label, value in self.words.values.items())
        valued = max(((match.end(), label) for match, label in matches if match), default=None)
        named = self._name_at(text, start)
        return max((found for found in (named, valued) if found), default=None)

    def _without_options(self, text: str) -> str:
        """The text without the options that it lists: lines with marks, where several are labels."""
        lines = [line for line in OPTION_LINE.finditer(text) if self._fully_valued(line["text"].rstrip(".!"))]
        if len(lines) < 2:
            return text
        ends = [0, *(line.end() for line in lines)]
        return "".join(text[end : line.start()] for end, line in zip(ends, lines, strict=False)) + text[ends[-1] :]

    def _is_item(self, sentence: str) -> bool:
        """Whether a sentence goes through a label by its name, as in "no mental disorders - little is said of it"."""
        stated = self._name_at(sentence, 0) if self.words.by_name else None
        return stated is not None and (
            bool(heading_mark(sentence, stated[0])) or is_scored(sentence, stated[0], in_brackets=True)
        )

    def _is_keyed(self, line: str) -> bool:
        """Whether a line is a key and its value, and nothing more."""
        ends = (keyed.match(line) for keyed in self.words.keyed.values())
        return any(match is not None and not line[match.end() :].strip(".! ") for match in ends)

    def _valued(self, text: str, start: int) -> set[str]:
        """The label whose value stands at `start` and ends there."""
        matches = ((value.match(text, start), label) for label, value in self.words.values.items())
        found = max(((match.end(), label) for match, label in matches if match), default=None)
        if found is None or self._taken_back(text, found[0]):
            return set()
        return {found[1]}


_LONGEST_SENTENCE = 1500


@lru_cache(512)
def _shared(name: re.Pattern[str]) -> re.Pattern[str]:
    return re.compile(rf"{_PART_BEFORE}{name.pattern}{_SHARE}")


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
