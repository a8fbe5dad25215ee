"""Which negations before a claim deny it, where a verb of inference stands between them.

"Nothing here suggests that the poster is lonely" denies what it claims; "having no friends suggests that the poster is
lonely" does not: its negation is a part of the evidence. A negation reaches over the verb where it stands on it ("does
not indicate"), or where nothing but nouns of evidence and small words stand between ("no part of this post shows"). It
is a part of the evidence where the sentence opens as a piece of evidence does ("having ...", "the fact that ...") and
other words stand between. All else is not sure.
"""

import re

_CONCLUSION = r"(?:(?:therefore|thus|hence|overall|so|and|also|but|in conclusion|as a result),? )"
_PERSON = r"(?:the|this) (?:poster|author|user|writer|narrator|speaker|individual|person|op|sender)"
_NO_GERUND = r"(?!(?:nothing|anything|everything|something|during|according|being that)\b)"
_NOTED = (
    r"(?:fact|statement|mention|admission|remark|comment|claim|confession|complaint|description|realization|realisation"
    r"|feeling|belief|sense|thought|idea|assertion|words|observation)"
)
_OPENS_AS_EVIDENCE = re.compile(
    rf"^ ?{_CONCLUSION}?(?:(?:{_PERSON}(?:'s)?|their|his|her|them|him) )?"
    rf"(?:(?:not|never|constantly|always|often|rarely) )?(?:{_NO_GERUND}\w{{2,}}ing\b|(?:(?:the|this|a) )?{_NOTED} that\b)"
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
_CARRYING = frozenset(
    "in of on about within from at this these those the a an any single another next last first his her their its it"
    " here there or nor either for post text message tweet poster poster's author's part parts line lines word words"
    " sentence sentences statement statements phrase phrases detail details element elements aspect aspects sign signs"
    " indication indications indicator indicators evidence proof hint hints clue clues symptom symptoms mention mentions"
    " reference references information content language tone expression expressions feature features marker markers"
    " trace traces title paragraph that which is are was do does did contain contains provide provides give gives offer"
    " offers have has include includes present exhibit exhibits show shows display displays indicate indicates suggest"
    " suggests imply implies mean means demonstrate demonstrates reveal reveals seem seems appear appears think believe"
    " see find conclude infer writes wrote written described shared clear explicit direct strong specific concrete"
    " obvious apparent itself themselves alone really actually necessarily directly clearly explicitly strongly"
    " definitely specifically enough would points".split()
)
_LED_IN = re.compile(r"\b(?:to|that|which|who)?(?: \w+ly)? ?$")
_I_THINK = re.compile(r" (?:think|believe|agree|say|see|find)\b")
_OTHER_CLAUSE = re.compile(r"\b(?:and|so|because|since|as|while|when|although|though|yet|which|who|where|but)\b")


def denials_over_inference(clause: str, claim: str, negations: frozenset[str]) -> tuple[str, ...] | None:
    """The negations of `clause` that deny a claim behind its verb of inference.

    Args:
        clause: the words that the claim depends on.
        claim: the claim's own words; they may begin with the verb.
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
        if re.match(rf" ?(?:the |this )?{_NOTED} that\b", clause) and _has(clause, negations):
            return None
        raise LookupError
    if _has(clause[end:], negations):
        return None
    kinds = {_denies(clause, match, start, opens_as_evidence) for match in before}
    if len(kinds) > 1 or None in kinds:
        return None
    return tuple(match[0] for match in before) if kinds == {True} else ()


def _denies(clause: str, negation: re.Match[str], verb: int, opens_as_evidence: bool) -> bool | None:
    between = clause[negation.end() : verb]
    if re.search(r"\bi (?:do|would|can) $", clause[: negation.start()]) and _I_THINK.match(between):
        return True
    words = re.findall(r"[a-z']+", _LED_IN.sub("", between))
    carrying = _CARRYING | {"one"} if negation[0] == "not" else _CARRYING
    if not carrying.issuperset(words):
        return False if opens_as_evidence else None
    if not words:
        return True
    if opens_as_evidence or (negation[0] != "not" and _OPENS_WITH_PERSON.match(clause)):
        return None
    return True


def _has(clause: str, words: frozenset[str]) -> bool:
    return not words.isdisjoint(re.findall(r"[a-z']+", clause))
