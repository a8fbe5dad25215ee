"""Ages, dates and the times that stand beside dates: what a rule finds, and what replaces it."""

import re
from datetime import date, timedelta

from mentallama_jax.imhi.disguise.identifier_rules import Rule, rule
from mentallama_jax.imhi.disguise.pseudonyms import Pseudonyms

_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
           "november", "december")  # fmt: skip
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)"
)
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_LEAP_YEAR, _PLAIN_YEAR = 2000, 2001
_ONES = ("", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS = {word: number for number, word in enumerate(_TEENS, start=10)} | {
    f"{ten} {one}".strip(): 20 + 10 * tens + ones
    for tens, ten in enumerate(_TENS)
    for ones, one in enumerate(_ONES)
}  # fmt: skip
_SPELLED = {number: word.replace(" ", "-") for word, number in _WORDS.items()}
_AGE = r"(?P<x>(?P<article>\ban?\s+)?(?<![\d.,/$#:-])(?P<age>[1-9]?\d|1[01]\d)(?![\d%]|[.,:/]\d))"
_AGE_BARE = r"(?P<x>(?P<article>(?!))?(?P<age>[1-9]\d))"
_AGE_WORDS = (
    rf"(?P<x>(?P<article>\ban?\s+)?\b(?P<age>(?:{'|'.join(_TENS)})(?:[\s-](?:{'|'.join(_ONES[1:])}))?"
    rf"|{'|'.join(_TEENS)})\b)"
)
_SEX = r"(?:m|f|nb|male|female|mtf|ftm|trans\s?\w*|non-?binary)"
_NO_AGE_UNITS = (
    r"(?!\s*-?\s*(?:min(?:ute)?s?|hours?|hrs?|days?|weeks?|months?|mos?|years?(?!\s*-?\s*old)|yrs?(?!\s*-?\s*old)|lbs?"
    r"|pounds?|kgs?|kilos?|miles?|percent|feet|ft|foot|inch(?:es)?|cm|grand|k|st|nd|rd|th|bucks|dollars|of|out|times?"
    r"|people|episodes?|pages?|am|pm|a\.m|p\.m|more|other|different|stone|points?|classes|jobs?|kids|siblings|on|s"
    r"|credits?|calories|steps|mg|something|seconds?|secs?|and\s+a\s+half|or|to|grams|semesters?|blocks?)\b|['\"’”\-–]\s*\d|\s*\$|['’])"
)


def _age(found: re.Match[str], pseudonyms: Pseudonyms) -> str | None:
    spelled = found["age"].lower()
    years = int(spelled) if spelled.isdecimal() else _WORDS[re.sub(r"[\s-]+", " ", spelled)]
    moved = pseudonyms.age(years)
    text = str(moved) if spelled.isdecimal() else _SPELLED.get(moved, str(moved))
    article = ""
    if found["article"]:
        first = "An" if found["article"][0] == "A" else "an"
        vowel = moved in (8, 11, 18) or 80 <= moved <= 89
        article = (first if vowel else first[0]) + " "
    return article + text


def _birthday(found: re.Match[str], pseudonyms: Pseudonyms) -> str | None:
    moved = pseudonyms.age(int(found["age"]))
    return f"{moved}{_ending(moved)}"


def _birth_year(found: re.Match[str], pseudonyms: Pseudonyms) -> str | None:
    text = found["x"]
    moved = int(text[-2:]) - pseudonyms.years()
    return f"{int(text) - pseudonyms.years()}" if len(text) == 4 else f"{moved % 100:02}"


def _ending(number: int) -> str:
    if 10 <= number % 100 <= 20:
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def _moved(year: int, month: int, day: int, pseudonyms: Pseudonyms) -> date | None:
    try:
        return date(year, month, day) + timedelta(weeks=pseudonyms.weeks())
    except (ValueError, OverflowError):
        return None


def _month_number(word: str) -> int:
    return next(number for number, name in enumerate(_MONTHS, start=1) if name.startswith(word.lower()[:3]))


def _month_like(word: str, month: int) -> str:
    name = _MONTHS[month - 1]
    short = name[:3] if len(word) <= 4 and word.lower() not in _MONTHS else name
    if word.islower():
        return short
    return short.upper() if word.isupper() else short.title()


def _date_in_words(found: re.Match[str], pseudonyms: Pseudonyms) -> str | None:
    month, day = _month_number(found["month"]), int(found["day"])
    leap = (month, day) == (2, 29)
    year = int(found["year"]) if found["year"] else (_LEAP_YEAR if leap else _PLAIN_YEAR)
    moved = _moved(year, month, day, pseudonyms)
    if moved is None:
        return None
    text, start = found["x"], found.start("x")
    parts = {
        "month": _month_like(found["month"], moved.month),
        "day": str(moved.day).zfill(len(found["day"]) if found["day"].startswith("0") else 1),
        "ending": _ending(moved.day) if found["ending"] else "",
        "year": str(moved.year) if found["year"] else "",
    }
    spans = sorted(
        (found.start(name) - start, found.end(name) - start, new) for name, new in parts.items() if found[name]
    )
    for at, end, new in reversed(spans):
        text = text[:at] + new + text[end:]
    return text


def _month_and_year(found: re.Match[str], pseudonyms: Pseudonyms) -> str | None:
    months = int(found["year"]) * 12 + _month_number(found["month"]) - 1
    shift = pseudonyms.weeks()
    year, month = divmod(months + (1 if abs(shift) <= 4 else 2) * (1 if shift > 0 else -1), 12)
    return f"{_month_like(found['month'], month + 1)}{found['between']}{year}"


def _iso(found: re.Match[str], pseudonyms: Pseudonyms) -> str | None:
    moved = _moved(int(found["year"]), int(found["month"]), int(found["day"]), pseudonyms)
    if moved is None:
        return None
    sign = found["sign"]
    return f"{moved.year:04}{sign}{moved.month:02}{sign}{moved.day:02}"


def _numeric(found: re.Match[str], pseudonyms: Pseudonyms) -> str | None:
    first, second, sign = int(found["first"]), int(found["second"]), found["sign"]
    year = int(found["year"])
    full = year if len(found["year"]) == 4 else 2000 + year if year < 70 else 1900 + year
    day_first = first > 12 or (sign == "." and second <= 12)
    moved = _moved(full, second if day_first else first, first if day_first else second, pseudonyms)
    if moved is None:
        return None
    pair = (moved.day, moved.month) if day_first else (moved.month, moved.day)
    shown = str(moved.year) if len(found["year"]) == 4 else f"{moved.year % 100:02}"
    padded = [f"{number:0{len(found[name])}}" if found[name].startswith("0") else str(number)
              for number, name in zip(pair, ("first", "second"), strict=True)]  # fmt: skip
    return sign.join((*padded, shown))


def _month_and_day(found: re.Match[str], pseudonyms: Pseudonyms) -> str | None:
    first, second = int(found["first"]), int(found["second"])
    if (first, second) in ((24, 7), (9, 11), (7, 7)):
        return None
    day_first = first > 12
    moved = _moved(_LEAP_YEAR, second if day_first else first, first if day_first else second, pseudonyms)
    if moved is None:
        return None
    pair = (moved.day, moved.month) if day_first else (moved.month, moved.day)
    return f"{pair[0]}/{pair[1]}"


def _time(found: re.Match[str], pseudonyms: Pseudonyms) -> str | None:
    hour, half = int(found["hour"]), found["half"]
    minute = int(found["minute"] or 0)
    if not (1 <= hour <= 12 if half else hour <= 23 and found["minute"]):
        return None
    quarter = pseudonyms.of_post("minutes", 8)
    shift = 15 * (quarter + 1 if quarter < 4 else 3 - quarter) if found["minute"] else 60 * (1 if quarter < 4 else -1)
    afternoon = bool(half) and half.lower().startswith("p")
    of_day = ((hour % 12 + 12 * afternoon if half else hour) * 60 + minute + shift) % (24 * 60)
    hour, minute = divmod(of_day, 60)
    if not half:
        return f"{hour:02}:{minute:02}"
    shown_half = ("p" if hour >= 12 else "a") + half[1:].lower()
    shown_half = shown_half.upper() if half[0].isupper() else shown_half
    return f"{(hour - 1) % 12 + 1}" + (f":{minute:02}" if found["minute"] else "") + found["space"] + shown_half


_TIME = r"(?P<x>(?P<hour>[01]?\d|2[0-3])(?::(?P<minute>[0-5]\d))?(?P<space>\s?)(?P<half>[ap]\.?m\b\.?)?)(?![\w:])"
BESIDE_DATES = rule("time", rf"(?<![\w:.,/$-]){_TIME}", _time)
"""Applied to the words beside a date alone."""

_YEAR_BEHIND = r"(?:\.?,?\s+(?P<year>(?:19|20)\d\d)\b)?"
_NOT_COUNTED = (
    r"(?!\w|[.,:/-]\d|\s+(?:years?|days?|weeks?|months?|hours?|people|minutes?|of\s+(?:us|them|my|the)|times)\b)"
)

DATE_RULES: tuple[Rule, ...] = (
    rule("date", r"(?<![\w-])(?P<x>(?P<year>(?:19|20)\d\d)(?P<sign>[-/.])(?P<month>0[1-9]|1[0-2])(?P=sign)"
         r"(?P<day>0[1-9]|[12]\d|3[01]))(?=T\d|(?![\w-]))", _iso),
    rule("time", r"(?<=\d\dT)(?P<x>(?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d)(?P<space>)(?P<half>(?!))?)"
         r"(?=:\d\d|Z|\b)", _time),
    rule("date", rf"\b(?P<x>(?P<month>{_MONTH})\b\.?\s+(?:the\s+)?(?P<day>{_DAY})(?P<ending>st|nd|rd|th)?"
         rf"{_YEAR_BEHIND}){_NOT_COUNTED}", _date_in_words),
    rule("date", rf"(?<![\w.:/$-])(?P<x>(?P<day>{_DAY})(?P<ending>st|nd|rd|th)?\.?\s+(?:of\s+)?(?P<month>{_MONTH})\b"
         rf"{_YEAR_BEHIND})", _date_in_words),
    rule("date", rf"(?<![\w-])(?P<x>(?P<day>{_DAY})(?P<ending>(?!))?-(?P<month>{_MONTH})-"
         r"(?P<year>(?:19|20)\d\d))(?![\w-])", _date_in_words),
    rule("date", rf"\b(?P<x>(?P<month>{_MONTH})(?P<between>\.?,?\s+(?:of\s+)?)(?P<year>(?:19|20)\d\d))\b",
         _month_and_year),
    rule("date", r"(?<![\w./-])(?P<x>(?P<first>0?[1-9]|[12]\d|3[01])(?P<sign>[./-])(?P<second>0?[1-9]|[12]\d|3[01])"
         r"(?P=sign)(?P<year>(?:19|20)\d\d|\d\d))(?![\w/-]|\.\d)", _numeric),
    rule("date", r"\b(?:on|since|until|till|by|from|around|dated?|before|after)\s+"
         r"(?P<x>(?P<first>0?[1-9]|[12]\d|3[01])/(?P<second>0?[1-9]|[12]\d|3[01]))(?![\w/]|\.\d|\s*(?:of|cup|teaspoon))",
         _month_and_day),
)  # fmt: skip

_IS = (
    r"(?:\b(?:i['’]?m|i\s+am|i\s+was|i['’]?ll\s+be|i\s+will\s+be|i['’]?ve\s+(?:just\s+)?turned|(?:s?he|they|who)['’]?(?:s|re)|"
    r"(?:s?he|they|who|sister|brother|son|daughter|mom|mum|mother|dad|father|boyfriend|girlfriend|husband|wife|partner"
    r"|friend|kid|child)\s+(?:is|was|are|were|turns?|turned)|turn(?:s|ed|ing)?|barely|be|being|since\s+i\s+was)\s+"
    r"(?:(?:only|now|just|almost|about|nearly|currently|like|turning|still|around|maybe|already|a|an)\s+){0,2})"
)

AGE_RULES: tuple[Rule, ...] = (
    rule("age", rf"{_AGE}(?=\s*-?\s*(?:years?|yrs?|yr)[\s-]*olds?\b)", _age),
    rule("age", rf"{_AGE_WORDS}(?=\s*-?\s*(?:years?|yrs?|yr)[\s-]*olds?\b)", _age),
    rule("age", rf"{_AGE}(?=\s*-?\s*(?:y\s?/\s?o|yo|y\.o)\b)", _age),
    rule("age", rf"\bage[ds]?\s*(?:of\s+|is\s+|was\s+|:\s*|=\s*|[-–]\s*)?{_AGE}(?!\s*[-–]\s*\d)", _age),
    rule("age", rf"\bage[ds]?\s+(?:of\s+)?{_AGE_WORDS}", _age),
    rule("age", rf"[(\[]\s*{_AGE}(?=\s*[-/ ,|]*\s*{_SEX}\s*[)\],/])", _age),
    rule("age", rf"[(\[]\s*{_SEX}\s*[-/ ,|]*\s*{_AGE_BARE}(?=\s*[)\],])", _age),
    rule("age", rf"\b(?:i|me|myself|he|she|my\s+\w+|girlfriend|boyfriend|husband|wife|partner|mom|dad|sister|brother|gf"
         rf"|bf)\s*[(\[]\s*{_AGE}(?=\s*[)\]])", _age),
    rule("age", r"(?-i:(?<![\w.,$#-])(?P<x>(?P<article>(?!))?(?P<age>[1-9]\d))(?=\s?[/-]?[MF]\b(?!['’])))", _age),
    rule("age", r"(?<![\w.,$#/-])(?P<x>(?P<article>(?!))?(?P<age>[1-9]\d))(?=\s?/\s?[mf]\b(?!['’]))", _age),
    rule("age", r"(?<![\w-])[mf]\s?/\s?(?P<x>(?P<article>(?!))?(?P<age>[1-9]\d))(?![\w.:-]\d|\w)", _age),
    rule("age", r"(?-i:(?<![\w-])[MF][/ -]?(?P<x>(?P<article>(?!))?(?P<age>[1-9]\d))(?![\w.:-]\d|\w))", _age),
    rule("age", rf"{_AGE}(?=,?\s+(?:male|female|(?:year\s+)?old\s+(?:man|woman|guy|girl))\b)", _age),
    rule("age", rf"\b(?:male|female)\s*,?\s+{_AGE}(?![\w])" + _NO_AGE_UNITS, _age),
    rule("age", rf"{_IS}{_AGE}{_NO_AGE_UNITS}(?!\w)", _age),
    rule("age", rf"(?-i:\b[Ii]m\s+){_AGE}{_NO_AGE_UNITS}(?!\w)", _age),
    rule("age", rf"{_IS}{_AGE_WORDS}(?=\s*(?:[.,;!?)]|and\b|but\b|now\b|when\b|$))", _age),
    rule("age", r"\b(?P<x>(?P<age>[1-9]?\d)(?:st|nd|rd|th))(?=\s+(?:birthday|bday|b-day)\b)", _birthday),
    rule("age", r"\b(?:born\s+(?:back\s+)?in|year\s+of\s+birth\s*(?:is|:)?|birth\s*year\s*(?:is|:)?|b\.)\s*'?"
         r"(?P<x>(?:19|20)\d\d|(?<=')\d\d)\b", _birth_year),
)  # fmt: skip
