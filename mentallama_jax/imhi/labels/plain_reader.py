"""Reading labels in any language: by the wordings that the task's file declares, and by nothing else.

No rule of English holds here, so that a negation, a hedge or a supposition cannot be seen. What is read is therefore a
whole sentence that says a label and nothing more:

- a label sentence, anywhere;
- a name, a completion wording or an alias as the first sentence, on a line of its own, or behind the task's question;
- any of these behind an introduction: `answer:`, or one of the task's `answer_leads` ("Antwort", "Die Antwort ist").

Not read are questions, quotations, what stands behind another introduction with a colon ("It is wrong to say:"), and
lists of options. An output that says several labels says none.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from mentallama_jax.imhi.task_files.plain_text import Sentence, even, loose, sentences_of
from mentallama_jax.imhi.tasks import Task

# The words of `unwrapping` and of this package's own prompts are English whatever the task.
_LEADS = ("final answer", "answer", "label", "prediction")
_NEXT_QUESTION = re.compile(r"\bconsider this post ?:|^(?:post|question) ?:", re.MULTILINE)
_QUOTATION = re.compile(r'"([^"\n]*)"')
_LONGEST_LEAD = 120
_BETWEEN = " :=\"'-–—\t"


@dataclass(frozen=True)
class PlainReader:
    """Reads the answers to one task.

    Attributes:
        language: of the task.
        sentences: evened-out label sentence -> label.
        names: evened-out name, completion wording or alias -> label.
        questions: the task's own questions.
        leads: what may introduce an answer, longest first.
        keys: JSON keys whose values are answers, lower-case letters a to z only.
    """

    language: str
    sentences: Mapping[str, str]
    names: Mapping[str, str]
    questions: frozenset[str]
    leads: tuple[str, ...]
    keys: re.Pattern[str]

    def read(self, text: str) -> str | None:
        """The label that a text says, free of traces and wrappings; None where it says none, or several."""
        labels = set(self._said(text))
        return next(iter(labels)) if len(labels) == 1 else None

    def _said(self, text: str) -> Iterator[str]:
        folded = even(text)
        further = _NEXT_QUESTION.search(folded)
        folded = self._without_quotations(folded[: further.start()] if further else folded)
        before: Sentence | None = None
        listed = False
        for line in folded.split("\n"):
            found = sentences_of(line, self.language)
            for number, sentence in enumerate(found):
                of_sentence, of_name = self.sentences.get(sentence.text), self.names.get(sentence.text)
                listed = (listed and bool(of_sentence or of_name)) or (
                    before is not None and before.goes_on and before.text not in self.leads
                )
                alone = before is None or len(found) == 1 or (number == 0 and before.goes_on)
                answers = before is None or not before.asks or before.text in self.questions
                if sentence.asks or listed:
                    pass
                elif label := self._declared(sentence.text) or of_sentence:
                    yield label
                elif of_name and answers and (alone or (before is not None and before.asks)):
                    yield of_name
                before = sentence

    def _declared(self, text: str) -> str | None:
        """The label that stands behind an introduction, and ends the sentence."""
        # Of leads that begin alike only the longest counts: what it ends with is no answer.
        lead = next((lead for lead in self.leads if text.startswith(lead)), None)
        if lead is None:
            return None
        rest = loose(text[len(lead) :].strip(_BETWEEN))
        return self.sentences.get(rest) or self.names.get(rest)

    def _without_quotations(self, text: str) -> str:
        """The text with its quotations left out, but a quotation that is all of it, or stands behind a lead."""
        whole = text.strip()
        if whole.startswith('"') and whole.endswith('"') and whole.count('"') == 2:
            return whole[1:-1]

        def replaced(found: re.Match[str]) -> str:
            line = text[max(0, found.start() - _LONGEST_LEAD) : found.start()].rpartition("\n")[2]
            before = sentences_of(line, self.language)
            introduced = before and before[-1].text.rstrip(_BETWEEN) in self.leads
            return f" {found[1]} " if introduced else " quotation "

        return _QUOTATION.sub(replaced, text)


@lru_cache(64)
def plain_reader(task: Task) -> PlainReader:
    """The reader of a task by its wordings alone."""
    names = {}
    for label in task.labels:
        for wording in (label, task.completion_words[label], *task.label_aliases.get(label, ())):
            names[loose(wording)] = names[_text(wording, task)] = label
    sentences = {}
    for label, sentence in task.sentences.items():
        sentences[loose(sentence)] = sentences[_text(sentence, task)] = label
    leads = {_text(lead, task) for lead in (*_LEADS, *task.answer_leads)}
    ascii_leads = [re.sub("[^a-z]", "", lead) for lead in leads if lead.isascii()]
    questions = (task.question.format(aspect=aspect) for aspect in task.aspects or ("",))
    return PlainReader(
        language=task.language,
        sentences=sentences,
        names=names,
        questions=frozenset(_text(question, task) for question in questions),
        leads=tuple(sorted(leads, key=lambda lead: (-len(lead), lead))),
        keys=re.compile("|".join(map(re.escape, sorted(filter(None, ascii_leads))))),
    )


def _text(wording: str, task: Task) -> str:
    """A wording as it stands in a sentence."""
    return " ".join(sentence.text for sentence in sentences_of(wording, task.language))
