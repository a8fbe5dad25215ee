"""From a secret and what was found to what stands in its place: the same for the same, and nothing without the key."""

import hashlib
import hmac
import unicodedata
from dataclasses import dataclass
from typing import Literal

from mentallama_jax.imhi.disguise.disguise_key import DisguiseKey

Scope = Literal["post", "data"]
"""Where the same name gets the same pseudonym: within a post, or in all data that one key disguises."""

_FIRST = ("Al", "Be", "Ca", "Da", "El", "Fe", "Ga", "Ha", "Il", "Jo", "Ka", "Le", "Mi", "Ne", "Or", "Pe", "Ro", "Sa",
          "Ti", "Va")  # fmt: skip
_MIDDLE = ("ba", "de", "li", "mo", "ra", "se", "ti", "vo", "ne", "lu", "ka", "pi")
_LAST = ("ra", "n", "do", "la", "s", "ri", "th", "na", "vin", "mar", "lo", "x")
_MOST_WEEKS = 8
_MOST_YEARS = 2
_CHILD, _ADULT, _OLDEST = 13, 18, 120


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """What stands for the identifiers of one post.

    Attributes:
        key: the secret.
        post: what all texts about the post share, such as the id of its original text.
        scope: see `Scope`. Shifts of ages and dates are always those of the post.
    """

    key: DisguiseKey
    post: str
    scope: Scope = "post"

    def number(self, kind: str, value: str, limit: int) -> int:
        """A number from 0 to `limit` - 1 that the key gives to a value, whatever its case and width."""
        return self._keyed(self.post if self.scope == "post" else "", kind, folded(value)) % limit

    def of_post(self, kind: str, limit: int) -> int:
        """A number from 0 to `limit` - 1 that the key gives to the post."""
        return self._keyed(self.post, kind, "") % limit

    def name(self, value: str) -> str:
        """A made-up given name, written as `value` is: capitals or none."""
        for attempt in range(8):
            at = self.number(f"name{attempt or ''}", value, len(_FIRST) * len(_MIDDLE) * len(_LAST))
            at, last = divmod(at, len(_LAST))
            first, middle = divmod(at, len(_MIDDLE))
            made = _FIRST[first] + _MIDDLE[middle] + _LAST[last]
            if folded(made) != folded(value):
                break
        if value.islower():
            return made.lower()
        return made.upper() if value.isupper() and len(value) > 1 else made

    def handle(self, value: str) -> str:
        """A made-up name of an account, without `@` or `u/`."""
        return f"{self.name(value).lower()}{self.number('account', value, 90) + 10}"

    def digits(self, kind: str, value: str, count: int) -> str:
        """`count` digits."""
        return str(self.number(kind, value, 10**count)).zfill(count)

    def age(self, years: int) -> int:
        """An age that differs by one or two years, the same difference for all ages of the post.

        A child stays under 13, a minor under 18, an adult at 18 or more.
        """
        lowest, highest = next(
            (low, high)
            for low, high in ((0, _CHILD - 1), (_CHILD, _ADULT - 1), (_ADULT, max(_OLDEST, years)))
            if low <= years <= high
        )
        shift = self.years()
        for moved in (years + shift, years - shift, years + shift // abs(shift), years - shift // abs(shift)):
            if lowest <= moved <= highest:
                return moved
        return years

    def years(self) -> int:
        """How many years ages are moved: -2, -1, 1 or 2."""
        return (-2, -1, 1, 2)[self.of_post("years", 2 * _MOST_YEARS)]

    def weeks(self) -> int:
        """How many weeks dates are moved: 1 to 8, back or on, so that the days of the week stay right."""
        at = self.of_post("weeks", 2 * _MOST_WEEKS)
        return at + 1 if at < _MOST_WEEKS else _MOST_WEEKS - 1 - at

    def row_id(self, value: str) -> str:
        """Twelve hexadecimal digits for the name of a row, in all data that one key disguises."""
        return f"{self._keyed('', 'row', value) >> 16:048x}"[:12]

    def _keyed(self, post: str, kind: str, value: str) -> int:
        message = "\0".join((post, kind, value)).encode("utf-8", "surrogatepass")
        return int.from_bytes(hmac.digest(self.key.secret, message, hashlib.sha256)[:26], "big")


def folded(value: str) -> str:
    """A value without regard to case, width and outer space."""
    return unicodedata.normalize("NFKC", value).casefold().strip()
