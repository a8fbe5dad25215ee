"""What a sentence claims about a post: affirmed, denied, or neither.

A claim is a statement about the poster or the post in one of a few general frames ("the poster is suffering
from ...", "the post shows signs of ...", "there is no indication of ..."). Precision goes before recall: a
sentence that only implies an answer, hedges ("may be", "it is not clear whether"), asks, supposes, reports what
somebody says, or denies no more than a degree ("not severe ...", "no ongoing ...") claims nothing.

All functions here take text that `labels.fold` prepared: case-folded, `n't` spelled out, one blank between words.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z']+", text))


_NEGATIONS = _words("not no never neither nor unlikely")
_ABSENCES = _words("without lack lacks absence absent missing lacking")
_HEDGES = _words(
    "may might could can cannot possibly potentially potential possible perhaps maybe necessarily enough sufficient"
    " insufficient few little low minimal hardly barely if whether unless unclear inconclusive difficult hard"
)
_DEGREES = _words(
    "very severe severely ongoing chronic clinical clinically major significant significantly serious seriously"
    " extreme extremely intense profound deep deeply strong several many multiple numerous high higher great persistent"
    " constant constantly considerable excessive frequent"
)
_SPEECH = _words(
    "say says said state states stated mention mentions mentioned claim claims claimed explicitly believe believes"
    " believed think thinks thought feel feels felt fear fears worry worries worried ask asks asked wonder wonders"
    " deny denies denied mean means imagine imagines tell tells told pretend pretends"
)

SUBJECT = (
    r"(?<!of )(?<!by )(?<!with )(?<!for )(?<!about )(?<!to )"
    r"(?:(?:the|this)(?: original| given| above)? (?:poster|author|user|writer|narrator|speaker|individual|person|op"
    r"|post|text|message|tweet)|(?:the |this )?poster's (?:post|language|tone|words))\b"
)
_CONCLUSION = r"(?:therefore|thus|hence|overall|so|in conclusion|in summary|to conclude|in short|as a result)"
_PRONOUN = rf"^ (?:{_CONCLUSION},? )?(?:they|he|she|it|this)\b"
_WHO = rf"(?:{SUBJECT}|{_PRONOUN})"

LINKS = (
    r"(?: (?:is|are|be|been|being|does|do|has|have|will|would|seems?|appears?|feels?|feeling|to|not|never|no|longer"
    r"|likely|unlikely|probably|clearly|definitely|certainly|indeed|also|really|still|currently|actually|obviously"
    r"|truly|highly|very|most|may|might|could|can|cannot|possibly|potentially|perhaps|in fact|neither|necessarily"
    r"|extremely|severely|clinically|deeply|chronically|quite|rather|already|too|so|themselves|under))"
)
QUANTIFIERS = (
    r"(?: (?:an?|the|any|no|some|several|many|multiple|numerous|various|few|little|clear|obvious|apparent|specific"
    r"|evident|strong|very|severe|mild|moderate|ongoing|chronic|clinical|major|significant|serious|extreme|intense"
    r"|high|higher|low|minimal|levels?|degree|amounts?|great|deal|lots?|of|and|or|both|emotional|mental|psychological"
    r"|profound|deep|potential|possible|enough|sufficient|insufficient|considerable|constant|persistent|excessive"
    r"|current|personal|common|typical|classic|feelings?|presence|existence|lack|absence|this"
    r"|such|sort|kind|form|frequent))"
)
_BESIDES = rf"(?:{QUANTIFIERS}|(?: (?:anxiety|distress|sadness)))"
SIGNS = r"(?: (?:signs?|symptoms?|indications?|indicators?|evidence|features|characteristics) (?:of|for|related to))"
SHOWS = r"(?:show|exhibit|display|demonstrate|indicate|suggest|present|contain|provide|give)(?:s|ing|d|ed)?"
SUFFERS = (
    r"(?:suffer(?:s|ing)? (?:from|with)|struggl(?:es?|ing) with|deal(?:s|ing)? with|liv(?:es?|ing) with"
    r"|experienc(?:es?|ing)|has|have|having|under|at)"
)
_HOLDS = r"(?:reflect|include|address|involve)(?:s|es|ing)?|touch(?:es)? (?:on|upon)"
_EXISTS = r"(?:exists?|present|reflected|evident|shown|apparent|absent|missing|lacking)"
_DENIES_NOTHING = re.compile(r"\b(?:no|without(?: a)?|beyond) (?:doubt|question)\b|\bnot (?:only|just|merely|simply)\b")
_NOT_CLEAR = re.compile(
    r"\bnot (?:\w+ly |very |quite )?(?:clear|certain|sure|evident|known|possible)\b"
    r"|\bwould (?:indicate|suggest|mean|imply)\b"
)
_NO_EVIDENCE = re.compile(r"\b(?:without|(?:lack|absence) of)(?= (?:any )?(?:evidence|signs?|indications?|proof)\b)")
_ASIDE = re.compile(r", (?:however|therefore|though|overall|in my opinion|at least|as such|for example),")
_UNSETTLED = re.compile(r" ?or not\b| (?:is|are|remains?) (?:not |un)")
# A noun goes on in a noun phrase of its own ("stress relief"): only these may follow what is claimed.
_TAIL = (
    r"(?= ?(?:$|[.,;:!)\"\n-])| (?:and|or|but|in|at|on|due|because|as|from|about|related|over|with|when|which|that"
    r"|based|to|for|given|according|since|is|are|symptoms?|throughout|right|now|here|by|after|exists?|, ))"
)


@dataclass(frozen=True, slots=True)
class Concept:
    """What a question asks about, as regular expressions over folded text.

    Attributes:
        nouns: what one suffers from, shows signs of, or (dimensions, risks) what a post shows.
        adjectives: what a poster then is; "" for none.
        exists: the nouns are things that are, or are not, in a post ("this dimension exists", "there is no risk").
    """

    nouns: str
    adjectives: str = ""
    exists: bool = False

    def frames(self) -> Iterator[re.Pattern[str]]:
        """The patterns of sentences that make a claim about this concept."""
        thing = rf"{_BESIDES}{{0,6}} (?:{self.nouns}){_TAIL}"
        signs = rf"{QUANTIFIERS}{{0,6}}{SIGNS}"
        shows = rf"(?:{SHOWS}|{_HOLDS})" if self.exists else SHOWS
        yield re.compile(rf"{_WHO}{LINKS}{{0,6}} {SUFFERS}{thing}")
        yield re.compile(rf"{_WHO}{LINKS}{{0,6}} (?:{shows}(?:{signs})?|(?:has|have){signs}){thing}")
        yield re.compile(rf"(?:\bthere (?:is|are)(?: not)?|^(?= no\b)){signs}{thing}")
        if self.adjectives:
            yield re.compile(rf"{_WHO}{LINKS}{{1,6}} (?:{self.adjectives}){_TAIL}")
        if self.exists:
            yield re.compile(rf"(?:\bthere (?:is|are)(?: not)?|^(?= no\b)){thing}")
            yield re.compile(rf"\b(?:this|the) (?:{self.nouns}){LINKS}{{0,6}} {_EXISTS}\b")


class Claims:
    """Reads the claims that sentences make about one concept."""

    def __init__(self, concept: Concept) -> None:
        self._frames = tuple(concept.frames())

    def polarities(self, sentence: str) -> set[bool]:
        """Whether `sentence` affirms (True) or denies (False) the concept; empty when it does neither."""
        if sentence.endswith("?"):
            return set()
        sentence = f" {_without_idioms(sentence)}"
        matches = [match for frame in self._frames for match in frame.finditer(sentence)]
        return {polarity for match in matches if (polarity := _polarity(sentence, match)) is not None}


def sentences(text: str) -> list[str]:
    """Split folded text at line breaks, ends of sentences, semicolons and `reasoning:`; `?` stays on its sentence."""
    parts = re.split(r"(?<=[.!?])\s+|\n+|;|\breasoning ?:", text)
    return [part.strip() for part in parts if part.strip()]


def concludes(sentence: str) -> bool:
    """Whether the sentence opens as a conclusion does."""
    return re.match(rf"{_CONCLUSION}\b", sentence) is not None


def is_withheld(lead: str) -> bool:
    """Whether the words before a statement deny, hedge or suppose it."""
    return bool(_words(_governing(_without_idioms(lead))) & (_NEGATIONS | _HEDGES))


def _without_idioms(sentence: str) -> str:
    """Drop negative words that deny nothing and asides in commas; make one word of phrases that deny or hedge."""
    for idiom, plain in ((_DENIES_NOTHING, ""), (_NOT_CLEAR, "unclear"), (_NO_EVIDENCE, "no"), (_ASIDE, "")):
        sentence = idiom.sub(plain, sentence)
    return re.sub(" {2,}", " ", sentence).strip()


def _polarity(sentence: str, match: re.Match[str]) -> bool | None:
    inside = _words(match[0])
    outside = _words(_governing(sentence[: match.start()]))
    if (inside | outside) & _HEDGES or _UNSETTLED.match(sentence, match.end()):
        return None
    if outside & _SPEECH and not outside & {"i", "we"}:
        return None
    denied_inside, denied_outside = bool(inside & (_NEGATIONS | _ABSENCES)), bool(outside & _NEGATIONS)
    if not (denied_inside or denied_outside):
        return True
    if (denied_inside and denied_outside) or inside & _DEGREES:
        return None
    return False


def _governing(lead: str) -> str:
    """The words of `lead` that what follows depends on: those of its own clause, or all after a lone `, that`."""
    clause = re.split(r"[,:()]|\bbut\b", lead)[-1]
    return lead if clause.strip() == "that" else clause
