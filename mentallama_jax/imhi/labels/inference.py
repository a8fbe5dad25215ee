"""Which negations before a claim deny it, where a verb of inference stands between them.

"Nothing here suggests that the poster is lonely" denies what it claims; "having no friends suggests that the poster is
lonely" does not: its negation is a part of the evidence. A negation reaches over the verb where it stands on it ("does
not indicate"), or where nothing but nouns of evidence and small words stand between ("no part of this post shows"). It
is a part of the evidence where the sentence opens as a piece of evidence does ("having ...", "the fact that ...") and
other words stand between. All else is not sure.
"""

import re

from mentallama_jax.imhi.labels.folding import word_set, words_in

_CONCLUSION = r"(?:(?:therefore|thus|hence|overall|so|and|also|but|in conclusion|as a result),? )"
_PERSON = r"(?:the|this) (?:poster|author|user|writer|narrator|speaker|individual|person|op|sender)"
_NO_GERUND = r"(?!(?:nothing|anything|everything|something|during|according|being that)\b)"
_NOTED = (
    r"(?:fact|statement|mention|admission|remark|comment|confession|complaint|description|realization|realisation"
    r"|feeling|sense|words|observation)"
)
_OPENS_AS_EVIDENCE = re.compile(
    rf"^ ?{_CONCLUSION}?(?:(?:{_PERSON}(?:'s)?|their|his|her|them|him) )?"
    rf"(?:(?:not|never|constantly|always|often|rarely) )?"
    rf"(?:{_NO_GERUND}\w{{2,}}ing\b|(?:(?:the|this|a) )?{_NOTED} that\b)"
    r"|^ ?that (?:the|this|they|he|she|nobody|nothing|no|there)\b"
)
_OPENS_WITH_PERSON = re.compile(rf"^ ?{_CONCLUSION}?(?:{_PERSON}\b(?!')|they\b|he\b|she\b)")
_INFERENCE = re.compile(
    r"\b(?:indicat(?:es?|ed|ing)|suggest(?:s|ed|ing)?|show(?:s|ed|n|ing)?|mean(?:s|t|ing)?|impl(?:y|ies|ied|ying)"
    r"|demonstrat(?:es?|ed|ing)|reveal(?:s|ed|ing)?|confirm(?:s|ed|ing)?|prov(?:es?|ed|ing)|reflect(?:s|ed|ing)?"
    r"|highlight(?:s|ed|ing)?|convey(?:s|ed|ing)?|express(?:es|ed|ing)?|signal(?:s|led|ling)?|hint(?:s|ed|ing)? at"
    r"|hint(?:s|ed|ing)?(?= that)|point(?:s|ed|ing)? to|support(?:s|ed|ing)?|underlin(?:es?|ed|ing)"
    r"|establish(?:es|ed|ing)?|mak(?:es?|ing) it (?:clear|likely|evident|obvious|plain)"
    r"|lead(?:s|ing)? (?:me|us|one) to (?:believe|conclude|think|say)|tells? (?:me|us)"
    r"|(?:(?:is|are) (?:an? |the )?(?:\w+ )?)?(?:signs?|indications?|indicators?|evidence|proof|symptoms?|clues?)"
    r"(?= (?:that|of|for)\b))"
)
_CARRYING = word_set(
    "in of on about within from at this these those the a an any single another next last first his her their its it"
    " here there or nor either for post text message tweet poster poster's author's part parts line lines word words"
    " sentence sentences statement statements phrase phrases detail details element elements aspect aspects sign signs"
    " indication indications indicator indicators evidence proof hint hints clue clues symptom symptoms mention"
    " mentions reference references information content language tone expression expressions feature features marker"
    " markers trace traces title paragraph that which is are was do does did contain contains provide provides give"
    " gives offer offers have has include includes present exhibit exhibits show shows display displays indicate"
    " indicates suggest suggests imply implies mean means demonstrate demonstrates reveal reveals seem seems appear"
    " appears think believe see find conclude infer writes wrote written described shared clear explicit direct strong"
    " specific concrete obvious apparent itself themselves alone really actually necessarily directly clearly"
    " explicitly strongly definitely specifically enough would points"
)
_ENDS = re.compile(r" ?(?:$|[.,;:!)\n]|[-–—])| (?:and|because|as|due|since|in|at|from|with|which)\b")
_I_DO = re.compile(r"\bi (?:do|would|can) $")
_LED_IN = re.compile(r"\b(?:to|that|which|who)?(?: \w+ly)? ?$")
_OF_NOT = _CARRYING | word_set(
    "one express expresses mention describe display emotion emotions emotional feeling feelings distress personal"
    " negative mental psychological thoughts struggles issues problems behavior behaviors behaviour behaviours"
)
"""What may stand besides between "does not" and the verb: "does not express any feelings that indicate ..."."""
_ALSO_NOT = re.compile(r"\b(?:do|does|did) $")
_COORDINATED = re.compile(r"\b(?:or|nor)(?: \w+ly)? $")
_BARE = re.compile(
    r"(?:indicate|suggest|show|mean|imply|demonstrate|reveal|confirm|prove|reflect|highlight|convey|express|signal"
    r"|hint|point to|support|establish)\b"
)
_AS_NOTED = re.compile(rf" ?(?:the |this )?{_NOTED} that\b")
_I_THINK = re.compile(r" (?:think|believe|agree|say|see|find)\b")
_OTHER_CLAUSE = re.compile(r"\b(?:and|so|because|since|as|while|when|although|though|yet|which|who|where|but)\b")


def denials_over_inference(clause: str, claim: str, rest: str, negations: frozenset[str]) -> tuple[str, ...] | None:
    """The negations of `clause` that deny a claim behind its verb of inference.

    Args:
        clause: the words that the claim depends on.
        claim: the claim's own words; they may begin with the verb.
        rest: what follows the claim. A verb there may say anything of the whole ("... goes too far").
        negations: words that deny.

    Returns:
        The words that deny; none where they are all parts of the evidence. None where that is not sure.

    Raises:
        LookupError: no verb of inference stands between a negation and the claim.
    """
    *_, verb = [None, *_INFERENCE.finditer(clause)]
    start, end = (verb.start(), verb.end()) if verb else (0, 0)
    if _INFERENCE.match(claim):
        start = end = len(clause)
    before = [match for match in re.finditer(r"[a-z']+", clause[:start]) if match[0] in negations]
    opens_as_evidence = _OPENS_AS_EVIDENCE.match(clause) is not None
    if not before or _OTHER_CLAUSE.search(clause, end):
        # Behind "the fact that" the verb may stand in the claim itself: "... nobody answers the poster shows ...".
        if _AS_NOTED.match(clause) and _has(clause, negations):
            return None
        raise LookupError
    if _has(clause[end:], negations):
        return None
    bare = _BARE.match(clause, start) is not None or (start == len(clause) and _BARE.match(claim) is not None)
    kinds = {_denies(clause, match, start, bare, opens_as_evidence) for match in before}
    if len(kinds) > 1 or None in kinds:
        return None
    if kinds == {True}:
        return tuple(match[0] for match in before)
    return () if _ENDS.match(rest) else None


def _denies(clause: str, negation: re.Match[str], verb: int, bare: bool, opens_as_evidence: bool) -> bool | None:
    between = clause[negation.end() : verb]
    if _I_DO.search(clause, 0, negation.start()) and _I_THINK.match(between):
        return True
    # "It does not express sadness or indicate that ...": the bare verb can only belong to "does not".
    if bare and _COORDINATED.search(between) and _ALSO_NOT.search(clause, 0, negation.start()):
        return True
    words = words_in(_LED_IN.sub("", between))
    carrying = _OF_NOT if negation[0] == "not" else _CARRYING
    if not carrying.issuperset(words):
        return False if opens_as_evidence else None
    if not words:
        return True
    if opens_as_evidence or (negation[0] != "not" and _OPENS_WITH_PERSON.match(clause)):
        return None
    return True


def _has(clause: str, words: frozenset[str]) -> bool:
    return not words.isdisjoint(words_in(clause))
