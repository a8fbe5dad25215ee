"""Where an answer takes back what it said before: "Wait, ...", "Correction: ...", "On reflection, ...".

Such words count only where they open a sentence or a line and are set off by a comma, a colon, a dash or a full stop.
Inside a sentence they are ordinary words ("they wait and hold on"), but for the first sentence of the answer part,
where they stand between commas or dashes ("Yes, wait, no.").
"""

import re
from collections.abc import Iterator

from mentallama_jax.imhi.labels.listings import before_reasons

_OPENS = r"(?:^|[.!?…]['\")\]]? |\n)"
_INTERRUPTS = r"(?:[,;:)]|[-–—]) "
_SIGH = r"(?:(?:hm+|oh|but|ah|no|ok|okay)(?:,|\.{2,}|…)? )?"
_SET_OFF = r" ?(?:[,.:;!…]|[-–—]+ |$|\n)"
_AGAIN = r"re-?(?:read|think|consider|check|evaluate|assess|examine|visit|view|phrase|do)"
_WORDS = (
    r"(?:no,? wait|wait|hold on|hm+|scratch that|on (?:second|further) thoughts?|on reflection"
    rf"|let me (?:{_AGAIN}|think|correct)(?: [\w']+){{0,4}}|i take (?:that|it) back|my mistake"
    rf"|(?:re-?reading|reading) (?:it|this|the post) again){_SET_OFF}"
    r"|correction ?:|actually,? (?=(?:no|yes) ?(?:[,.:;!]|$|\n)|(?:i (?:was|am) (?:wrong|mistaken)"
    r"|on (?:reflection|second|further)|the (?:correct|right|answer|label))\b)"
)
_CORRECTED = re.compile(rf"{_OPENS}{_SIGH}(?:{_WORDS})")
_INTERRUPTED = re.compile(rf"{_INTERRUPTS}{_SIGH}(?:{_WORDS})")
_FIRST_SENTENCE = re.compile(r"[.!?] |\n|$")
_BETWEEN = " ,.:;!…-–—\n"


def corrections(text: str) -> Iterator[tuple[int, int]]:
    """Where folded text is taken back, in its order: the end of what stood before, and the start of what follows."""
    answer = before_reasons(text)
    first = _FIRST_SENTENCE.search(answer)
    found = [*_INTERRUPTED.finditer(answer, 0, first.start() if first else 0), *_CORRECTED.finditer(text)]
    for match in found:
        end = match.end()
        while text[end : end + 1] and text[end] in _BETWEEN:
            end += 1
        yield match.start(), end
