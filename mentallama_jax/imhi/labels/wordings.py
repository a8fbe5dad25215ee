"""How each task's labels are worded in answers, as patterns over folded text."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from mentallama_jax.imhi.labels.folding import fold
from mentallama_jax.imhi.labels.polarity import LINKS, QUANTIFIERS, SHOWS, SIGNS, SUFFERS, WHO, Claims, Concept
from mentallama_jax.imhi.tasks import Task

_NO_EXAMPLE = r"(?!(?: symptoms?)? (?:related|such as|like|due|caused|of)\b)"
_AT_ALL = rf"(?! ?: ?\w){_NO_EXAMPLE}"
_NONE = r"none(?: of the above)?(?! of (?:this|these|that|those|it|them|what|her|his|their|the(?! above)))"
_NO_KEY = re.compile(r"(?!)")
_YES_NO = {"yes": r"yes|yeah|yep", "no": r"no(?!\. ?\d+(?![\d.)]))|nope"}

_ENUMERATOR = r"(?:\(?[a-i][.)] ?|option [a-i1-9][.):]? ?|\(?[0-9](?:[.):] ?| (?=\()))?\(?"
_VALUE_END = r"(?= ?(?:$|[.,;:!()\n])| [-–—])"
# A key begins a line or a part; other words before it make it another one ("family history of depression: no").
_KEY_BEFORE = (
    r"(?:^|[\n.;,!?(] ?|\b(?:answer|label|assessment|result|verdict|conclusion) ?: ?)(?:and )?"
    r"(?:(?:is|has|does|the|this|poster|post|author|user|suffers?|suffering|from|shows?|showing|signs?|symptoms?|of"
    r"|presence|risk|overall|any|there) ){0,6}"
)
_SURELY = r"(?:(?:definitely|clearly|absolutely|certainly|obviously|probably|likely|most likely|very|quite) ){0,2}"
_QUESTION_OF = r"(?: (?:to|for|of|in) (?:the|this) (?:question|post|case))?"
_OF_POST = r"(?: (?:of|in|for|here)(?: (?:the|this|my) (?:post|poster|question|case|message|tweet|assessment))?)?"
_POINTS = r"(?: of| is| would be| should be|,| ?:| ?=| ?[-–—]+(?= ))+\s*"
_ANSWER = (
    rf"\b(?:answer|label|prediction|conclusion|verdict){_QUESTION_OF}(?:(?:,| ?:)? quotation)?{_POINTS}"
    r"|\b(?:classification|category|class|correct (?:option|choice)|diagnosis|decision|judge?ment|assessment"
    rf"|response|output|result|status){_OF_POST} ?[:=]\s*"
    rf"|\b(?:correct|right|best|appropriate) (?:category|class|option|choice|cause){_OF_POST}{_POINTS}"
    r"|\ba ?:\s*"
)
_CHOICE = (
    r"\bi (?:would |will |am going to )?(?:choose|pick|select|go with|opt for|settle on|lean(?:ing)? towards?"
    r"|(?:label|classify|categori[sz]e|mark|rate) (?:this|it|the) ?(?:post|tweet|message|text|one)?(?: as)?) ?:? "
)
_OPINION = (
    r"\bi (?:would |will )?(?:say|think|guess|believe|answer)(?: that| ?:)? "
    r"|\b(?:therefore|thus|hence|so|overall)[,:]? "
)
_THEREFORE = r"\b(?:therefore|thus|hence|so|overall) ?: "
_OPENER = r"(?:(?:the|my|this|short|final|correct|overall) ){0,3}"
_FINAL = (
    r"\b(?:final|corrected|revised|updated) (?:answer|label|prediction|conclusion|verdict|classification|category"
    rf"|decision){_QUESTION_OF}{_POINTS}"
    r"|\bcorrection ?: (?:it should (?:be|say) |(?:the )?(?:correct |right |true )?(?:answer|label)"
    r"(?: is| should be| ?:) )?"
    r"|\b(?:so|therefore) (?:the|my) (?:label|answer|category) is "
)


@dataclass(frozen=True, slots=True)
class Wordings:
    """What one task and aspect look for.

    Attributes:
        names: label -> its wordings, as whole words.
        values: label -> what states it where an answer is expected and nothing else stands there ("not depressed").
        templates: label -> its sentence in the instruction format.
        statements: patterns that a label's name follows.
        claims: of the concept whose affirmation or denial means a label; None where the task has none.
        meaning: that label.
        lead: what may introduce a declared answer.
        final: what introduces an answer that is declared as final, or as a correction.
        keyed: (key, "yes" or "no") as in "depression: no" and "anxiety: yes".
        heading: the noun that a yes or no question asks about, which may head an answer; None for label names.
        keys: names of JSON keys whose values are answers, lower-case letters only.
        by_name: labels are names; else yes and no.
    """

    names: dict[str, re.Pattern[str]]
    values: dict[str, re.Pattern[str]]
    templates: dict[str, re.Pattern[str]]
    statements: tuple[re.Pattern[str], ...]
    claims: Claims | None
    meaning: dict[bool, str]
    lead: re.Pattern[str]
    final: re.Pattern[str]
    keyed: dict[str, re.Pattern[str]]
    heading: re.Pattern[str] | None
    keys: re.Pattern[str]
    by_name: bool


@lru_cache(512)
def wordings(task: Task, aspect: str) -> Wordings:
    """The wordings of a task; about any aspect where `aspect` is ""."""
    by_name = not task.is_yes_no
    names = {label: _names(task, label) if by_name else _YES_NO[label] for label in task.labels}
    concept, meaning = _concept(task, aspect)
    values = _values(task, concept, names)
    lead = rf"{_ANSWER}|{_CHOICE}|{_THEREFORE}" if by_name else rf"{_ANSWER}|{_CHOICE}|{_OPINION}"
    if by_name:
        lead += rf"|{_topic_lead(task)}"
    return Wordings(
        names={label: _whole(pattern) for label, pattern in names.items()},
        values={
            label: re.compile(rf"(?<![\w-]){_SURELY}(?:{pattern}){_VALUE_END}") for label, pattern in values.items()
        },
        templates={label: _template(_folded(sentence, task)) for label, sentence in task.sentences.items()},
        statements=tuple(_statements(task, "|".join(names.values()))) if by_name else (),
        claims=Claims(concept) if concept else None,
        meaning=meaning,
        lead=re.compile(rf"{_OPENER}(?:{lead}){_ENUMERATOR}"),
        final=re.compile(rf"{_OPENER}(?:{_FINAL}){_ENUMERATOR}"),
        keyed=_keyed(concept, aspect or "|".join(task.aspects), names, by_name),
        heading=_whole(concept.nouns) if concept and not by_name else None,
        keys=_keys(task, aspect, by_name),
        by_name=by_name,
    )


def _whole(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-])(?:{pattern})(?![\w-])")


def _names(task: Task, label: str) -> str:
    own = {label, task.completion_words[label].casefold()} - {"none"}
    if task.english is None:
        # The aliases of a shipped task are names of raw tables; those of one's own are meant for answers too.
        own = {_folded(label, task), *_aliases(task, label)}
    known = _fragment(task.english.names.get(label, ""), task, "") if task.english else ""
    # What a denial of some only names is no denial of all: "no mental disorders such as PTSD".
    ends = _NO_EXAMPLE if task.english and task.english.denied == label else ""
    return "|".join([*filter(None, [known]), *(f"{re.escape(each)}{ends}" for each in sorted(own))])


def _aliases(task: Task, label: str) -> tuple[str, ...]:
    found = task.label_aliases.get(label, ())
    if task.english is not None:
        return found
    return tuple(_folded(each, task) for each in (*found, task.completion_words[label]))


def _folded(wording: str, task: Task) -> str:
    """A wording as it stands in folded text. Those of shipped tasks hold nothing that folding changes, case aside."""
    return wording if task.english is not None else fold(wording).rstrip(".!")


def _fragment(pattern: str, task: Task, aspect: str) -> str:
    """A pattern of a task's file with what its placeholders stand for."""
    asked = "|".join([aspect] if aspect else task.aspects)
    others = "".join(rf"(?<!\b{other} )" for other in task.aspects if aspect)
    for name, meaning in (("aspect", asked), ("not_others", others), ("at_all", _AT_ALL), ("none", _NONE)):
        pattern = pattern.replace(f"{{{name}}}", meaning)
    return pattern


def _values(task: Task, concept: Concept | None, names: dict[str, str]) -> dict[str, str]:
    aliases = {label: "|".join(map(re.escape, _aliases(task, label))) for label in names}
    if concept is None or not task.is_yes_no:
        return {label: "|".join(filter(None, (names[label], aliases[label]))) for label in names}
    found = (
        r"(?: (?:is )?(?:detected|present|found|evident|indicated|identified|observed|here|shown|at all|whatsoever))?"
    )
    signs = rf"(?: (?:clear|obvious|apparent))?(?:{SIGNS})?"
    yes = [names["yes"], "present", "true", "positive", "affirmative"]
    no = [names["no"], "absent", "false", "negative"]
    no.append(
        r"not (?:present|detected|at all|really|likely)|(?:absolutely|certainly|definitely|of course|probably) not"
    )
    no.append(rf"no{signs} (?:{concept.nouns}){found}")
    if concept.adjectives:
        yes.append(concept.adjectives)
        no.append(rf"not (?:at all )?(?:{concept.adjectives})|not suffering from (?:{concept.nouns})")
        yes.append(
            rf"(?:{concept.nouns}) (?:is )?(?:detected|present|found|evident)|suffering from (?:{concept.nouns})"
        )
    else:
        yes.append(rf"(?:{concept.nouns}) (?:is )?(?:detected|present|found|evident)")
    return {"yes": _any(*yes, aliases["yes"]), "no": _any(*no, aliases["no"])}


def _any(*patterns: str) -> str:
    return "|".join(filter(None, patterns))


def _template(sentence: str) -> re.Pattern[str]:
    """The label sentence as a pattern: `suffer` for `suffers`, commas and blanks free, and nothing after it."""
    words = [re.escape(word) for word in sentence.casefold().replace(",", "").removesuffix(".").split()]
    loose = [re.sub("^(suffer|show|exist)s?$", r"\1s?", word) for word in words]
    return re.compile(rf"(?<![\w-]){',? '.join(loose)}(?= ?(?:$|[.!;:()\n])| reasoning\b)")


def _concept(task: Task, aspect: str) -> tuple[Concept | None, dict[bool, str]]:
    english = task.english
    if english is None or not english.nouns:
        return None, {}
    concept = Concept(_fragment(english.nouns, task, aspect), english.adjectives, english.exists)
    return concept, {False: english.denied} if english.denied else {True: "yes", False: "no"}


def _keyed(concept: Concept | None, aspects: str, names: dict[str, str], by_name: bool) -> dict[str, re.Pattern[str]]:
    """What stands before `: yes` and `: no`: the labels where they are names, else the concept (under "yes")."""
    value = r"(?P<value>yes|no|present|not present|absent|true|false|none)"
    answer = rf" ?(?:present|exists|detected)? ?[:=?] ?{value}{_VALUE_END}(?!, but\b)"
    if by_name:
        return {label: re.compile(rf"{_KEY_BEFORE}(?:{name}){answer}") for label, name in names.items()}
    if concept is None:
        return {}
    keys = "|".join(filter(None, (concept.nouns, concept.adjectives, aspects)))
    return {"yes": re.compile(rf"{_KEY_BEFORE}(?:{keys}){answer}")}


def _keys(task: Task, aspect: str, by_name: bool) -> re.Pattern[str]:
    if by_name:
        words = r"(?:main|primary|stress|depression|mental)*(?:causes?|disorders?|symptoms?|conditions?|type|diagnosis)"
        return re.compile(rf"(?:{words})+(?:of(?:stress|depression))?(?:label)?")
    if task.english and task.english.keys:
        return re.compile(
            rf"(?:is|has|suffersfrom|posteris|posterhas)?(?:{task.english.keys})(?:present|detected|label)?"
        )
    if not task.aspects:
        return _NO_KEY
    asked = "|".join(re.sub("[^a-z]", "", each) for each in ([aspect] if aspect else task.aspects))
    return re.compile(
        rf"(?:riskof)?(?:{asked})(?:risk|wellness|dimension|wellnessdimension)?(?:present|exists)?"
        r"|risk(?:present|exists)?|(?:dimension)?(?:present|exists)"
    )


def _topic_lead(task: Task) -> str:
    topic = task.english.topic if task.english else ""
    where = r"(?: (?:here|(?:of|in|for) (?:this|the) (?:post|poster|message|case)))?"
    if not topic:
        return rf"\b(?:(?:mental )?disorders?|symptoms?|condition){where}(?: ?[:=]| is)\s*"
    whose = rf"(?:{topic} |main |primary |root ){{0,4}}causes?(?: of (?:the )?{topic})?"
    return rf"\b{whose}{where}(?: ?[:=]| is)\s*"


def _statements(task: Task, names: str) -> Iterator[re.Pattern[str]]:
    """What a label's name follows in a statement of it, by the task's labels."""
    here = rf" (?=(?:{names})(?![\w-]))"
    if task.english and task.english.disorders:
        yield from _disorder_statements(here)
    elif task.english and task.english.topic:
        yield from _cause_statements(task.english.topic, names, here)
    yield re.compile(
        rf"\b(?:falls?|fits?|belongs?) (?:under|into|in|to)(?: the)? (?:category|label|class)(?: of)?{here}"
    )
    yield re.compile(rf"\bmaking (?=(?:{names}) (?:the|an?)(?: most)?(?: \w+)? label\b)")
    yield re.compile(
        rf"\bmost (?:fitting|appropriate|likely|suitable|accurate) (?:category|label|class|choice)(?: here)? is{here}"
    )


def _disorder_statements(here: str) -> Iterable[re.Pattern[str]]:
    symptoms = rf"(?: mental (?:health )?disorders?)?(?:{SIGNS})?{QUANTIFIERS}{{0,6}}"
    yield re.compile(rf"{WHO}{LINKS}{{0,6}} (?:{SHOWS}|{SUFFERS}){QUANTIFIERS}{{0,6}}{symptoms}{here}")
    yield re.compile(rf"(?:^|[.,] )(?:this|it) is(?: (?:clearly|likely|probably|about))?{here}")
    yield re.compile(rf"\bmental (?:health )?disorders?(?: symptoms)?{LINKS}{{0,4}} (?:related to|of|is|are){here}")


def _cause_statements(topic: str, names: str, here: str) -> Iterable[re.Pattern[str]]:
    whose = r"(?:(?:the|this|their|his|her) )?(?:(?:poster|post)'s )?"
    cause = rf"(?:{topic} causes?|(?:causes?|sources?) (?:of|for|behind) {whose}{topic}|mental disorder cause)"
    where = r"(?: (?:of|in|for) (?:this|the) (?:post|poster|situation|case))?"
    yield re.compile(
        rf"(?:{WHO}{LINKS}{{0,6}} {SHOWS}{QUANTIFIERS}{{0,6}} |\b){cause}{where}{LINKS}{{0,4}}"
        rf"(?: (?:related to|relates to|caused by|of|about))?{QUANTIFIERS}{{0,4}}{here}"
    )
    yield re.compile(
        rf"\b{topic}{LINKS}{{0,3}} (?:caused by|due to|related to|because of|(?:stems?|comes?|arises?) from)"
        rf"{QUANTIFIERS}{{0,4}}{here}"
    )
    rank = r"(?: (?:the|an?|one|of|main|primary|major|biggest|likely|key|significant|mainly|real|actual)){0,6}"
    yield re.compile(rf"(?<![\w-])(?<!and )(?<!or )(?=(?:{names}) (?:is|are|as|being|to be){rank} {cause}\b)")
    problem = r"(?:problem|cause|issue|culprit|trigger|reason|stressor|source|one)"
    yield re.compile(
        rf"(?:^|, (?:but )?)(?=(?:{names}) (?:is|are)"
        rf"(?:[.!]?$|{rank} {problem}(?: here)?(?= ?(?:$|[.,!)])| (?:of|for|behind)\b)))"
    )
