"""What a sentence claims about a post: affirmed, denied, or neither.

A claim is a statement about the poster or the post in one of a few general frames ("the poster is suffering
from ...", "the post shows signs of ...", "there is no indication of ..."). Precision goes before recall. A sentence
claims nothing where it only implies an answer, hedges ("may be", "at first glance"), asks, supposes, sets aside
("rather than showing ..."), reports what somebody says, denies twice, or denies no more than a degree ("not severe").

A negative word before a claim denies it only where the words between them carry it there ("nothing in this post shows
that ..."); with another clause between them ("nothing helps and ...") the sentence claims nothing. A negation in the
evidence for a claim ("having no friends indicates that ...") does not deny it: see `inference`.

All functions here take text that `folding.fold` prepared: case-folded, `n't` spelled out, one blank between words.
Patterns repeat only a bounded number of words, and longer sentences than `_LONGEST_SENTENCE` claim nothing, so that
the time for an answer grows in proportion to its length.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mentallama_jax.imhi.labels.folding import word_set, words_in
from mentallama_jax.imhi.labels.inference import denials_over_inference

_NEGATIONS = word_set("not no never neither nor unlikely improbable implausible nothing none nobody nowhere")
_ABSENCES = word_set("without lack lacks absence absent missing lacking")
_HEDGES = word_set(
    "may might could can cannot possibly potentially potential possible perhaps maybe necessarily enough sufficient"
    " insufficient few little low minimal hardly barely scarcely rarely seldom if whether unless unclear inconclusive"
    " difficult hard doubtful questionable debatable dubious doubt doubts wrong false incorrect mistake premature"
    " misleading inaccurate exaggerated unlike hesitate hesitant reluctant"
)
_DEGREES = word_set(
    "very severe severely ongoing chronic clinical clinically major significant significantly serious seriously"
    " extreme extremely intense profound deep deeply strong several many multiple numerous high higher great persistent"
    " constant constantly considerable excessive frequent"
)
_SPEECH = word_set(
    "say says said state states stated mention mentions mentioned claim claims claimed explicitly believe believes"
    " believed think thinks thought feel feels felt fear fears worry worries worried ask asks asked wonder wonders"
    " deny denies denied imagine imagines tell tells told pretend pretends would see sees realize realizes realise"
    " realises notice notices admit admits accept accepts know knows hope hopes suspect suspects insist insists"
    " joke jokes"
)
_ASSERTING = word_set(
    "indicate indicates indicating indicated indication indications suggest suggests suggesting suggested suggestion"
    " show shows showing shown demonstrate demonstrates demonstrating imply implies implying reveal reveals revealing"
    " point points pointing mean means meaning confirm confirms confirming clear evident apparent obvious likely"
    " unlikely"
    " probable improbable implausible plausible believe think say conclude concluding conclusion argue assume fact"
    " evidence evidenced sign signs proof prove proves support supports supporting supported seem seems appear appears"
    " sure certain confident true case reason infer inferred determine determined indicative suggestive feel guess find"
    " label labelled labeled assigned answer explanation establish establishes reflect reflects highlight highlights"
    " convey conveys express expresses underline underlines hint hints agree likelihood indicator indicators"
    " concludes concluded determining determines surely"
)
_OVERCOME = word_set(
    "without lacks lacking except avoid avoids overcome overcame recovered used stops disagree disagrees untrue against"
)
_SET_ASIDE = _OVERCOME | word_set(
    "everything anything zero unfounded former formerly once was were had but longer first"
)
_SPEAKERS = word_set("i we")

SUBJECT = (
    r"(?<!of )(?<!by )(?<!with )(?<!for )(?<!about )(?<!to )"
    r"(?:(?:the|this)(?: original| given| above)? (?:poster|author|user|writer|narrator|speaker|individual|person|op"
    r"|sender|post|text|message|tweet)|(?:the |this )?poster's (?:post|language|tone|words))\b"
)
_CONCLUSION = r"(?:therefore|thus|hence|overall|so|in conclusion|in summary|to conclude|in short|as a result)"
_PRONOUN = rf"(?:^ ?|[,:] )(?:(?:{_CONCLUSION}|and|but|instead),? )?(?:they|he|she|it|this)\b"
_INFERRED = (
    r"\b(?:indicat|suggest|show|impl|demonstrat|conclud|mean|reveal)(?:s|es|ing|ed|e|ies|y)?"
    r"(?: that)? (?:they|he|she)\b"
)
WHO = rf"(?:{SUBJECT}|{_PRONOUN}|{_INFERRED})"

LINKS = (
    r"(?: (?:is|are|be|been|being|does|do|has|have|will|would|seems?|appears?|feels?|feeling|to|not|never|no|longer"
    r"|likely|unlikely|probably|clearly|definitely|certainly|indeed|also|really|still|currently|actually|obviously"
    r"|truly|highly|very|most|may|might|could|can|cannot|possibly|potentially|perhaps|in fact|neither|necessarily"
    r"|extremely|severely|clinically|deeply|chronically|quite|rather|already|too|so|themselves|under|hardly|barely"
    r"|scarcely|rarely|seldom))"
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
SIGNS = (
    r"(?: (?:signs?|symptoms?|indications?|indicators?|markers?|traces?|evidence|features|characteristics)"
    r" (?:of|for|related to))"
)
SHOWS = (
    r"(?:(?:show|exhibit|display|demonstrate|indicate|suggest|present|contain|provide|give|reveal|express|convey|reflect)"
    r"(?:s|es|ing|d|ed)?|points? to)"
)
SUFFERS = (
    r"(?:suffer(?:s|ing)? (?:from|with)|struggl(?:es?|ing) with|deal(?:s|ing)? with|liv(?:es?|ing) with"
    r"|experienc(?:es?|ing)|has|have|having|under|at)"
)
_HOLDS = r"(?:(?:include|address|involve)(?:s|es|ing)?|touch(?:es)? (?:on|upon)|(?:relates?|pertains?) to)"
_IS_WITHOUT = r"(?:without|lacks?|lacking)"
_EXISTS = (
    r"(?:exists?|present|reflected|evident|shown|apparent|absent|missing|lacking|addressed|discussed|covered|detected"
    r"|found|visible|there|indicated|expressed|touched (?:on|upon)|relevant|represented)"
)
_IDIOMS = tuple(
    (re.compile(idiom), plain)
    for idiom, plain in (
        (r"\b(?:no|without(?: a)?|beyond|little) (?:doubt|question)\b", "surely"),
        (r"\bnot (?:only|just|merely|simply)\b", ""),
        (r"\bi (?:\w+ )?doubt(?: that| whether| if)?\b", "i do not think that"),
        (
            r"\bnot (?:\w+ly |very |quite )?(?:clear|certain|sure|evident|known|possible)\b"
            r"|\bwould (?:indicate|suggest|mean|imply|show)\b",
            "unclear",
        ),
        (
            r"\b(?:without|lack(?:s|ing)?|(?:lack|absence) of)"
            r"(?= (?:any |clear )?(?:evidence|signs?|indications?|proof|hints?)\b)",
            "no",
        ),
        (r"\breason(?:s)? to (?:think|believe|say|assume|suspect|conclude|suppose)\b", "reason"),
        (r"\b(?:far from|anything but)(?: being)?\b", "not"),
        (r"\b(?:free|devoid|void) (?:of|from)\b", "without"),
        (r"\b(?:fail(?:s|ed)?|refuse[sd]?|declines?) to\b", "does not"),
        (r"\b(?:rather than|instead of|as opposed to|in place of|apart from|other than)\b", "unlike"),
        (
            r"\b(?:rul(?:es?|ed|ing) out|exclud(?:es?|ed|ing)|refut(?:es?|ed|ing)|contradict(?:s|ed|ing)?"
            r"|reject(?:s|ed|ing)?"
            r"|dispel(?:s|led)?|disprov(?:es?|ed|ing)|(?:argues?|speaks?|evidence) against)\b",
            "doubt",
        ),
        (r", (?:however|therefore|though|overall|in my opinion|at least|as such|for example),", ""),
        (r"\b(the|any|an?|direct|explicit|specific|clear|repeated) mentions? of\b", r"\1 reference to"),
        (
            r"\b(think|believe|say|agree|that|shows?|suggests?|indicates?|means?|implies|imply|not|never)"
            r"(?:,| -+| ?[–—]| \() (?:to|in|at|on|all|after|given|based|for|from|by|with|again|of course|\w{2,20}ly)\b"
            r"[^,()–—]{0,60}?(?:,| -+(?= )| ?[–—]|\)) ",
            r"\1 ",
        ),
        (r"\b(?:by no means|in no way|not at all|not in any way)\b", "not"),
        (r"\bzero (?=signs?|evidence|indications?|symptoms?)", "no "),
        (r"\bi cannot (?=(?:see|find|detect|notice|observe|identify)\b)", "i do not "),
        (r"\bas (?:if|though)\b", "if"),
        (r"\bno other\b", "hardly"),
        (r" {2,}", " "),
    )
)
"""Phrases that deny nothing, deny, or hedge, and the plain words that stand for them."""

# Words that open another clause: a negative word before one of them does not reach what stands behind it.
_OTHER_CLAUSE = re.compile(r"\b(?:and|so|because|since|as|while|when|although|though|yet|which|who|where|but)\b")
# These reach over a comma: what follows is supposed, or only seems so, or is set aside.
_SUPPOSING = re.compile(
    r"\b(?:at first|(?:on|at) (?:first )?(?:glance|sight)|on the (?:surface|face of it)|initially"
    r"|superficially|seemingly"
    r"|ostensibly|if|unless|whether|contrary to)\b"
)
_SWEEPING = re.compile(r"\b(?:nothing|nowhere|neither|nobody|none)\b")
_TURN = re.compile(r"\b(?:but|however|yet|still)\b|, (?:it|they|he|she)\b")
_DEMOTED = re.compile(
    r" ?or not\b| (?:cannot|could not)\b|,? (?:one|you|some|it) (?:might|may|could|would)\b|,? at first\b"
    r"|[^.,;]{0,60}, but [\w ]{1,30}(?:does|do|is|are) not(?: so)?[.!]?$"
    r"| (?:is|are|remains?|seems|would be)"
    r" (?:not |un|doubtful|false|wrong|ruled|debatable|questionable|hard|an? stretch|far)"
)
# A noun goes on in a noun phrase of its own ("stress relief"): only these may follow what is claimed.
TAIL = (
    r"(?= ?(?:$|[.,;:!)(\"\n-])| (?:and|or|but|in|at|on|due|because|as|from|about|related|over|with|when|which|that"
    r"|based|to|for|given|according|since|is|are|symptoms?|throughout|right|now|here|by|after|exists?|such|including"
    r"|like|whatsoever|rather|instead|especially|particularly|during|before|so|while|although|though|nor|than"
    r"|anywhere|cannot|could|would|seems|remains?)\b| , )"
)
_LONGEST_SENTENCE = 1500


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
        thing = rf"{_BESIDES}{{0,6}} (?:{self.nouns}){TAIL}"
        signs = rf"{QUANTIFIERS}{{0,6}}{SIGNS}"
        shows = rf"(?:{SHOWS}|{_HOLDS})" if self.exists else SHOWS
        yield re.compile(
            rf"{WHO}{LINKS}{{0,6}} (?:{SUFFERS}(?:{signs})?|{_IS_WITHOUT}(?:{signs})?|{shows}(?:{signs})?){thing}"
        )
        yield re.compile(rf", which {shows}(?:{signs})?{thing}")
        yield re.compile(rf"(?:\bthere (?:is|are)(?: not)?|^(?= no\b)){signs}{thing}")
        yield re.compile(rf"\bi (?:do |can )?(?:not )?(?:see|find|detect|notice|observe|identify)(?:{signs})?{thing}")
        yield re.compile(rf"(?:^ ?|\bthat )(?:{self.nouns}){LINKS}{{1,6}} {_EXISTS}\b")
        called = rf"(?:{thing}|{LINKS}{{0,3}} (?:{self.adjectives}){TAIL})" if self.adjectives else thing
        yield re.compile(
            r"\bi would (?:not )?(?:call|describe|characteri[sz]e|label|classify|consider) (?:this|it|the post(?:er)?)"
            rf"(?: as)?{called}"
        )
        if self.adjectives:
            yield re.compile(rf"{WHO}{LINKS}{{1,6}} (?:{self.adjectives}){TAIL}")
        if self.exists:
            yield re.compile(rf"(?:\bthere (?:is|are)(?: not)?|^(?= no\b)){thing}")
            yield re.compile(
                rf"(?:\b(?:this|the) |(?:^ ?|, |but |and ))(?:{self.nouns})(?:{LINKS}{{0,6}} {_EXISTS}\b"
                r"|(?: does| is) not(?= ?(?:$|[.,;!\n])))"
            )


class Claims:
    """Reads the claims that sentences make about one concept."""

    def __init__(self, concept: Concept) -> None:
        self._frames = tuple(concept.frames())
        self._about = re.compile("|".join(filter(None, (concept.nouns, concept.adjectives))))

    def concern(self, sentence: str) -> bool:
        """Whether `sentence` names the concept."""
        return self._about.search(sentence) is not None

    def polarities(self, sentence: str) -> set[bool]:
        """Whether `sentence` affirms (True) or denies (False) the concept; empty when it does neither."""
        if sentence.endswith("?") or len(sentence) > _LONGEST_SENTENCE or not self.concern(sentence):
            return set()
        sentence = f" {plain(sentence)}"
        matches = [match for frame in self._frames for match in frame.finditer(sentence)]
        return {polarity for match in matches if (polarity := _polarity(sentence, match)) is not None}


def sentences(text: str) -> list[str]:
    """Split folded text at line breaks, ends of sentences, semicolons and `reasoning:`; `?` stays on its sentence."""
    parts = re.split(r"(?<=[.!?])['\")\]]?\s+|\n+|;|\breasoning ?:", text)
    return [part.strip() for part in parts if part.strip()]


def concludes(sentence: str) -> bool:
    """Whether the sentence opens as a conclusion does."""
    return re.match(rf"{_CONCLUSION}\b", sentence) is not None


def affirms(sentence: str, match: re.Match[str]) -> bool:
    """Whether the words of `match` state something in `sentence` that nothing denies, hedges or reports.

    `sentence` must have been prepared by `plain`.
    """
    outside = words_in(_governing(sentence[: match.start()]))
    return _polarity(sentence, match) is True and _OVERCOME.isdisjoint(outside)


def mentions_freely(sentence: str) -> bool:
    """Whether no word of the sentence denies, hedges, reports or sets aside what it mentions."""
    withholding = _NEGATIONS | _ABSENCES | _HEDGES | _SPEECH | _SET_ASIDE
    return withholding.isdisjoint(words_in(plain(sentence)))


def is_withheld(lead: str) -> bool:
    """Whether the words before a statement deny, hedge or suppose it."""
    lead = plain(lead[-_LONGEST_SENTENCE:])
    words = words_in(_governing(lead))
    return (
        not (_NEGATIONS | _HEDGES | _OVERCOME).isdisjoint(words)
        or (not _SPEECH.isdisjoint(words) and _SPEAKERS.isdisjoint(words))
        or ("that" in words and _ASSERTING.isdisjoint(words))
        or _reaches(_SUPPOSING, lead)
    )


def plain(sentence: str) -> str:
    """The sentence with phrases that deny, hedge or do neither written in plain words."""
    for idiom, plain in _IDIOMS:
        sentence = idiom.sub(plain, sentence)
    return sentence.strip()


def _polarity(sentence: str, match: re.Match[str]) -> bool | None:
    inside = words_in(match[0])
    lead = sentence[: match.start()]
    opens_clause = match[0].startswith((",", ":"))
    governing = "" if opens_clause else _governing(lead)
    outside = words_in(governing)
    if not _HEDGES.isdisjoint(inside + outside) or _DEMOTED.match(sentence, match.end()):
        return None
    before = lead.removesuffix(governing)
    if _reaches(_SUPPOSING, before) or (not opens_clause and _reaches(_SWEEPING, before)):
        return None
    if not _SPEECH.isdisjoint(outside) and _SPEAKERS.isdisjoint(outside):
        return None
    if governing.rstrip().endswith(" that") and _ASSERTING.isdisjoint(outside):
        return None
    if match[0].startswith(", which") and _count(words_in(lead), _NEGATIONS):
        return None
    denied_before = _denied_before(governing, match[0], sentence[match.end() :])
    if denied_before is None:
        return None
    denied = denied_before + _count(inside, _NEGATIONS | _ABSENCES)
    if denied == 0:
        return True
    if denied > 1 or not _DEGREES.isdisjoint(inside):
        return None
    return False


def _denied_before(governing: str, claim: str, rest: str) -> int | None:
    """How many negations before a claim deny it; None where that is not sure."""
    try:
        denials = denials_over_inference(governing, claim, rest, _NEGATIONS)
    except LookupError:
        own = _count(words_in(_OTHER_CLAUSE.split(governing)[-1]), _NEGATIONS)
        return None if not own and _count(words_in(governing), _NEGATIONS) else own
    return None if denials is None else _count(list(denials), _NEGATIONS)


def _count(words: list[str], kind: frozenset[str]) -> int:
    """How many of the words are of this kind; `nor` after `neither` belongs to it."""
    found = [word for word in words if word in kind]
    return len([word for word in found if word != "nor"] if "neither" in found else found)


def _governing(lead: str) -> str:
    """The words of `lead` that what follows depends on: those of its own clause, or all after a lone `, that`."""
    clause = re.split(r"[,:()–—]| -+ |\bbut\b", lead)[-1]
    return lead if clause.strip() == "that" else clause


def _reaches(kind: re.Pattern[str], lead: str) -> bool:
    """Whether a word of this kind before the comma reaches over it, as nothing turns the sentence in between."""
    ends = [match.end() for match in kind.finditer(lead)]
    return bool(ends) and not _TURN.search(lead, ends[-1])
