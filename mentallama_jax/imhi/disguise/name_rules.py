"""Names where people greet, sign and introduce, and traces of the place where a post stood."""

import re
from collections.abc import Callable

from mentallama_jax.imhi.disguise.identifier_rules import Rule, rule
from mentallama_jax.imhi.disguise.pseudonyms import Pseudonyms, folded
from mentallama_jax.imhi.disguise.word_lists import common_names, no_names

_WORDS_TOO = frozenset(
    ("will", "may", "april", "june", "grace", "summer", "jesus", "dawn", "max", "mark", "bill", "rob", "sue", "penny",
     "ray", "dean", "hunter", "mason", "harper")
)  # fmt: skip
"""Names that are words as well: where a word can stand, they are taken for words."""

_THING = re.compile(
    r"\b(?:books?|movie|film|show|song|game|app|band|album|disease|condition|disorder|drug|medication|meds|website|site"
    r"|company|program|thing|something|channel|podcast|series|place|town|city|school|shelter|hotel|shop|store|bar|pub"
    r"|restaurant|hospital|page|blog|group|method|technique|therapy|theory)\s+(?:\w+\s+)?\Z",
    re.IGNORECASE,
)
"""What is named, or called, but no person."""
_BEFORE_NAME = 30


def _is_name(word: str) -> bool:
    plain = re.sub(r"['’]s\Z|\.\Z", "", folded(word))
    if plain in no_names():
        return word[:1].isupper() and plain in common_names()
    return plain in common_names() or (word[:1].isupper() and not (word.isupper() and len(word) > 3) and len(plain) > 1)


def _named(sure: bool) -> Callable[[re.Match[str], Pseudonyms], str | None]:
    """The name in the group x: its words as far as they are a name; `sure` takes small letters, too."""

    def pseudonym(found: re.Match[str], pseudonyms: Pseudonyms) -> str | None:
        if _THING.search(found.string, max(0, found.start() - _BEFORE_NAME), found.start()):
            return None
        words = found["x"].split(" ")
        first = words[0]
        small = sure and folded(first) not in no_names() and len(first) > 1
        if not (_is_name(first) or small):
            return None
        kept = [first]
        for word in words[1:]:
            if not word[:1].isupper() or folded(word) in no_names():
                break
            kept.append(word)
        return " ".join((*(_made(word, pseudonyms) for word in kept), *words[len(kept) :]))

    return pseudonym


def _made(word: str, pseudonyms: Pseudonyms) -> str:
    name = re.sub(r"['’]s\Z|\.\Z", "", word)
    return pseudonyms.name(name) + word[len(name) :]


def _known_name(found: re.Match[str], pseudonyms: Pseudonyms) -> str | None:
    word = found["x"]
    known = folded(word) in common_names() and not (word.islower() and word in _WORDS_TOO)
    return pseudonyms.name(word) if known else None


_GREETING = r"(?:hi|hello|hey|hiya|dear|howdy|greetings|good\s+(?:morning|evening|afternoon)|(?:happy\s+birthday))"
_WORD = r"(?:[^\W\d_]['’])?[^\W\d_]+(?:['’-][^\W\d_]+)*(?!\w)"
_BIG = r"(?-i:[^\W\d_a-z])"  # that it is a capital is asked later: other alphabets have small letters too
_REST = rf"(?:[ ](?:{_BIG}\.|(?={_BIG}){_WORD})){{0,2}}"
_FULL = rf"(?P<x>{_WORD}{_REST})"
_ONE = rf"(?P<x>{_WORD})"
_CAPITAL = rf"(?P<x>(?={_BIG}){_WORD}{_REST})"
_OPENING = rf"(?:^|[.!?\n]\s{{0,3}}|\b{_GREETING}[\s,]{{1,3}})"
_CLOSING = (
    r"(?:love|best|regards|kind\s+regards|best\s+regards|warm\s+regards|best\s+wishes|sincerely|yours(?:\s+(?:truly|sincerely))?"
    r"|cheers|xoxo|xx+|take\s+care|thanks|thank\s+you|thanks\s+again|hugs|signed|all\s+the\s+best|much\s+love|peace|respectfully)"
)
_KIN = (
    r"(?:brother|sister|son|daughter|mom|mum|mother|dad|father|boyfriend|girlfriend|husband|wife|partner|friend|bf|gf|ex|cousin|"
    r"uncle|aunt|roommate|boss|therapist|dog|cat|fiance|fiancee|fiancé|fiancée|coworker|neighbor|neighbour)"
)

NAME_RULES: tuple[Rule, ...] = (
    rule("name", r"\bmy\s+(?:full\s+|first\s+|last\s+|real\s+)?name(?:\s+is|['’]s|s|:|\s+was)\s+" + _FULL,
         _named(sure=True)),
    rule("name", r"\bmy\s+(?:full\s+|first\s+|last\s+|real\s+)?name\s*[?=-]\s*" + _CAPITAL, _named(sure=False)),
    rule("name", rf"{_OPENING}{_CAPITAL}(?=\s+here\s*(?:[,.!;\n]|$|again))", _named(sure=False)),
    rule("name", rf"{_OPENING}this\s+is\s+{_CAPITAL}(?=\s*[,.!]|\s+(?:here|again|and|from)\b)",
         _named(sure=False)),
    rule("name", rf"(?<!\w)signed\s*[,:]\s*{_CAPITAL}", _named(sure=False)),
    rule("name", r"\b(?:i['’]?m|i\s+am)\s+(?:called|named)\s+" + _FULL, _named(sure=True)),
    rule("name", r"\b(?:call(?:s|ed)?|name[ds]?)\s+me\s+" + _CAPITAL, _named(sure=False)),
    rule("name", r"\b(?:named|called|name\s+(?:is|was)|name['’]s)\s+" + _CAPITAL, _named(sure=False)),
    rule("name", r"\b(?:named)\s+" + _ONE, _known_name),
    rule("name", rf"(?<!\w){_GREETING}[\s,]{{1,3}}{_FULL}"
         r"(?=\s*(?:[,!.:;\n—–-]|$|and\b|&|i\b|i['’]m\b|thank|how|it['’]?s))",
         _named(sure=False)),
    rule("name", rf"(?<!\w){_GREETING}[\s,]{{1,3}}[^\W\d_]+\s*(?:,|and|&)\s*(?:and\s+)?{_CAPITAL}"
         r"(?=\s*(?:[,!.:;\n—–]|$))",
         _named(sure=False)),
    rule("name", rf"(?<!\w){_CLOSING}\s{{0,3}}(?:,|!|\.|\n|-|–|—|:)\s{{0,3}}[-–—~]?\s{{0,3}}{_CAPITAL}\s?[.!]?"
         r"(?=\s?(?:\n|\Z))",
         _named(sure=False)),
    rule("name", rf"(?<!\w){_CLOSING}\s{{0,3}}(?:,|!|\.|\n|-|–|—)\s{{0,3}}[-–—~]?\s{{0,3}}{_ONE}\s?[.!]?\s?\Z",
         _known_name),
    rule("name", rf"(?:[.!?)\"”\s]|(?<=[^\w\s-]))[-–—~]{{1,2}}\s?{_CAPITAL}\s?[.!]?\s?\Z", _named(sure=False)),
    rule("name", rf"(?:[.!?)\"”\n]\s?)[-–—~]{{1,2}}\s?{_ONE}\s?[.!]?\s?\Z", _known_name),
    rule("name", rf"\bmy\s+(?:\w+\s+)?{_KIN}\s*,?\s+\(?{_ONE}", _known_name),
    rule("name", r"(?-i:\b(?:Mr|Mrs|Ms|Miss|Dr|Prof|Professor)\b\.?)\s+" + _CAPITAL,
         _named(sure=False)),
)  # fmt: skip


def _as(word: str) -> Callable[[re.Match[str], Pseudonyms], str | None]:
    """A neutral word, with a capital where the found one has it."""

    def neutral(found: re.Match[str], pseudonyms: Pseudonyms) -> str | None:
        text = found["x"]
        if text.isupper() and len(text) > 2:
            return word.upper()
        return word[0].upper() + word[1:] if text[0].isupper() else word

    return neutral


PLATFORM_RULES: tuple[Rule, ...] = (
    rule("platform", r"(?<![\w/-])(?P<x>(?:cross|x)[\s-]?post(?:ed|ing)?)\b", _as("shared")),
    rule("platform", r"\b(?:re|cross)?post(?:ed|ing|s)?\s+(?:(?:this|it|here|originally|also|first|a\s+lot)\s+)*"
         r"(?:on|to|in|from|at)\s+(?P<x>reddit|facebook|fb|twitter|tumblr|instagram|tiktok|quora|discord|4chan|youtube)\b",
         _as("the forum")),
    rule("platform", r"(?<!\w)(?P<x>edit(?:ed)?\s*\d*)(?=\s*(?::|-\s|—))", _as("added")),
    rule("platform", r"(?-i:(?<!\w)(?P<x>ETA|EDIT)(?=\s*(?:\d\s*)?[:.-]?\s))", _as("added")),
    rule("platform", r"(?<!\w)(?P<x>tl\s*[;:,/]?\s*dr)\b", _as("in short")),
    rule("platform", r"\b(?P<x>sub-?reddits)\b", _as("groups")),
    rule("platform", r"\b(?P<x>sub-?reddit)\b", _as("group")),
    rule("platform", r"\b(?P<x>redditors)\b", _as("members")),
    rule("platform", r"\b(?P<x>redditor)\b", _as("member")),
    rule("platform", r"(?<![\w@./])(?P<x>reddit)(?:['’]s)?(?![\w./])", _as("the forum")),
    rule("platform", r"\b(?P<x>(?:up|down)votes)\b", _as("votes")),
    rule("platform", r"\b(?P<x>(?:up|down)vote)\b", _as("vote")),
    rule("platform", r"\b(?P<x>(?:up|down)voted)\b", _as("voted")),
    rule("platform", r"\b(?P<x>throw[\s-]?aways?(?:\s+account)?)"
         r"(?=\s*(?:account|because|since|as|for|so|here|,|\.|!|$))",
         _as("second account")),
    rule("platform", r"(?-i:(?<!\w)(?P<x>RT)(?=\s+@))", _as("shared")),
    rule("platform", r"(?P<x>\[(?:deleted|removed)\])", _as("(gone)")),
    rule("platform", r"\b(?P<x>retweet(?:ed|s|ing)?)\b", _as("shared")),
    rule("platform", r"\b(?P<x>tweeted)\b", _as("posted")),
    rule("platform", r"\b(?P<x>tweets)\b", _as("posts")),
    rule("platform", r"\b(?P<x>tweet)\b", _as("post")),
)  # fmt: skip
