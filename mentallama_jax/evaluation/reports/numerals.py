"""How figures are written in a report; `z` in a format lets no minus stand before a zero."""

from collections.abc import Sequence
from typing import Any

NONE = "–"
"""What stands where there is no figure."""


def percent(value: Any) -> str:
    """A fraction of 1 in %, with one decimal."""
    return NONE if value is None else f"{100 * value:.1f}"


def points(value: Any) -> str:
    """A difference of two fractions in points, with its sign."""
    return NONE if value is None else _minus(f"{100 * value:+z.1f}")


def decimal(value: Any, places: int = 2) -> str:
    """A number with a fixed count of decimals."""
    return NONE if value is None else _minus(f"{value:z.{places}f}")


def count(value: Any) -> str:
    """A whole number, thousands apart."""
    return NONE if value is None else f"{value:,}"


def percent_range(ends: Sequence[float] | None, mark: str = "") -> str:
    """The ends of an interval of a share in %."""
    return NONE if ends is None else f"{percent(ends[0])}–{percent(ends[1])}{mark}"


def points_range(ends: Sequence[float] | None) -> str:
    """The ends of an interval of a difference, in points."""
    return NONE if ends is None else f"{points(ends[0])} to {points(ends[1])}"


def decimal_range(ends: Sequence[float] | None, places: int = 2) -> str:
    """The ends of an interval with a fixed count of decimals."""
    return NONE if ends is None else f"{decimal(ends[0], places)} to {decimal(ends[1], places)}"


def readable(value: Any) -> str:
    """Any JSON value as words and figures; numbers keep four significant digits."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return _minus(f"{value:.4g}") if abs(value) < 1e4 else count(round(value))
    if is_range(value):
        return f"{readable(value[0])} to {readable(value[1])}"
    if isinstance(value, list):
        return ", ".join(readable(each) for each in value) or NONE
    if isinstance(value, dict):
        return "; ".join(f"{words(key)}: {readable(each)}" for key, each in value.items()) or NONE
    return str(value)


def is_range(value: Any) -> bool:
    """Whether a JSON value is the two ends of an interval."""
    return isinstance(value, list) and len(value) == 2 and all(type(end) in (int, float) for end in value)


def words(key: str) -> str:
    """A key of JSON as words."""
    return key.replace("_", " ").replace(" f1", " F1")


def _minus(text: str) -> str:
    return text.replace("-", "−", 1) if text.startswith("-") else text
