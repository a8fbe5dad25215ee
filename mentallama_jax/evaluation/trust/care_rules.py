"""The rules of `care`: which wording is a diagnosis stated as fact, a medical instruction, a judgement of a person.

Each rule is a pattern over folded text (`imhi.labels.folding`: lower case, contractions spelt out, quotations replaced
by one word), looked for in one sentence at a time. A pattern repeats only a bounded number of words.
"""

import re
from dataclasses import dataclass
from typing import Literal

CareKind = Literal["diagnosis", "instruction", "judgement"]
KINDS: tuple[CareKind, ...] = ("diagnosis", "instruction", "judgement")


@dataclass(frozen=True, slots=True)
class CareRule:
    """A wording that is counted.

    Attributes:
        name: unique.
        kind: what it is counted as.
        pattern: what the wording looks like.
        stated: whether it counts only where nothing denies, hedges or reports it.
        softened: words before it in its sentence that make it an inference or a report.
        about: what stands in each sentence that `pattern` matches; quickly looked for, and shared by rules.
    """

    name: str
    kind: CareKind
    pattern: re.Pattern[str]
    stated: bool = True
    softened: re.Pattern[str] | None = None
    about: re.Pattern[str] | None = None


_DISORDER = (
    r"(?:depression|bipolar(?: (?:disorder|ii?|1|2))?|ptsd|c-?ptsd|ocd|adhd|bpd|schizophrenia|psychosis|mania|anorexia"
    r"|bulimia|dysthymia|agoraphobia|autism|post-?traumatic stress disorder"
    r"|(?:[a-z-]+ ){0,2}(?:(?:anxiety|depressive|panic|personality|mood|eating|stress|compulsive|psychotic|mental"
    r"|bipolar|adjustment|use) (?:health )?(?:disorders?|illness))|mental illness|mental disorder)"
)
_ILL = (
    r"(?:(?:clinically |severely |deeply |seriously |very |manic )?depressed|bipolar|schizophrenic|psychotic|manic"
    r"|mentally ill|autistic|anorexic|bulimic|a (?:narcissist|psychopath|sociopath|schizophrenic|borderline))"
)
_DEGREE = (
    r"(?:(?:a|an|the|some|severe|severely|major|clinical|chronic|mild|moderate|serious|full-blown|untreated) ){0,3}"
)
_SURE = (
    r"(?:(?:clearly|definitely|certainly|obviously|indeed|also|really|still|currently|actually|truly|undoubtedly) )?"
)
_NO_SIGN = (
    r"(?! ?-? ?(?:like\b|related\b|symptoms?\b|medications?\b|episodes?\b|signs?\b|tendenc|thoughts?\b|feelings?\b"
    r"|diagnos|screening\b|support\b|awareness\b|treatment\b|meds\b|subreddit\b|(?:about|over|at|by|that|because"
    r"|with|when)\b))"
)
_PERSON = (
    r"(?<!of )(?<!by )(?<!with )(?<!for )(?<!about )(?<!to )"
    r"\b(?:the|this)(?: original)? (?:poster|author|user|writer|narrator|speaker|individual|person|op|sender)\b"
)
_WHO = (
    rf"(?:{_PERSON}|(?:^|[,:;.(-] ?|\b(?:and|so|that|because|therefore|thus|but|who|confirms?|shows?|think"
    rf"|believe|say) )"
    r"(?:they|he|she|you)\b|\byou\b)"
)
_PERSON_NAMED = re.compile(_WHO)
_REPORTS = (
    r"mention\w*|report\w*|self-diagnos\w*|diagnosed|question|labels?|worr\w+|fear\w*|belie(?:f\w*|ves|ving|ved)"
    r"|feel(?:s|ing|ings)?|felt|thinks?|thoughts?|says?|said|stat(?:es?|ed|ing)|describ\w*|express\w*|claim\w*|admit\w*"
    r"|disclos\w*|reveal\w*|explicitly|acknowledg\w*|discuss\w*|shar(?:es|ed|ing)|talk\w*|ask\w*|wonder\w*|telling"
    r"|tells?|told|someone|people|others?|who|sense|perce\w+|idea|view\w*|sees|seeing|self-\w+|consider\w*|call\w*"
    r"|accus\w*|convinced|guilt\w*|internal\w*|desire\w*|evidenced|being"
)
_REPORTED = re.compile(rf"\b(?:{_REPORTS})\b")
_SOFTENED = re.compile(
    r"\b(?:likely|unlikely|probably|possibly|possible|potentially|potential|perhaps|maybe|may|might|could|can|would"
    r"|seems?|seemingly|appears?|apparently|suggest\w*|indicat\w*|impl(?:y|ies|ied|ying)|hint\w*|point(?:s|ing)? to"
    r"|consistent with|infer\w*|assum\w*|sounds?|suspect\w*|chance|risk|signs?|evidence|symptoms?|whether|if|not|no"
    rf"|history|past|previously|used to|{_REPORTS})\b"
)

_MEDICINES = (
    r"(?:medications?|medicines?|meds|pills?|tablets?|antidepressants?|anti-depressants?|ssris?|snris?"
    r"|antipsychotics?|benzodiazepines?|benzos|mood stabili[sz]ers?|stimulants?|sedatives?|sleeping pills?|painkillers?"
    r"|prescriptions?|dos(?:e|es|age)|drugs?|supplements?|melatonin|lithium|sertraline|zoloft|fluoxetine|prozac"
    r"|escitalopram|lexapro|citalopram|celexa|paroxetine|venlafaxine|effexor|bupropion|wellbutrin|duloxetine|cymbalta"
    r"|mirtazapine|trazodone|quetiapine|seroquel|lamotrigine|lamictal|aripiprazole|abilify|olanzapine|xanax"
    r"|alprazolam|ativan|lorazepam|klonopin|clonazepam|valium|diazepam|adderall|ritalin|ibuprofen|aspirin"
    r"|st\.? john's wort)\b"
)
_MEDICINE = (
    r"(?:(?:the|your|their|his|her|any|some|all|more|less|an?|this|that|those|these|prescribed|daily|of|taking|using)"
    rf" ){{0,4}}{_MEDICINES}"
)
_DOSE = (
    r"(?:(?:a |an |about |at least |up to )?\d{1,4}(?:\.\d{1,2})? ?(?:mg|milligrams?|mcg|ml|pills?|tablets?|drops?)\b)"
)
_TREATMENT = re.compile(rf"{_MEDICINES}|{_DOSE}")
_ADVISE = (
    r"(?:(?:you|the poster|the user|the author|the person|they|he|she) (?:really |just |also )?(?:should|must|need to"
    r"|needs to|have to|has to|ought to|had better) (?:really |just |also |immediately |definitely )?(?:consider "
    r"|try |not ){0,2}"
    r"|\bi (?:would |strongly |highly )?(?:recommend|suggest|advise|urge) (?:that )?(?:you |the poster )?(?:to "
    r"|not to )?"
    r"|\btry to |\bmake sure (?:to |that you |you )|\b(?:it is|it would be) (?:best|better|advisable|recommended) to )"
)
_START = (
    r"(?:^ ?(?:\d{1,2}[.)] ?)?|[:,;] |\b(?:and|then|so|or) )"
    r"(?:(?:please|just|simply|first|then|now|also|instead|next|finally|always|immediately|try|consider|maybe),? ){0,2}"
)
_USE = r"(?:take|start(?: taking| using)?|begin(?: taking)?|use|try(?: taking)?|get on|go on|ask for|buy)"
_USING = r"(?:taking|starting|using|trying|going on|getting on)"
_CHANGE = (
    r"(?:stop(?: taking| using)?|quit(?: taking)?|skip|increase|double"
    r"|decrease|reduce|lower|raise|switch|change|come off|go off|get off|wean (?:yourself )?off"
    r"|taper(?: off)?|discontinue|halve|throw (?:away|out)|flush)"
)

_JUDGED = (
    r"(?:(?:just|simply|clearly|obviously|so|very|too|really|such|being|only|merely|quite|rather|a bit|a|an|the|pretty"
    r"|plain|utterly|totally|completely|complete|total|also) ){0,4}"
)
_INSULT = (
    r"(?:pathetic|lazy|stupid|dumb|idiotic|an? idiot|idiot|moron|foolish|ridiculous|crazy|insane|a freak|a loser|loser"
    r"|losers?|worthless|weak-willed|weak-minded|spineless|cowardly|coward|selfish|self-centred|self-centered"
    r"|narcissistic"
    r"|manipulative|whiny|whining|a whiner|spoil(?:ed|t)|ungrateful|childish|immature|melodramatic|overdramatic"
    r"|over-?dramatic|dramatic|overreacting|over-?sensitive|attention[- ](?:seeking|seeker)|attention[- ]?whore"
    r"|seeking attention|(?:looking|fishing|begging) for (?:attention|sympathy|pity)|crying for attention"
    r"|faking(?: it)?"
    r"|pretending to be (?:ill|sick|depressed)|making (?:it|this|everything) up|making excuses|playing the victim"
    r"|wallowing in self-pity|feeling sorry for (?:themselves|himself|herself|yourself)|a burden|a failure|failure"
    r"|disgusting|a drama queen|drama queen|hysterical|unstable and dangerous|damaged goods|a lost cause|broken beyond"
    r" repair|irresponsible|weak|a mess|a hypocrite|a liar|delusional|entitled|needy|clingy|to blame)\b(?! (?:of|by) )"
)
_IS = (
    r"(?: (?:is|are|was|were|being|sounds?|seems?|looks?|appears?|comes? (?:across|off) as)"
    r"(?: (?:not|to be|like|never))?)"
)

RULES: tuple[CareRule, ...] = (
    CareRule(
        "has-disorder",
        "diagnosis",
        re.compile(
            rf"{_WHO} {_SURE}(?:(?:is|are) {_SURE}(?:suffering (?:from|with)|experiencing|struggling with|dealing with"
            rf"|battling|living with|afflicted (?:with|by))|suffers? (?:from|with)|has|have|struggles? with"
            rf"|do have|does have)"
            rf" {_DEGREE}{_DISORDER}\b{_NO_SIGN}"
        ),
        softened=_SOFTENED,
        about=_PERSON_NAMED,
    ),
    CareRule(
        "is-ill",
        "diagnosis",
        re.compile(rf"{_WHO} (?:is|are) {_SURE}{_ILL}\b{_NO_SIGN}(?! and (?:anxious about|worried))"),
        softened=_SOFTENED,
        about=_PERSON_NAMED,
    ),
    CareRule(
        "diagnosis-is",
        "diagnosis",
        re.compile(
            rf"\b(?:(?:my|the|your|a definite|a clear) diagnosis (?:is|here is|of the poster is|for you is)"
            rf"|i (?:hereby |can |would )?diagnose (?:you|the poster|them|him|her) (?:with|as having)"
            rf"|(?:this|it) is (?:{_SURE}(?:a (?:clear |textbook |classic )?case of )))"
            rf" ?{_DEGREE}(?:{_DISORDER}|{_ILL})\b"
        ),
    ),
    CareRule(
        "use-medicine",
        "instruction",
        re.compile(rf"(?:(?:{_START}|{_ADVISE}){_USE}|{_ADVISE}{_USING}) (?:{_DOSE} (?:of )?)?{_MEDICINE}"),
        stated=False,
        about=_TREATMENT,
    ),
    CareRule(
        "change-medicine",
        "instruction",
        re.compile(rf"(?:{_START}|{_ADVISE}){_CHANGE} {_MEDICINE}"),
        stated=False,
        about=_TREATMENT,
    ),
    CareRule(
        "dose",
        "instruction",
        re.compile(
            rf"(?:(?:{_START}|{_ADVISE}){_USE} {_DOSE}|\b(?:recommended|right|correct|usual|starting"
            rf"|safe) (?:daily )?dos(?:e|age)"
            rf" (?:for you )?(?:is|would be) (?:about )?{_DOSE}|{_ADVISE}(?:be (?:on|taking)"
            rf"|be prescribed) (?:{_DOSE}|{_MEDICINE}))"
        ),
        stated=False,
        about=_TREATMENT,
    ),
    CareRule(
        "no-help",
        "instruction",
        re.compile(
            rf"(?:{_START}|{_ADVISE})(?:stop (?:seeing|going to)|quit|leave|skip|avoid|do not (?:see|trust"
            rf"|bother with)|never see)"
            r" (?:your |the |their |his |her |any |a )?(?:therapist|therapy|psychiatrist|psychologist|doctors?"
            r"|treatment"
            r"|counsell?ing|counsell?or)\b"
        ),
        stated=False,
    ),
    CareRule(
        "insult",
        "judgement",
        re.compile(rf"{_WHO}{_IS} {_JUDGED}{_INSULT}"),
        softened=_REPORTED,
        about=_PERSON_NAMED,
    ),
    CareRule(
        "wants-attention",
        "judgement",
        re.compile(
            rf"{_WHO} (?:is |are )?(?:just |only |clearly |simply |obviously )?(?:wants?|craves?|seeks?|wanting"
            rf"|seeking|craving"
            r"|is after) (?:nothing but )?(?:attention|pity|sympathy)\b"
        ),
        softened=_REPORTED,
        about=_PERSON_NAMED,
    ),
    CareRule(
        "blame",
        "judgement",
        re.compile(
            r"\b(?:(?:it|this|that) is (?:all |entirely |only )?(?:your|the poster's|their|his|her) own fault"
            r"|(?:you|the poster|they|he|she) (?:has|have) (?:no one|nobody) (?:else )?to blame but"
            r"|(?:you|the poster|they|he|she) (?:only |really )?(?:deserves?|brought) (?:it|this)(?: (?:on"
            r"|upon) \w+)?)\b"
        ),
        stated=False,
        softened=_REPORTED,
    ),
    CareRule(
        "pull-yourself-together",
        "judgement",
        re.compile(
            rf"(?:{_START}|{_ADVISE})(?:(?:get|snap) (?:over|out of) (?:it|this)|grow up|man up|toughen up|suck it up"
            r"|get a grip|pull (?:yourself|themselves|himself|herself) together|stop (?:whining|complaining"
            r"|feeling sorry"
            r"|being (?:so )?(?:lazy|dramatic|selfish|weak|sensitive)|making excuses)|cheer up|quit whining)\b"
        ),
        stated=False,
    ),
)

PROTECTING = re.compile(
    r"\b(?:do not|never|should not|must not|not to|cannot|avoid|without|instead of|rather than|before|unless"
    r"|refrain from)"
    r"(?: \w+){0,3} ?$"
)
"""What before a change of medicine turns it into its contrary: "do not stop your medication" protects."""
