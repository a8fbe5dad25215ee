"""What a task is: one data set, its question and the wording of every answer."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

ENGLISH = "en"


@dataclass(frozen=True, slots=True)
class EnglishReading:
    """What English answers to a shipped task look like, as parts of regular expressions over folded text.

    `{aspect}` stands for the aspect asked about (or all), `{not_others}` for "no other aspect stands before it",
    `{at_all}` and `{none}` for what `labels.wordings` calls so.

    Attributes:
        nouns: what a poster suffers from, or what a post shows; "" where the task has no such concept.
        adjectives: what a poster then is; "" for none.
        exists: the nouns are things that are, or are not, in a post.
        denied: the label of tasks with names for labels that a denial of the nouns means; "" for yes and no.
        names: label -> further wordings of it, as whole words.
        topic: of what the labels are causes; "" where they are none.
        disorders: whether the labels are names of disorders.
        keys: JSON keys whose values are answers to a yes or no question; "" for the aspects.
    """

    nouns: str = ""
    adjectives: str = ""
    exists: bool = False
    denied: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    topic: str = ""
    disorders: bool = False
    keys: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """One data set: what it asks of a post and how each answer is worded.

    Attributes:
        name: canonical name, as in the paper; of a task of one's own, as its file says.
        label_aliases: canonical label -> other names met in raw tables, classifiers and answers (without regard to
            case).
        aliases: other spellings met in files and on the hub (matched without regard to case).
        kind: what is detected.
        source: where the posts come from.
        question: of the instruction format; holds `{aspect}` when the task has aspects.
        sentences: canonical label -> label sentence of the instruction format.
        completion_prefix: what the completion format asks a model to continue; may hold `{aspect}`.
        completion_words: canonical label -> its wording in the completion format.
        sizes: rows of the whole benchmark (train, validation, test); None where nobody published them.
        aspects: what the question is about, one row each; empty for a single question.
        high_risk: labels of posts that must not be missed, as somebody may be in danger.
        high_risk_reason: why these, or why none; the benchmark's paper marks none, so each is a choice.
        held_out: whether the generalisation experiment leaves the data set out of training.
        language: of question and answers: a code such as `en`, `de` or `zh-Hans`; `und` where it is not known.
        licence: a note on who may use the data.
        columns: our name of a column -> its name in the raw tables of this data set.
        raw_labels: cell of the raw tables (such as a number) -> canonical label.
        answer_leads: words that introduce an answer, such as "Antwort"; for languages other than English.
        english: how English answers are read besides; None for tasks that are not shipped.
    """

    name: str
    kind: str
    source: str
    question: str
    sentences: Mapping[str, str]
    completion_prefix: str
    completion_words: Mapping[str, str]
    sizes: tuple[int, int, int] | None = None
    label_aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    aspects: tuple[str, ...] = ()
    high_risk: tuple[str, ...] = ()
    high_risk_reason: str = ""
    held_out: bool = False
    language: str = ENGLISH
    licence: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    raw_labels: Mapping[str, str] = field(default_factory=dict)
    answer_leads: tuple[str, ...] = ()
    english: EnglishReading | None = None

    def __hash__(self) -> int:
        # Equal tasks have equal names; the mappings cannot be hashed.
        return hash(self.name)

    @property
    def labels(self) -> tuple[str, ...]:
        """Canonical labels in the order of the file."""
        return tuple(self.sentences)

    @property
    def is_yes_no(self) -> bool:
        """Whether the labels are just `yes` and `no`."""
        return set(self.sentences) == {"yes", "no"}

    @property
    def in_english(self) -> bool:
        """Whether question and answers are English, so that English rules of negation may read them."""
        return self.language.split("-")[0].lower() == ENGLISH

    @property
    def is_shipped(self) -> bool:
        """Whether this is one of the ten data sets of the benchmark."""
        return self.english is not None

    @property
    def high_risk_note(self) -> str:
        """Which labels are of high risk, and why: `yes: ...` or `none: ...`."""
        return f"{', '.join(self.high_risk) or 'none'}: {self.high_risk_reason or 'the task says nothing about risk'}"

    def to_json(self) -> dict[str, Any]:
        """All of the task as plain JSON values; `of_json` reads it back. The shipped reading of English is left out."""
        values = asdict(self)
        del values["english"]
        return dict(json.loads(json.dumps(values)))

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> "Task":
        """The task that `to_json` made these values of. They are not checked: see `task_reading.check`."""
        known = {each.name for each in fields(cls)} - {"english"}
        given = {key: value for key, value in values.items() if key in known}
        for key in ("aliases", "aspects", "high_risk", "answer_leads"):
            given[key] = tuple(given.get(key, ()))
        given["sizes"] = tuple(given["sizes"]) if given.get("sizes") else None
        given["label_aliases"] = {label: tuple(names) for label, names in given.get("label_aliases", {}).items()}
        return cls(**given)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that the task says, sixteen hex digits."""
        text = json.dumps(self.to_json(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
