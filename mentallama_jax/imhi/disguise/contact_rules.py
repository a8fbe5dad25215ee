"""Links, addresses of e-mail and houses, telephones, accounts and groups: what a rule finds, and what replaces it."""

import re

from mentallama_jax.imhi.disguise.identifier_rules import Rule, rule
from mentallama_jax.imhi.disguise.pseudonyms import Pseudonyms, folded
from mentallama_jax.imhi.disguise.word_lists import no_streets

_DOMAINS = r"(?:com|org|net|edu|gov|info|co\.uk)"
_SHORT_DOMAINS = r"(?:io|ly|gg|me|tv|be|de|co|us|it|fm|gl|to|app|uk|ca|au)"
_PUBLIC_LINES = ("116123", "131114", "988", "741741", "85258", "686868")
_TOLL_FREE = re.compile(r"1?8(?:00|33|44|55|66|77|88)\d{7}|0?(?:0800|0808|0845)\d+|44(?:800|808)\d+|1[38]00\d{6}")
_STREETS = (
    r"(?:street|st|avenue|ave|road|rd|boulevard|blvd|lane|ln|drive|dr|court|ct|place|pl|terrace|ter|square|sq|parkway"
    r"|pkwy|highway|hwy|close|crescent|cres|grove|circle|cir|way|row|mews)"
)
_WORDS_TOO = ("close", "way", "place", "court", "circle", "row", "drive", "square", "lane", "st", "pl", "dr", "ct")
"""Words for a street that are other words as well, where all is written small."""
_BEFORE_STREET = 12
_STATES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|OH|OK|OR|PA"
    "|RI|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY|DC"
)


def _email(found: re.Match[str], pseudonyms: Pseudonyms) -> str:
    return f"{pseudonyms.handle(found['x'])}@example.org"


def _link(found: re.Match[str], pseudonyms: Pseudonyms) -> str | None:
    text = found["x"]
    bare = re.sub(r"^(?:https?://)?(?:www\.)?", "", folded(text)).rstrip("/")
    if bare.startswith("example.org"):
        return None
    start = re.match(r"(?:https?://)?(?:www\.)?", text, re.IGNORECASE)
    assert start is not None
    path = f"/{pseudonyms.handle(bare)}" if "/" in bare else f"/{pseudonyms.name(bare).lower()}"
    return f"{start[0]}example.org{path}"


def _handle(found: re.Match[str], pseudonyms: Pseudonyms) -> str | None:
    account = found["x"]
    if not re.search(r"[^\W_]", account):
        return None
    return pseudonyms.handle(account)


def _account(found: re.Match[str], pseudonyms: Pseudonyms) -> str | None:
    account = found["x"]
    # Without a mark of its own it could be any word: one with a digit, an underscore or a full stop inside is none.
    if not re.search(r"\w[\d_.#]\w|\d", account):
        return None
    name, sign, number = account.partition("#")
    return pseudonyms.handle(name) + (sign + pseudonyms.digits("tag", number, 4) if sign else "")


def _group(found: re.Match[str], pseudonyms: Pseudonyms) -> str:
    return f"group_{pseudonyms.name(found['x']).lower()}"


def _phone(found: re.Match[str], pseudonyms: Pseudonyms) -> str | None:
    text = found["x"]
    digits = re.sub(r"\D", "", text)
    if not 7 <= len(digits) <= 15 or digits in _PUBLIC_LINES or _TOLL_FREE.fullmatch(digits):
        return None
    kept = len(re.match(r"\+(?:1|7|[2-9]\d)?", text)[0]) - 1 if text.startswith("+") else 0  # type: ignore[index]
    local = digits[kept:]
    # The key decides the last digits; those in front are such that no telephone has the number.
    made = pseudonyms.digits("phone", digits, len(local))
    if len(local) in (10, 11) and (text.startswith("+1") or text[0] not in "+0"):
        area = local[:-10] + made[0].replace("0", "2").replace("1", "3") + made[1:3]
        made = f"{area}55501{made[-2:]}"
    elif len(local) == 7:
        made = f"55501{made[-2:]}"
    else:
        made = "00" + made[2:]
    numbers = iter(digits[:kept] + made)
    return re.sub(r"\d", lambda _: next(numbers), text)


def _street(found: re.Match[str], pseudonyms: Pseudonyms) -> str | None:
    words = folded(found["words"]).split()
    if set(words) & no_streets() or any(re.fullmatch(r"\d+", word) for word in words):
        return None
    if found["words"].islower() and folded(found["suffix"]) in _WORDS_TOO:
        before = found.string[max(0, found.start() - _BEFORE_STREET) : found.start()]
        if not re.search(r"\b(?:at|to|on|is|address|live)\W*$", before, re.IGNORECASE):
            return None
    street = pseudonyms.name(found["words"].strip()).title()
    number = 1 + pseudonyms.number("house", found["house"] + found["words"], 98)
    unit = ""
    if found["unit"]:
        unit = found["unit_sign"] + str(1 + pseudonyms.number("unit", found["unit"], 98))
    return f"{number} {street} {found['suffix']}{unit}"


def _box(found: re.Match[str], pseudonyms: Pseudonyms) -> str:
    return found["sign"] + pseudonyms.digits("box", found["number"], 4)


def _city(found: re.Match[str], pseudonyms: Pseudonyms) -> str:
    return f"{pseudonyms.name(found['x']).title()}ton"


def _postcode(found: re.Match[str], pseudonyms: Pseudonyms) -> str:
    text = found["x"]
    numbers = iter("00" + pseudonyms.digits("postcode", text, 12))
    # Neither a code of five digits with 000 in front nor one with two Z is given to any place.
    if text[0].isdigit():
        return re.sub(r"\d", lambda _: next(numbers), text)
    letters = iter("ZZXXXX")
    return re.sub(r"[A-Za-z]", lambda _: next(letters), re.sub(r"\d", lambda _: next(numbers), text))


_ACCOUNT_OF = r"(?:snap(?:chat)?|insta(?:gram)?|ig|kik|discord|skype|telegram|steam|psn|gamertag|twitter|tumblr|tiktok)"

CONTACT_RULES: tuple[Rule, ...] = (
    rule("e-mail", r"(?<![\w.+-])(?P<x>[\w.+-]*\w[+-]?@\w[\w-]*(?:\.[\w-]+)*\.[a-z]{2,})(?!\w)", _email),
    rule("e-mail", r"(?<![\w.+-])(?P<x>[\w.+-]+\s?@\s?\w[\w-]*(?:\.[\w-]+)*\.(?:com|org|net|edu|de|uk))\b", _email),
    rule(
        "e-mail",
        r"(?<![\w.+-])(?P<x>[\w.+-]+\s?(?:\[at\]|\(at\)|\{at\}|\sat\s|@)\s?[\w-]+\s?(?:\[dot\]|\(dot\)|\{dot\}|\sdot\s)\s?"
        r"(?:com|org|net|edu|de|uk|co))\b",
        _email,
    ),
    rule("url", r"(?<!\w)(?P<x>(?:https?://|www\.)[^\s<>\"'“”\])}]*[^\s<>\"'“”\])}.,;:!?*])", _link),
    rule(
        "url",
        rf"(?<![\w@./-])(?P<x>(?:[a-z0-9][a-z0-9-]*\.)+(?:{_DOMAINS}(?:/[^\s<>\"'\])]*[^\s<>\"'\]).,;:!?])?"
        rf"|{_SHORT_DOMAINS}/[^\s<>\"'\])]*[^\s<>\"'\]).,;:!?]))(?![\w@-])",
        _link,
    ),
    rule("handle", r"(?<![\w/.])/?(?:u|user)/(?P<x>[a-z0-9_-]{2,30})(?![\w/])", _handle),
    rule("subreddit", r"(?<![\w/.])/?r/(?P<x>[a-z0-9_]{2,30})(?!\w)", _group),
    rule("handle", r"(?<![\w@./])@(?P<x>[^\W\d]\w*(?:[.-]\w+)*|\d+[^\W\d]\w*)(?!@)", _handle),
    rule(
        "handle",
        rf"\b{_ACCOUNT_OF}(?:\s+(?:name|handle|user(?:name)?|tag|account|id))?\s*(?:\bis\b|:|-|=|@|,)\s*"
        r"(?P<x>\w[\w.-]{1,30}\w(?:#\d{4})?)",
        _account,
    ),
    rule("handle", r"(?<![\w#])(?P<x>[a-z]\w{1,30}#\d{4})(?!\w)", _account),
    rule("phone", r"(?<![\w.+/-])(?P<x>(?:\+?1[\s.-]?)?(?:\([2-9]\d{2}\)|[2-9]\d{2})"
         r"[\s.-]?\d{3}[\s.-]?\d{4})(?![\w-])",
         _phone),
    rule("phone", r"(?<![\w+])(?P<x>\+\d{1,3}(?:[\s.-]?\(?\d{1,5}\)?){2,6})(?!\w)", _phone),
    rule("phone", r"(?<![\w.+/-])(?P<x>\(?0\d{2,5}\)?[\s./-]?\d{2,4}[\s.-]?\d{2,4}(?:[\s.-]?\d{2,4})?)"
         r"(?![\w-])", _phone),
    rule(
        "phone",
        r"\b(?:call|text|ring|phone|cell|mobile|number|tel|whatsapp)\b[^\d\n.!?]{0,25}(?P<x>\d{3}[\s.-]\d{4})(?![\w-])",
        _phone,
    ),
    rule(
        "address",
        r"(?<![\w$.,:/-])(?P<x>(?P<house>\d{1,5}[a-d]?),?\s+(?P<words>(?:(?:[nsew]\.?|north|south|east|west)\s+)?"
        rf"(?:\d{{1,3}}(?:st|nd|rd|th)|[^\W\d_][\w'’-]*)(?:\s+[^\W\d_][\w'’-]*){{0,2}}?)\s+(?P<suffix>{_STREETS})\b\.?"
        r"(?P<unit_sign>,?\s*(?:apt|apartment|unit|suite|ste|flat|#)\.?\s*#?)?(?P<unit>(?(unit_sign)\w{1,5}))?)(?!\w)",
        _street,
    ),
    rule("address", r"\b(?P<x>(?P<sign>p\.?\s?o\.?\s*box\s*#?\s*)(?P<number>\d{1,6}))\b", _box),
    rule("address", rf"(?-i:\b(?P<x>[A-Z][a-z]+(?:[ ][A-Z][a-z]+){{0,2}}),?\s+(?:{_STATES})\s+\d{{5}}\b)", _city),
    rule("postcode", rf"(?-i:\b(?:{_STATES}),?\s+(?P<x>\d{{5}}(?:-\d{{4}})?)\b)", _postcode),
    rule("postcode", r"\b(?:zip|postal|post)\s*-?\s*(?:code)?\s*(?:is|was|:|#)?\s*(?P<x>\d{5}(?:-\d{4})?)\b",
         _postcode),
    rule("postcode", r"(?-i:(?<!\w)(?P<x>[A-Z]{1,2}\d[A-Z\d]?\s\d[A-Z]{2})(?!\w))", _postcode),
    rule("postcode", r"(?<!\w)(?P<x>[a-z]\d[a-z][\s-]?\d[a-z]\d)(?!\w)", _postcode),
)  # fmt: skip
