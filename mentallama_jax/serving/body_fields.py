"""Fields of a JSON body, read strictly: wrong types and values are refused by the field's name, never by its value."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mentallama_jax.serving.api_errors import refuse

_A_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)


class BodyFields:
    """The fields of an object. Each is taken by name; `finish` refuses those that are left. Null counts as absent."""

    def __init__(self, values: Any, where: str = "") -> None:
        """Begin with all fields.

        Args:
            values: the parsed JSON.
            where: the field that the object is the value of; "" for the body.

        Raises:
            ApiError: not an object.
        """
        self._where = f"{where}." if where else ""
        if not isinstance(values, dict):
            refuse(f"{where or 'the body'} must be a JSON object", param=where or None)
        self._left = {name: value for name, value in values.items() if value is not None}

    def param(self, name: str) -> str:
        """A field's whole name."""
        return f"{self._where}{name}"

    def take(self, name: str) -> Any:
        """The value of a field, whatever it is; None where it is absent."""
        return self._left.pop(name, None)

    def text(self, name: str) -> str | None:
        """A text."""
        value = self.take(name)
        if not isinstance(value, str | None):
            refuse(f"{self.param(name)} must be a string", param=self.param(name))
        return value

    def required_text(self, name: str) -> str:
        """A text that must be there."""
        value = self.text(name)
        if value is None:
            refuse(f"{self.param(name)} is missing", param=self.param(name))
        return value

    def flag(self, name: str) -> bool:
        """True or false; false where absent."""
        value = self.take(name)
        if not isinstance(value, bool | None):
            refuse(f"{self.param(name)} must be true or false", param=self.param(name))
        return bool(value)

    def integer(self, name: str, low: int, high: int) -> int | None:
        """A whole number within bounds."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            refuse(f"{self.param(name)} must be a whole number from {low} to {high}", param=self.param(name))
        return value

    def number(self, name: str, low: float, high: float) -> float | None:
        """A number within bounds."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            refuse(f"{self.param(name)} must be a number from {low:g} to {high:g}", param=self.param(name))
        return float(value)

    def choice(self, name: str, choices: Sequence[str]) -> str | None:
        """One of some words."""
        value = self.take(name)
        if value is not None and value not in choices:
            refuse(f"{self.param(name)} must be one of: {', '.join(choices)}", param=self.param(name))
        return None if value is None else str(value)

    def only(self, values: Mapping[str, Sequence[Any]], why: str) -> None:
        """Refuse fields whose value is none of those given, which change nothing here.

        Args:
            values: name -> the values that are as good as the field's absence.
            why: behind the field's name.
        """
        for name, harmless in values.items():
            value = self.take(name)
            if value is not None and not any(value == one and type(value) is type(one) for one in harmless):
                refuse(f"{self.param(name)} {why}", param=self.param(name), code="unsupported_parameter")

    def ignore(self, names: Sequence[str]) -> None:
        """Drop fields that change no answer."""
        for name in names:
            self.take(name)

    def finish(self) -> None:
        """Refuse what was not taken.

        Raises:
            ApiError: names the field, where it looks like the name of one.
        """
        for name in self._left:
            known = self.param(name) if _A_NAME.fullmatch(name) else None
            said = f"the field {known}" if known else f"a field of {self._where.rstrip('.') or 'the body'}"
            refuse(f"{said} is not known to this server; leave it out", param=known, code="unknown_parameter")
