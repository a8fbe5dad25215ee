"""Crisis lines by country, from one file that whoever runs a server can replace by a checked one.

The shipped file holds well-known public numbers that nobody has called for this project. Each line says where its
number is published, when it was noted, and when it was checked, which is for the operator of a server to do.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.files import regular_file
from mentallama_jax.foreign import shown_cell
from mentallama_jax.storage import AnyPath
from mentallama_jax.strict_yaml import parse_yaml

__all__ = ["CrisisLine", "CrisisLines", "LinesOfCountry", "read_crisis_lines"]

_SHIPPED = "crisis_lines.yaml"
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_NUMBER = re.compile(r"[0-9][0-9 -]{1,19}")
_COUNTRY = re.compile(r"[A-Z]{2}")
_LONGEST = 80


@dataclass(frozen=True, slots=True)
class CrisisLine:
    """Somebody to call, to text or to find on the web; "" where there is no such way.

    Attributes:
        name: of the service, as it calls itself.
        call: its telephone number.
        text: the number that text messages go to.
        web: its page, by https.
        hours: when it answers; "" where that varies.
        source: the page that publishes the number.
        noted: the day on which it was written down.
        checked: the day on which somebody checked it; "" where nobody did.
    """

    name: str
    call: str = ""
    text: str = ""
    web: str = ""
    hours: str = ""
    source: str = ""
    noted: str = ""
    checked: str = ""


@dataclass(frozen=True, slots=True)
class LinesOfCountry:
    """The lines of a country.

    Attributes:
        country: its name.
        emergency: the number to call in danger to life.
        lines: the best known first.
    """

    country: str
    emergency: str
    lines: tuple[CrisisLine, ...]


@dataclass(frozen=True, slots=True)
class CrisisLines:
    """All lines.

    Attributes:
        countries: code of the country (ISO 3166, two letters) -> its lines, by name.
        elsewhere: where lines of all other countries are found.
    """

    countries: Mapping[str, LinesOfCountry]
    elsewhere: CrisisLine

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        return {
            "countries": {code: asdict(lines) for code, lines in self.countries.items()},
            "elsewhere": asdict(self.elsewhere),
        }

    @property
    def unchecked(self) -> tuple[str, ...]:
        """Codes of the countries with a line that nobody has checked."""
        return tuple(code for code, own in self.countries.items() if not all(line.checked for line in own.lines))


def read_crisis_lines(path: AnyPath | None = None) -> CrisisLines:
    """The lines of a file in the form of `crisis_lines.yaml`.

    Args:
        path: the file; None takes the shipped one.

    Raises:
        UserError: no such file, or not of this form; the message names file and key.
    """
    if path is not None and not path.is_file():
        raise UserError(f"{path}: no such file of crisis lines")
    shipped = resources.files("mentallama_jax.serving").joinpath(_SHIPPED)
    content = shipped.read_bytes() if path is None else regular_file(path).read_bytes()
    place = _SHIPPED if path is None else str(path)
    table = _mapping(parse_yaml(content, place), place, {"countries", "elsewhere"})
    countries = _mapping(table["countries"], f"{place}: countries", None)
    found = {code: _country(code, value, f"{place}: {shown_cell(code)}") for code, value in countries.items()}
    in_order = sorted(found.items(), key=lambda item: item[1].country)
    return CrisisLines(dict(in_order), _line(table["elsewhere"], f"{place}: elsewhere"))


def _country(code: str, value: Any, place: str) -> LinesOfCountry:
    if not _COUNTRY.fullmatch(code):
        raise UserError(f"{place}: a country is two capital letters, as in ISO 3166")
    own = _mapping(value, place, {"country", "emergency", "lines"})
    if not isinstance(own["lines"], list) or not own["lines"]:
        raise UserError(f"{place}: lines: give a list of at least one line")
    lines = tuple(_line(each, f"{place}: line {number}") for number, each in enumerate(own["lines"], 1))
    return LinesOfCountry(_text(own, "country", place), _text(own, "emergency", place, _NUMBER), lines)


def _line(value: Any, place: str) -> CrisisLine:
    own = _mapping(value, place, None)
    unknown = sorted(set(own) - set(CrisisLine.__dataclass_fields__))
    if unknown:
        raise UserError(f"{place}: unknown key {shown_cell(unknown[0])}")
    dates = {key: _text(own, key, place, _DATE, may_lack=True) for key in ("noted", "checked")}
    numbers = {key: _text(own, key, place, _NUMBER, may_lack=True) for key in ("call", "text")}
    pages = {key: _text(own, key, place, may_lack=True) for key in ("web", "source")}
    for key, page in pages.items():
        if page and not page.startswith("https://"):
            raise UserError(f"{place}: {key}: a page begins with https://")
    if not (numbers["call"] or numbers["text"] or pages["web"]):
        raise UserError(f"{place}: a line has at least one of call, text and web")
    hours = _text(own, "hours", place, may_lack=True)
    return CrisisLine(name=_text(own, "name", place), hours=hours, **numbers, **pages, **dates)


def _mapping(value: Any, place: str, keys: set[str] | None) -> dict[str, Any]:
    if not isinstance(value, dict) or (keys is not None and set(value) != keys):
        raise UserError(
            f"{place}: give {'keys with values' if keys is None else 'the keys ' + ', '.join(sorted(keys))}"
        )
    return value


def _text(
    values: dict[str, Any], key: str, place: str, form: re.Pattern[str] | None = None, *, may_lack: bool = False
) -> str:
    value = values.get(key, "")
    if value == "" and may_lack:
        return ""
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST:
        raise UserError(f"{place}: {key}: give a text of 1 to {_LONGEST} characters, numbers and dates in quotes")
    if form is not None and not form.fullmatch(value):
        raise UserError(f"{place}: {key}: {shown_cell(value)} is no {'date' if form is _DATE else 'number'}")
    return value
