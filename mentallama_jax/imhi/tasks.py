"""The ten IMHI data sets as one declarative table.

Wording is verbatim from the released benchmark, odd English included: a model tuned on it sees exactly
these strings. Everything else in the package asks this table; no other file spells a question or a label.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown_cell


@dataclass(frozen=True, slots=True)
class Task:
    """One data set: what it asks of a post and how each answer is worded.

    Attributes:
        name: canonical name, as in the paper.
        label_aliases: canonical label -> other names met in raw tables and classifiers (without regard to case).
        aliases: other spellings met in files and on the hub (matched without regard to case).
        kind: what is detected.
        source: where the posts come from.
        question: of the instruction format; holds `{aspect}` when the task has aspects.
        sentences: canonical label -> label sentence of the instruction format.
        completion_prefix: what the completion format asks a model to continue; may hold `{aspect}`.
        completion_words: canonical label -> its wording in the completion format.
        aspects: what the question is asked about, one row each; empty for a single question.
        sizes: rows of the whole benchmark (train, validation, test).
        high_risk: labels of posts that must not be missed, as somebody may be in danger; see `HIGH_RISK_REASONS`.
    """

    name: str
    kind: str
    source: str
    question: str
    sentences: Mapping[str, str]
    completion_prefix: str
    completion_words: Mapping[str, str]
    sizes: tuple[int, int, int]
    label_aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    aspects: tuple[str, ...] = field(default=())
    high_risk: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Canonical labels in the table's order."""
        return tuple(self.sentences)


_DISORDERS = "This post shows mental disorder symptoms related to {}."
_STRESS = "This post shows the stress cause related to {}."
_CAUSES = "This post shows causes of depression related to {}."


def _yes_no(yes: str, no: str) -> dict[str, str]:
    return {"yes": yes, "no": no}


def _suffers(condition: str) -> dict[str, str]:
    return _yes_no(f"Yes, the poster suffers from {condition}.", f"No, the poster does not suffer from {condition}.")


def _suffers_prefix(condition: str) -> str:
    return f'The answer to the question "Does the poster suffers from {condition}?" is'


def _same(labels: Mapping[str, str], **changed: str) -> dict[str, str]:
    return {label: label for label in labels} | changed


_SAD_CAUSES = (
    "school",
    "financial problem",
    "family issues",
    "social relationships",
    "work",
    "health issues",
    "emotional turmoil",
    "everyday decision making",
)
_SAD = {cause: _STRESS.format(cause) for cause in _SAD_CAUSES} | {
    "emotional turmoil": _STRESS.format("emotion turmoil"),
    "other causes": "This post shows other stress causes.",
}
_CAMS = {"none": "This post shows no causes of depression."} | {
    cause: _CAUSES.format(cause)
    for cause in ("bias or abuse", "jobs and career", "medication", "relationship", "alienation")
}
_SWMH = {
    disorder: _DISORDERS.format(disorder) for disorder in ("anxiety", "bipolar disorder", "depression", "suicide")
} | {"no mental disorders": "This post shows no mental disorder symptoms."}
_TSID = {
    "depression": "This post shows depression.",
    "ptsd": "This post shows PTSD.",
    "suicide or self-harm tendency": "This post shows suicide or self-harm tendency.",
    "no mental disorders": "This post shows no mental disorders.",
}
_DIMENSION = _yes_no(
    "Yes, this wellness dimension exists in the post.", "No, this wellness dimension does not exist in the post."
)
_RISK = _yes_no("Yes, the post shows this risk.", "No, the post does not show this risk.")
_YES_NO_WORDS = _yes_no("yes", "no")

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="DR",
            kind="depression detection",
            source="Reddit",
            question="Does the poster suffer from depression?",
            sentences=_suffers("depression"),
            completion_prefix=_suffers_prefix("depression"),
            completion_words=_YES_NO_WORDS,
            sizes=(1003, 430, 405),
            label_aliases={"yes": ("depression", "depressed"), "no": ("control", "not depressed")},
            aliases=("reddit", "depression_reddit"),
            high_risk=("yes",),
        ),
        Task(
            # Not public; supported by the wording of DR.
            name="CLP",
            kind="depression detection",
            source="Reddit",
            question="Does the poster suffer from depression?",
            sentences=_suffers("depression"),
            completion_prefix=_suffers_prefix("depression"),
            completion_words=_YES_NO_WORDS,
            sizes=(456, 196, 299),
            label_aliases={"yes": ("depression", "depressed"), "no": ("control", "not depressed")},
            aliases=("clpsych", "clpsych15"),
            high_risk=("yes",),
        ),
        Task(
            name="dreaddit",
            kind="stress detection",
            source="Reddit",
            question="Does the poster suffer from stress?",
            sentences=_suffers("stress"),
            completion_prefix=_suffers_prefix("stress"),
            completion_words=_YES_NO_WORDS,
            sizes=(2837, 300, 414),
            label_aliases={"yes": ("stress", "stressed"), "no": ("no stress", "not stressed")},
        ),
        Task(
            name="loneliness",
            kind="loneliness detection",
            source="Reddit",
            question="Does the poster suffer from loneliness?",
            sentences=_suffers("loneliness"),
            completion_prefix=_suffers_prefix("loneliness"),
            completion_words=_YES_NO_WORDS,
            sizes=(2463, 527, 531),
            label_aliases={"yes": ("lonely", "loneliness"), "no": ("not lonely",)},
            high_risk=("yes",),
        ),
        Task(
            # The completion release leaves SWMH out; its wording here follows that of T-SID.
            name="SWMH",
            kind="mental disorder detection",
            source="Reddit",
            question="What mental disorder symptoms does this post show?",
            sentences=_SWMH,
            completion_prefix="This post shows the mental disorder symptoms of",
            completion_words=_same(_SWMH),
            sizes=(34822, 8705, 10882),
            label_aliases={
                "anxiety": ("self.anxiety",),
                "bipolar disorder": ("bipolar", "self.bipolar"),
                "depression": ("self.depression",),
                "suicide": ("suicidewatch", "self.suicidewatch"),
                "no mental disorders": ("none", "no mental", "no mental disorder", "offmychest", "self.offmychest"),
            },
            high_risk=("suicide",),
        ),
        Task(
            name="T-SID",
            kind="mental disorder detection",
            source="Twitter",
            question="What mental disorder does this post show?",
            sentences=_TSID,
            completion_prefix="This post shows the mental disorder symptoms of",
            completion_words=_same(_TSID),
            sizes=(3071, 767, 959),
            label_aliases={
                "suicide or self-harm tendency": ("suicide", "suicidal", "self-harm"),
                "no mental disorders": ("none", "control", "no mental disorder"),
            },
            aliases=("tsid", "t_sid"),
            high_risk=("suicide or self-harm tendency",),
        ),
        Task(
            name="SAD",
            kind="stress cause detection",
            source="SMS-like",
            question="What is the stress cause of this post?",
            sentences=_SAD,
            completion_prefix="This post shows the stress cause of",
            completion_words=_same(_SAD),
            sizes=(5547, 616, 684),
            label_aliases={
                "financial problem": ("financial", "financial problems"),
                "family issues": ("family",),
                "social relationships": ("social", "social relationship"),
                "health issues": ("health", "health, fatigue, or physical pain"),
                "emotional turmoil": ("emotional", "emotion turmoil"),
                "everyday decision making": ("everyday",),
                "other causes": ("other", "others"),
            },
        ),
        Task(
            name="CAMS",
            kind="depression/suicide cause detection",
            source="Reddit",
            question="What cause of depression does this post show?",
            sentences=_CAMS,
            completion_prefix="This post shows the mental disorder cause of",
            completion_words=_same(_CAMS),
            sizes=(2207, 320, 625),
            label_aliases={
                "none": ("no reason", "no cause", "no causes"),
                "bias or abuse": ("bias",),
                "jobs and career": ("job", "jobs", "jobs and careers"),
                "relationship": ("relation", "relationships"),
            },
        ),
        Task(
            name="MultiWD",
            kind="wellness dimension detection",
            source="Reddit",
            question="Does the {aspect} wellness dimension exist in the post?",
            sentences=_DIMENSION,
            completion_prefix=(
                'The answer to the question "Does the {aspect} wellness dimension exists in the post?" is'
            ),
            completion_words=_YES_NO_WORDS,
            sizes=(15744, 1500, 2441),
            label_aliases={"yes": ("present",), "no": ("absent",)},
            aspects=("spiritual", "physical", "intellectual", "social", "vocational", "emotional"),
        ),
        Task(
            name="IRF",
            kind="interpersonal risk factor detection",
            source="Reddit",
            question="Does the post show risk of {aspect}?",
            sentences=_RISK,
            completion_prefix='The answer to the question: "Does the post shows risk of {aspect}?" is',
            completion_words=_YES_NO_WORDS,
            sizes=(3943, 985, 2113),
            label_aliases={"yes": ("present",), "no": ("absent",)},
            aspects=("thwarted belongingness", "perceived burdensomeness"),
            high_risk=("yes",),
        ),
    )
}

HIGH_RISK_REASONS: Mapping[str, str] = {
    "DR": "yes: a person with depression who is missed gets no help",
    "CLP": "yes: as DR",
    "dreaddit": "none: stress is common, and by itself neither a disorder nor a danger",
    "loneliness": "yes: loneliness comes before depression and thoughts of suicide, and is a call for company",
    "SWMH": "suicide: danger to life; the other disorders are told from each other, which is not a question of risk",
    "T-SID": "suicide or self-harm tendency: danger to life; the others as in SWMH",
    "SAD": "none: it asks why somebody is stressed, not how they are",
    "CAMS": "none: it asks for a cause; its posts are all of people in trouble, and a wrong cause misses none of them",
    "MultiWD": "none: a dimension of wellness that a post mentions is no risk",
    "IRF": "yes: thwarted belongingness and perceived burdensomeness are risk factors of suicide by the interpersonal "
    "theory",
}
"""Data set -> which of its labels are of high risk, and why. The benchmark's paper marks none; these are our choice."""

HELD_OUT = ("dreaddit", "T-SID", "CAMS", "IRF")
"""The data sets that the paper's generalisation experiment leaves out of training."""

_BY_ALIAS = {alias.lower(): task.name for task in TASKS.values() for alias in (task.name, *task.aliases)}


def task_named(name: str) -> Task:
    """The task with this canonical name or alias, without regard to case.

    Raises:
        UserError: no data set has this name; the nearest known one is suggested.
    """
    known = _BY_ALIAS.get(name.strip().lower())
    if known is None:
        near = get_close_matches(name.strip().lower(), _BY_ALIAS, n=1, cutoff=0.5)
        hint = f"; did you mean {_BY_ALIAS[near[0]]}?" if near else ""
        raise UserError(f"unknown data set {shown_cell(name, _BY_ALIAS)}{hint} (known: {', '.join(TASKS)})")
    return TASKS[known]
