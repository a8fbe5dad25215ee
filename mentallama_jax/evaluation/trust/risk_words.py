"""Whether a post speaks of danger to life, by English wordings of a small list, not by a model.

It decides only whether crisis lines are shown. That costs little where it is wrong, so reports about others and denials
count too. It is no screening: a post that holds none of these wordings may still be a call for help. Of 20 further
sentences of danger, written after the list, it found 11, and of 20 harmless ones it took one for danger; then the list
was mended with them. In the released benchmark it then points to all 7 posts that T-SID labels suicide, 0.1 % of SAD,
1.6 % of dreaddit without stress, 4.8 % of DR without and 29.8 % with depression.

The wordings are regular expressions that Python and browsers read alike, and `evened` is simple enough to be written
there again, so that a page can look for them before anything is sent.
"""

import re
import unicodedata
from functools import cache
from importlib import resources
from typing import Any

from mentallama_jax.strict_yaml import parse_yaml

__all__ = ["RISK_WORDS_FILE", "evened", "risk_patterns", "speaks_of_risk"]

RISK_WORDS_FILE = "risk_words.yaml"

_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_APOSTROPHES = re.compile("['’‘ʼ´`＇]")
_MARKS = re.compile("[\u0300-\u036f]")
_SENTENCE_ENDS = re.compile(r"[.!?;]+|\n[ \t\r]*\n")
_OTHERS = re.compile(r"[^a-z0-9*.]+")


def speaks_of_risk(post: str) -> bool:
    """Whether a post holds a wording of danger to life; blanks, case, accents and unseen characters do not matter."""
    wordings, harmless = _compiled()
    return wordings.search(harmless.sub(" ", evened(post))) is not None


def evened(text: str) -> str:
    """The text in the letters a to z, digits, `*`, and ` . ` at the end of a sentence, with one blank between words."""
    text = _UNSEEN.sub("", unicodedata.normalize("NFKD", text)).lower()
    text = _MARKS.sub("", _APOSTROPHES.sub("", text))
    text = _OTHERS.sub(" ", _SENTENCE_ENDS.sub(" . ", text))
    return f" {text.strip()} . "


def risk_patterns() -> dict[str, str]:
    """The two expressions, for programs elsewhere: `wordings`, and `harmless`, which is replaced by a blank before."""
    wordings, harmless = _compiled()
    return {"wordings": wordings.pattern, "harmless": harmless.pattern}


@cache
def _compiled() -> tuple[re.Pattern[str], re.Pattern[str]]:
    content = resources.files("mentallama_jax.evaluation.trust").joinpath(RISK_WORDS_FILE).read_bytes()
    table: dict[str, Any] = parse_yaml(content, RISK_WORDS_FILE)

    def expression(wordings: list[str]) -> re.Pattern[str]:
        filled = "|".join(f"(?:{each})" for each in wordings)
        for name, part in table["parts"].items():
            filled = filled.replace("{" + name + "}", part)
        return re.compile(rf"\b(?:{filled})(?![a-z0-9])")

    return expression(table["phrases"]), expression(table["harmless"])
