"""Whether an output refuses to answer: a small rule set over the beginnings of its sentences.

What stands in quotation marks is the poster's and does not count, nor what an explanation reports in the middle of a
sentence (`the poster says that I can't help`). A doubt about the post (`I cannot determine whether`) is no refusal.
"""

import re

_CANNOT = r"(?:can(?:no|')?t|can not|could ?n'?o?t|am (?:not able|unable) to|am not in a position to|wo(?:n't|uld not))"
_DO = (
    r"(?:assist|help(?! (?:but|\w+ing)\b)|answer|respond|provide|fulfill?|comply|engage|diagnose|give|offer|create"
    r"|generate|continue|discuss|complete|process|do that|participate|support|analy[sz]e|evaluate|assess|label|classify"
    r"|make (?:a |any |such )?(?:diagnos[ei]s|judge?ments?|assessments?))"
)
_SORRY = (
    r"(?:i(?:'m| am) (?:really |very |so |deeply )?sorry|sorry|i apologi[sz]e|my apologies|unfortunately|regrettably)"
)
_MACHINE = r"(?:an? |your )?(?:ai|artificial intelligence|(?:large )?language model|llm|chatbot|virtual assistant)\b"

_RULES = (
    # I'm sorry, but I can't assist with that. Unfortunately, I cannot.
    rf"{_SORRY}(?: about that)?[,.:;]?\s+(?:but |that )?(?:as [^.,]{{1,40}},? )?i (?:{_CANNOT}|do(?:n't| not) feel)",
    rf"{_SORRY} (?:for|if) [^.]{{1,60}}, but i {_CANNOT}",
    # I cannot help with this request.
    rf"i {_CANNOT} {_DO}\b",
    # As an AI language model, I do not have ...
    rf"as {_MACHINE}[^.]{{0,60}}?,? i(?: am|'m)? (?:{_CANNOT.replace('am ', '(?:am )?')}|do(?:n't| not) have|not "
    r"(?:qualified|capable|able|designed|a (?:doctor|therapist|psychologist|mental health|medical)))",
    rf"i(?:'m| am) (?:just |only |merely )?{_MACHINE}[^.]{{0,60}}\b(?:{_CANNOT}|not (?:qualified|able|capable|"
    "designed))",
    # It would not be appropriate for me to ...
    r"it (?:is|'s|would be|wo(?:uldn't|uld not) be|is not|isn't) (?:not |in)?(?:appropriate|possible|ethical|right) "
    r"for me to",
    r"i(?:'m| am) not (?:able|qualified|comfortable|permitted|allowed|authori[sz]ed) (?:to |with |making |giving )",
    r"i (?:must|have to|need to) (?:respectfully )?(?:decline|refuse)\b",
    r"this (?:request|question|content) (?:violates|goes against)\b",
)
_QUOTED = re.compile(r"\"[^\"\n]{0,400}\"|“[^”\n]{0,400}”|«[^»\n]{0,400}»|``.{0,400}?''")
_BEGINS = re.compile(
    rf"(?:^|[.!?\n>]\s*)(?:[-*•]\s*)?(?:well, |hi[,!] |hello[,!] )?(?:{'|'.join(_RULES)})", re.IGNORECASE
)


def is_refusal(text: str) -> bool:
    """Whether a sentence of the text begins with a refusal."""
    return _BEGINS.search(_QUOTED.sub(" ", text.replace("’", "'"))) is not None
